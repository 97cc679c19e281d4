// Tensors as they cross the network and the disk: safetensors.
//
// A file is the length of its header (u64), the header (JSON: type, shape and place of each tensor,
// and texts about them), and the numbers. Twin of queue/diffusion/tensors.py.

import { EngineError } from './errors.js';

const LONGEST_HEADER = 16 * 2 ** 20;
const METADATA = '__metadata__';
const TYPES = new Map([
  ['F32', Float32Array], ['F16', Uint16Array], ['U32', Uint32Array], ['U8', Uint8Array],
]);

/**
 * @typedef {object} Tensor
 * @property {number[]} shape
 * @property {Float32Array|Uint16Array|Uint32Array|Uint8Array|Uint8ClampedArray} data row after row;
 *   u16 are the bits of f16
 */

/** Bytes that are no tensors. */
export class TensorError extends EngineError {
  name = 'TensorError';

  /** @param {string} why */
  constructor(why) {
    super('bad-tensors', `This is no file of tensors: ${why}.`);
  }
}

/**
 * @param {Record<string, Tensor>} tensors
 * @param {Record<string, string>} [metadata]
 * @returns {Uint8Array} one safetensors file
 */
export function toBytes(tensors, metadata = {}) {
  const header = Object.keys(metadata).length ? { [METADATA]: metadata } : {};
  let end = 0;
  // Floats first, so that each lies at a multiple of its size.
  const names = Object.keys(tensors).sort((a, b) => size(tensors[b]) - size(tensors[a]));
  for (const name of names) {
    const { shape, data } = tensors[name];
    const [dtype = 'U8'] = [...TYPES].find(([, Numbers]) => data instanceof Numbers) ?? [];
    header[name] = { dtype, shape, data_offsets: [end, end += data.byteLength] };
  }
  const text = JSON.stringify(header);
  const head = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
  const bytes = new Uint8Array(8 + head.length + end);
  new DataView(bytes.buffer).setUint32(0, head.length, true);
  bytes.set(head, 8);
  let at = 8 + head.length;
  for (const name of names) {
    const { buffer, byteOffset, byteLength } = tensors[name].data;
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), at);
    at += byteLength;
  }
  return bytes;
}

const size = ({ data }) => data.BYTES_PER_ELEMENT;

/**
 * @param {Uint8Array} bytes
 * @returns {Record<string, Tensor>} copies
 * @throws {TensorError} for anything else, and for tensors of other types
 */
export function fromBytes(bytes) {
  const { header, body } = parted(bytes);
  const entries = Object.entries(header).filter(([name]) => name !== METADATA);
  const tensors = Object.fromEntries(
    entries.map(([name, entry]) => [name, tensor(name, entry, body)]));
  checkPlaces(entries.map(([, { data_offsets: offsets }]) => offsets), body.length);
  return tensors;
}

/** Every byte is of one tensor, as in every file that others write: nothing is said twice. */
function checkPlaces(places, length) {
  let at = 0;
  for (const [start, end] of [...places].sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    if (start !== at) throw new TensorError('its tensors do not follow each other');
    at = end;
  }
  if (at !== length) throw new TensorError('it has bytes that are of no tensor');
}

/**
 * What a file says of its tensors.
 * @param {Uint8Array} bytes
 * @returns {Record<string, string>}
 * @throws {TensorError}
 */
export function metadataIn(bytes) {
  return Object(parted(bytes).header[METADATA]);
}

function parted(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8) throw new TensorError('it ends before its header');
  const length = view.getUint32(0, true);
  if (view.getUint32(4, true) || length > LONGEST_HEADER || 8 + length > bytes.length) {
    throw new TensorError('its header is too long');
  }
  return { header: headerOf(bytes.subarray(8, 8 + length)), body: bytes.subarray(8 + length) };
}

function headerOf(bytes) {
  try {
    return Object(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch {
    throw new TensorError('its header is no JSON');
  }
}

function tensor(name, entry, body) {
  const { dtype, shape, data_offsets: offsets } = Object(entry);
  const Numbers = TYPES.get(dtype);
  const whole = (list) => Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
  if (!Numbers || !whole(shape) || !whole(offsets) || offsets.length !== 2) {
    throw new TensorError(`${name} is of no type that is known here`);
  }
  const [start, end] = offsets;
  const count = shape.reduce((product, side) => product * side, 1);
  if (end > body.length || end - start !== count * Numbers.BYTES_PER_ELEMENT) {
    throw new TensorError(`${name} has not the bytes of its shape`);
  }
  return { shape, data: new Numbers(body.slice(start, end).buffer) };
}
