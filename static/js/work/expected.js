// Tensors that came from somebody else: exactly those that were expected, or nothing.
// Twin of `from_bytes` in queue/diffusion/tensors.py.

import { fromBytes, TensorError } from '../engine/safetensors.js';

const MOST_HEADER_BYTES = 4096;
const NUMBERS = { F32: Float32Array, U8: Uint8Array };

/**
 * @typedef {number|{most: number}} Axis how long it is, or from 0 to how long it may be
 * @typedef {{dtype: 'F32'|'U8', shape: Axis[]}} Form
 * @typedef {Record<string, Form>} Expected
 */

/** @param {Expected} expected @returns {number} how many bytes a file of these may have */
export const mostBytes = (expected) => Object.values(expected).reduce(
  (sum, { dtype, shape }) => sum + shape.reduce(
    (product, axis) => product * (axis.most ?? axis), NUMBERS[dtype].BYTES_PER_ELEMENT),
  MOST_HEADER_BYTES);

/**
 * The named tensors, exactly these, each of its type and shape, finite.
 * @param {Uint8Array} bytes @param {Expected} expected
 * @returns {Record<string, import('../engine/safetensors.js').Tensor>}
 * @throws {TensorError} for anything else, before parsing when there are more bytes than could be
 *   right
 */
export function expectedTensors(bytes, expected) {
  const most = mostBytes(expected);
  if (bytes.length > most) throw new TensorError(`${bytes.length} bytes, at most ${most} fit`);
  const tensors = fromBytes(bytes);
  const names = Object.keys(tensors).sort();
  const wanted = Object.keys(expected).sort();
  if (names.join('\n') !== wanted.join('\n')) {
    throw new TensorError(`it holds ${names.length} tensors, and not just ${wanted.join(', ')}`);
  }
  let size = 8 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  for (const name of names) {
    check(name, tensors[name], expected[name]);
    size += tensors[name].data.byteLength;
  }
  if (size !== bytes.length) throw new TensorError('it has bytes that belong to no tensor');
  return tensors;
}

function check(name, { shape, data }, form) {
  if (data.constructor !== NUMBERS[form.dtype]) throw new TensorError(`${name} is not ${form.dtype}`);
  const fits = shape.length === form.shape.length && form.shape.every(
    (axis, n) => (axis.most === undefined ? shape[n] === axis : shape[n] <= axis.most));
  if (!fits) throw new TensorError(`${name} has the shape [${shape.slice(0, 8)}]`);
  if (form.dtype === 'F32' && !data.every(Number.isFinite)) {
    throw new TensorError(`${name} holds a number that is not finite`);
  }
}
