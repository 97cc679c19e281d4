// How many floating-point operations a plan takes, a multiplication with its addition as two.

import { dispatchesOf } from './plan.js';
import { dispatchSizes } from './sizes.js';

/** Of the kernels that take the time; what lies between them is below one in a hundred. */
const COUNTS = new Map([
  ['matmul', ({ rows, columns, inner }) => 2 * rows * columns * inner],
  ['conv2d', ({ rows, columns, channels_in: from, channels_out: to }, { KERNEL, UPSAMPLE }) =>
    2 * rows * columns * UPSAMPLE ** 2 * KERNEL ** 2 * from * to],
  ...['attention', 'attention_tiled', 'attention_wide'].map((shader) => [shader, countAttention]),
]);

function countAttention({ length, text, heads }, { HEAD_DIM }, batch) {
  return 4 * batch * heads * HEAD_DIM * length * (length + text);
}

/**
 * @param {import('./plan.js').Plan} plan @param {string} stage
 * @param {Map<string, number>} symbols of `symbolValues`
 * @param {Iterable<string>|null} [segments] all by default
 * @returns {number} operations
 */
export function stageFlops(plan, stage, symbols, segments = null) {
  const batch = symbols.get('B') ?? 1;
  let total = 0;
  for (const dispatch of dispatchesOf(plan, stage, segments)) {
    const count = COUNTS.get(dispatch.shader);
    if (!count) continue;
    const sizes = Object.fromEntries(dispatchSizes(dispatch, symbols));
    total += count(sizes, Object.fromEntries(dispatch.constants), batch);
  }
  return total;
}
