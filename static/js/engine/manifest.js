// The manifest of a package: what it holds and where. docs/packages.md describes the JSON.
//
// A manifest may come from anywhere. What queue/diffusion/packaging/manifest.py refuses is refused
// here: sizes are bounded, every piece lies inside its shard, every tensor has the bytes that its
// type and shape need. Names come from outside too, so they are keys of Maps and of nothing else.

import { PackageError } from './package/errors.js';
import { ALIGNMENT, asMatrix, DTYPES, GROUP, layoutOf } from './package/layout.js';

export const MANIFEST_NAME = 'manifest.json';
export const MAX_MANIFEST_BYTES = 16 * 2 ** 20;
export const MAX_SHARD_BYTES = 16 * 2 ** 20;
export const COMPONENTS = ['text_encoder', 'transformer', 'vae'];

const FORMAT = 'p2pweb-package';
const VERSION = 1;
const MAX_ENTRIES = 2 ** 16; // tensors, shards (1 TiB), files, pieces of one tensor
const MAX_AXES = 8;
const MAX_TENSOR_BYTES = 2 ** 36;
// int4, the smallest type, takes half a byte a value: no tensor has more, and up to here and beyond
// doubles count exactly.
const MAX_VALUES = 2 * MAX_TENSOR_BYTES;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]*(?:\/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$/;
const SHA256 = /^[0-9a-f]{64}$/;

/**
 * @typedef {{sha256: string, bytes: number}} Shard
 * @typedef {{shard: number, offset: number, bytes: number}} Piece `shard` is a number in `shards`
 *
 * @typedef {object} Tensor
 * @property {DType} dtype
 * @property {number[]} shape
 * @property {number} bytes as stored
 * @property {Piece[]} pieces one after the other they are its bytes
 *
 * @typedef {object} Manifest
 * @property {string} modelId names the source weights, whatever the packing
 * @property {string} variant such as `f16`, or `int4-f16-f16`
 * @property {Record<string, DType>} dtypes by part
 * @property {object} about title, sides, defaults: as the manifest has it, unchecked
 * @property {Map<string, object>} configs by path, unchecked
 * @property {object|null} preview unchecked
 * @property {Map<string, {bytes: number, pieces: Piece[]}>} files by path
 * @property {string|null} plan a name in `files`
 * @property {Map<string, string>} wgsl shader name to the SHA-256 of its text
 * @property {Map<string, Tensor>} tensors by component/name
 * @property {Shard[]} shards
 */

/** Not a manifest that may be used. */
export class ManifestError extends PackageError {
  name = 'ManifestError';

  /** @param {string} what is wrong, without a full stop */
  constructor(what) {
    super('manifest', `This model's package cannot be used, its manifest is wrong: ${what}.`);
  }
}

/**
 * @param {Uint8Array} data the bytes of manifest.json
 * @returns {Manifest}
 * @throws {ManifestError} unless it is a whole and consistent manifest of this version
 */
export function readManifest(data) {
  if (data.length > MAX_MANIFEST_BYTES) {
    throw new ManifestError(`${data.length} bytes, at most ${MAX_MANIFEST_BYTES} are read`);
  }
  const top = object(parse(data), 'the manifest');
  if (top.format !== FORMAT || top.version !== VERSION) {
    throw new ManifestError(`not ${FORMAT} version ${VERSION}`);
  }
  const dtypes = dtypesOf(text(top.variant, 'variant'));
  const told = object(top.dtypes, 'dtypes');
  if (Object.keys(told).length !== COMPONENTS.length
      || COMPONENTS.some((component) => told[component] !== dtypes[component])) {
    throw new ManifestError('dtypes and variant differ');
  }
  const shards = list(top.shards, 'shards').map((entry, n) => shard(entry, `shard ${n}`));
  const file = (entry, name) => pieces(object(entry, name), name, shards);
  const files = table(top.files, 'files', file);
  const tensors = table(top.tensors, 'tensors', (entry, name) => tensor(entry, name, shards));
  for (const name of tensors.keys()) {
    if (!COMPONENTS.includes(componentOf(name))) {
      throw new ManifestError(`a tensor of none of ${COMPONENTS.join(', ')}`);
    }
  }
  const plan = top.plan ?? null;
  if (plan !== null && !files.has(text(plan, 'plan'))) {
    throw new ManifestError('the plan is not among the files');
  }
  return {
    modelId: hash(top.model_id, 'model_id'),
    variant: top.variant,
    dtypes,
    about: object(top.about, 'about'),
    configs: table(top.configs, 'configs', object),
    preview: top.preview == null ? null : object(top.preview, 'preview'),
    files,
    plan,
    wgsl: table(top.wgsl, 'wgsl', hash),
    tensors,
    shards,
  };
}

/** The part that a tensor belongs to: what its name begins with. */
export const componentOf = (name) => name.slice(0, Math.max(0, name.indexOf('/')));

function parse(data) {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data));
  } catch (error) {
    throw new ManifestError(`not JSON (${error.message})`);
  }
}

/** What a variant's name says of the parts: the one way there is to write it. */
export function dtypesOf(variant) {
  const parts = variant.split('-');
  const all = parts.length === 1 ? COMPONENTS.map(() => variant) : parts;
  const known = all.length === COMPONENTS.length && all.every((part) => DTYPES.includes(part));
  const shortest = parts.length === 1 || new Set(parts).size > 1;
  if (!known || !shortest) throw new ManifestError(`there is no variant ${quoted(variant)}`);
  return Object.fromEntries(COMPONENTS.map((component, n) => [component, all[n]]));
}

function shard(entry, where) {
  const { sha256, bytes } = object(entry, where);
  const made = { sha256: hash(sha256, where), bytes: whole(bytes, where) };
  if (bytes < 1 || bytes > MAX_SHARD_BYTES) throw new ManifestError(`${where} has ${bytes} bytes`);
  return made;
}

function tensor(entry, where, shards) {
  const { dtype, group, scales, ...fields } = object(entry, where);
  if (!DTYPES.includes(dtype)) throw new ManifestError(`${where} has the type ${quoted(dtype)}`);
  const shape = list(fields.shape, where).map((side) => whole(side, where));
  const [rows, columns] = asMatrix(shape);
  if (shape.length > MAX_AXES || shape.includes(0) || rows * columns > MAX_VALUES) {
    throw new ManifestError(`${where} has the shape [${shape.slice(0, MAX_AXES)}]`);
  }
  const stored = pieces(fields, where, shards);
  const layout = layoutOf(dtype, rows, columns);
  if (layout.bytes > MAX_TENSOR_BYTES || stored.bytes !== layout.bytes) {
    throw new ManifestError(`${where} has not the bytes of [${rows}, ${columns}] in ${dtype}`);
  }
  if (layout.groups && (group !== GROUP || scales !== layout.scales)) {
    throw new ManifestError(`${where} has other groups or scales than version ${VERSION} puts`);
  }
  if (stored.pieces.some(({ offset }) => offset % ALIGNMENT)) {
    throw new ManifestError(`${where} does not start at a multiple of ${ALIGNMENT}`);
  }
  return { dtype, shape, ...stored };
}

function pieces(fields, where, shards) {
  let sum = 0;
  const made = list(fields.pieces, where).map((entry) => {
    const numbers = list(entry, where).map((number) => whole(number, where));
    if (numbers.length !== 3) throw new ManifestError(`${where}: a piece is shard, offset, bytes`);
    const [number, offset, bytes] = numbers;
    if (!bytes || number >= shards.length || offset + bytes > shards[number].bytes) {
      throw new ManifestError(`${where}: a piece lies outside of its shard`);
    }
    sum += bytes;
    return { shard: number, offset, bytes };
  });
  if (fields.bytes !== sum) throw new ManifestError(`${where}: its pieces do not have its bytes`);
  return { bytes: sum, pieces: made };
}

function table(value, where, read) {
  const entries = Object.entries(object(value, where));
  const { length } = entries;
  if (length > MAX_ENTRIES) throw new ManifestError(`${where} has ${length} entries`);
  return new Map(entries.map(([name, entry]) => {
    if (name.length > 200 || !NAME.test(name)) {
      throw new ManifestError(`${where}: ${quoted(name)} is no name`);
    }
    return [name, read(entry, name)];
  }));
}

function object(value, where) {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new ManifestError(`${where} is no object`);
  }
  return value;
}

function list(value, where) {
  if (!Array.isArray(value) || value.length > MAX_ENTRIES) {
    throw new ManifestError(`${where} is no list, or too long a one`);
  }
  return value;
}

function whole(value, where) {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ManifestError(`${where}: ${quoted(value)} is no whole number`);
  }
  return value;
}

function text(value, where) {
  if (typeof value !== 'string') throw new ManifestError(`${where} is no text`);
  return value;
}

function hash(value, where) {
  if (typeof value !== 'string' || !SHA256.test(value)) {
    throw new ManifestError(`${where}: ${quoted(value)} is no SHA-256`);
  }
  return value;
}

/** Of a stranger's value no more than fits into a sentence. */
function quoted(value) {
  if (Array.isArray(value)) return 'a list';
  if (value !== null && typeof value === 'object') return 'an object';
  return (JSON.stringify(value) ?? 'nothing').slice(0, 80);
}
