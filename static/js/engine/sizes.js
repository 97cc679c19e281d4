// A plan at given sizes: every expression evaluated, every bound checked, all memory counted.
// The rules and bounds of queue/diffusion/plan/sizes.py.

import { PlanError } from './errors.js';
import { evaluate } from './expressions.js';
import { boundWeights, dispatchesOf, stageOf, TYPE_BYTES } from './plan.js';

const MAX_WORKGROUPS = 65535; // a dimension, in every WebGPU
const MAX_TENSOR_BYTES = 2 ** 34;
const ALIGNMENT = 16; // of buffers: a vec4f

/** @typedef {Map<string, number>} Symbols */

/**
 * The given symbols and those computed from them.
 * @param {import('./plan.js').Plan} plan
 * @param {Record<string, number>} given such as {B: 2, T: 12}
 * @returns {Symbols}
 * @throws {PlanError} for one out of range
 */
export function symbolValues(plan, given) {
  const values = new Map();
  for (const [name, value] of Object.entries(given)) {
    const symbol = plan.symbols.get(name);
    if (!symbol || symbol.value !== null) throw new PlanError(`${name} is no symbol to be given`);
    const { smallest, largest, multiple } = symbol;
    const inside = Number.isInteger(value) && value >= smallest && value <= largest;
    if (!inside || value % multiple) {
      throw new PlanError(
        `${name} is ${value}, not a multiple of ${multiple} in ${smallest}..${largest}`);
    }
    values.set(name, value);
  }
  for (const [name, { value }] of plan.symbols) {
    if (value === null) continue;
    const known = [...plan.symbols.keys()]
      .every((other) => values.has(other) || !value.includes(other));
    if (known) values.set(name, evaluate(value, values));
  }
  return values;
}

const TYPICAL_TOKENS = 20; // of a prompt

/**
 * The sizes of a picture as the model makes it unless asked otherwise: for estimates, and for what
 * is made ready before anybody asks.
 * @param {import('./plan.js').Plan} plan @param {object} about the manifest's
 * @returns {Record<string, number>} of the symbols to be given, each within its range
 */
export function typicalSizes(plan, about) {
  const wanted = {
    B: 2,
    T: TYPICAL_TOKENS,
    S: about.default_steps,
    H: about.default_height / about.vae_scale,
    W: about.default_width / about.vae_scale,
  };
  const given = [...plan.symbols].filter(([, { value }]) => value === null);
  return Object.fromEntries(given.map(([name, { smallest, largest, multiple }]) => {
    const inside = Math.min(Math.max(wanted[name] || 0, smallest), largest);
    return [name, Math.floor(inside / multiple) * multiple];
  }));
}

/**
 * @param {import('./plan.js').Stage} stage @param {string} name @param {Symbols} symbols
 * @returns {number[]}
 * @throws {PlanError}
 */
export function tensorShape(stage, name, symbols) {
  const tensor = stage.tensors.get(name);
  if (!tensor) throw new PlanError(`there is no tensor ${name} here`);
  return tensor.shape.map((axis) => evaluate(axis, symbols));
}

/**
 * Bytes that a binding of the tensor spans: never none, and whole vec4s.
 * @param {import('./plan.js').Stage} stage @param {string} name @param {Symbols} symbols
 * @returns {number}
 * @throws {PlanError} over 16 GiB
 */
export function tensorBytes(stage, name, symbols) {
  const shape = tensorShape(stage, name, symbols);
  const count = shape.reduce((all, side) => all * side, 1);
  const size = Math.max(count, 1) * TYPE_BYTES.get(stage.tensors.get(name).type);
  if (size > MAX_TENSOR_BYTES) throw new PlanError(`${name} of shape ${shape} is too large`);
  return aligned(size);
}

/** `size` bytes rounded up to whole vec4s. */
export const aligned = (size) => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

/**
 * The size of each pool buffer: that of the largest tensor that ever lies in it.
 * @param {import('./plan.js').Stage} stage @param {Symbols} symbols
 * @returns {Map<number, number>} bytes by buffer number
 * @throws {PlanError}
 */
export function poolBytes(stage, symbols) {
  const sizes = new Map();
  for (const [name, { buffer }] of stage.tensors) {
    if (buffer === null) continue;
    sizes.set(buffer, Math.max(sizes.get(buffer) ?? 0, tensorBytes(stage, name, symbols)));
  }
  return sizes;
}

/**
 * The values of a shader's sizes, in the order of its fields.
 * @param {import('./plan.js').Dispatch} dispatch @param {Symbols} symbols
 * @returns {Map<string, number>} each a u32
 * @throws {PlanError} for one that is not
 */
export function dispatchSizes(dispatch, symbols) {
  const names = new Map([...symbols, ...wholeConstants(dispatch)]);
  const values = new Map();
  for (const [name, size] of dispatch.sizes) {
    const value = evaluate(size, names);
    if (value >= 2 ** 32) throw new PlanError(`${dispatch.shader}: ${name} is ${value}`);
    values.set(name, value);
  }
  return values;
}

/**
 * @param {import('./plan.js').Dispatch} dispatch
 * @param {Map<string, number>} sizes of `dispatchSizes`
 * @param {Symbols} symbols
 * @returns {number[]} workgroups in x, y, z
 * @throws {PlanError} above 65,535 in a dimension
 */
export function dispatchWorkgroups(dispatch, sizes, symbols) {
  const names = new Map([...symbols, ...wholeConstants(dispatch), ...sizes]);
  const counts = dispatch.workgroups.map((count) => evaluate(count, names));
  if (Math.max(...counts) > MAX_WORKGROUPS) {
    throw new PlanError(`${dispatch.shader}: ${counts.join(' x ')} workgroups`);
  }
  return counts;
}

/**
 * What a stage takes on a device, in bytes; exactly what is allocated.
 * @param {import('./plan.js').Plan} plan @param {string} stageName @param {Symbols} symbols
 * @param {Iterable<string>|null} [segments] whose weights are loaded; all by default
 * @returns {{weights: number, pool: number, shared: number, binding: number, total: number}}
 *   pool: inner tensors; shared: inputs, outputs and states; binding: the largest single one
 * @throws {PlanError}
 */
export function stageMemory(plan, stageName, symbols, segments = null) {
  const stage = stageOf(plan, stageName);
  const weights = boundWeights(plan, dispatchesOf(plan, stageName, segments))
    .map((name) => aligned(plan.weights.get(name).bytes));
  const inner = [];
  const shared = [];
  for (const [name, { buffer }] of stage.tensors) {
    (buffer === null ? shared : inner).push(tensorBytes(stage, name, symbols));
  }
  const result = {
    weights: sum(weights),
    pool: sum(poolBytes(stage, symbols).values()),
    shared: sum(shared),
    binding: [...weights, ...inner, ...shared].reduce((most, size) => Math.max(most, size), 0),
  };
  return { ...result, total: result.weights + result.pool + result.shared };
}

const sum = (numbers) => [...numbers].reduce((all, number) => all + number, 0);

/** Constants that expressions may name. */
function wholeConstants({ constants }) {
  return [...constants].filter(([, value]) => typeof value === 'number' && value >= 0);
}
