// A model package: from what this browser stores, from this site or any other host, shard by shard.
//
//   const model = await openPackage('/api/packages/v1/prx-emoji/f16/', { confirmDownload });
//   await model.prepare(['transformer/img_in', 'transformer/blocks.0.qkv']);
//   for await (const { offset, bytes } of model.pieces('transformer/img_in')) ...
//   await model.written();
//
// Every byte comes from a shard whose SHA-256 was checked before, and the manifest's own hash names
// them all. A few shards of at most 16 MiB are in memory, whatever the size of the model. Needs no
// page: windows, Workers and, without storage, Node.

import {
  COMPONENTS, componentOf, MANIFEST_NAME, MAX_MANIFEST_BYTES, readManifest,
} from './manifest.js';
import { orAborted } from './package/abort.js';
import { Agreement, FREE_BYTES } from './package/agreement.js';
import { downloadSmall } from './package/download.js';
import { PackageError } from './package/errors.js';
import { holdInUse } from './package/in-use.js';
import { asMatrix, layoutOf } from './package/layout.js';
import { sha256Of } from './package/sha256.js';
import { Shards } from './package/shards.js';
import { PackageStore } from './package-store.js';

export { ManifestError } from './manifest.js';
export { FREE_BYTES, PackageError };

const MAX_FILE_BYTES = 256 * 2 ** 20;

/**
 * @typedef {{kind: 'download', done: number, total: number}
 *   | {kind: 'unstored', code: 'full'|'failed', message: string}} PackageProgress
 *   download: bytes from the network, of what is to come from there; `done` falls when a host
 *   begins again. unstored: from here on nothing is stored, `message` says so to people
 *
 * @typedef {object} OpenOptions
 * @property {AbortSignal} [signal] gives up whatever the reader is doing
 * @property {string} [expect] the package_id that it must have; one that is stored needs no network
 * @property {(question: DownloadQuestion) => boolean|Promise<boolean>} [confirmDownload] is asked
 *   before more than FREE_BYTES are fetched, or any when the browser is told to save data. Without
 *   it such a download is refused
 * @property {(progress: PackageProgress) => void} [onProgress]
 * @property {PackageStore|null} [store] null stores nothing; otherwise the browser's own is used
 * @property {typeof globalThis.fetch} [fetch]
 */

/**
 * @param {string|URL} url of the package's folder, or of its manifest.json
 * @param {OpenOptions} [options]
 * @returns {Promise<PackageReader>}
 * @throws {PackageError}, ManifestError among them, or the signal's reason
 */
export async function openPackage(url, options = {}) {
  const { signal, expect, fetch = globalThis.fetch.bind(globalThis) } = options;
  if (!globalThis.crypto?.subtle) {
    throw new PackageError(
      'insecure', 'A model can only be checked and used on a page that was opened by https or from '
        + 'this computer (localhost).');
  }
  signal?.throwIfAborted();
  const base = folderOf(url);
  const store = options.store === undefined ? await PackageStore.open() : options.store;
  const data = await findManifest(base, { expect, fetch, signal, store });
  const packageId = await sha256Of(data);
  if (expect !== undefined && packageId !== expect) {
    throw new PackageError(
      'other', `${base.host} has another package of this model than the one asked for: it may have `
        + 'been packed anew.');
  }
  const manifest = readManifest(data);
  const stored = await store?.shards() ?? new Set();
  const note = once(() => store.putManifest(packageId, data, base.href));
  if (manifest.shards.some(({ sha256 }) => stored.has(sha256))) await note().catch(() => {});
  return new PackageReader(base, packageId, manifest, { ...options, fetch, store, stored, note });
}

/** What openPackage gives. */
export class PackageReader {
  #shards;
  #ended = new AbortController();

  constructor(base, packageId, manifest, options) {
    const { signal, confirmDownload, onProgress = () => {}, ...rest } = options;
    /** @type {string} the SHA-256 of the manifest's bytes */
    this.packageId = packageId;
    /** @type {Manifest} */
    this.manifest = manifest;
    const stop = () => this.#ended.abort(signal.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { signal: this.#ended.signal });
    if (rest.store) holdInUse(packageId, this.#ended.signal);
    const title = String(manifest.about.title ?? '');
    const ask = async (bytes, saveData) => confirmDownload(
      { bytes, title, saveData, fits: rest.store ? await fits(bytes) : false });
    this.#shards = new Shards(manifest.shards, {
      ...rest,
      onProgress,
      signal: this.#ended.signal,
      agreement: new Agreement(manifest.shards, confirmDownload ? ask : null),
      urlOf: (sha256) => new URL(`${sha256}.bin`, base).href,
    });
  }

  /**
   * How much would have to be fetched for these: what is not stored here yet.
   * @param {Iterable<string>} [names] of weights and files; otherwise all
   * @returns {number} bytes; whole shards
   * @throws {RangeError} for no such name
   */
  bytesMissing(names) {
    return this.#shards.bytesMissing(this.#numbersOf(names));
  }

  /**
   * Sizes by part.
   * @returns {Record<'files'|'text_encoder'|'transformer'|'vae', {bytes: number, missing: number}>}
   */
  parts() {
    const tensors = [...this.manifest.tensors.keys()];
    const names = { files: [...this.manifest.files.keys()] };
    for (const part of COMPONENTS) {
      names[part] = tensors.filter((name) => componentOf(name) === part);
    }
    return Object.fromEntries(Object.entries(names).map(([part, of]) => {
      const numbers = this.#numbersOf(of);
      return [part, {
        bytes: this.#shards.bytes(numbers), missing: this.#shards.bytesMissing(numbers),
      }];
    }));
  }

  /**
   * Says what will be read next, in this order: what is missing of it is what people are asked
   * about, and it is fetched some shards ahead. Without, each is fetched when it is asked for, and
   * the question is about the whole package.
   * @param {Iterable<string>} names of weights and files
   * @throws {RangeError} for no such name
   * @throws {PackageError} `declined`
   */
  async prepare(names) {
    await this.#shards.prepare(this.#numbersOf(names));
  }

  /**
   * A file that came along, such as `tokenizer/tokenizer.json`.
   * @param {string} path
   * @param {{signal?: AbortSignal}} [options] gives up this call; what is on its way still arrives
   * @returns {Promise<Uint8Array>} a copy of its own
   * @throws {RangeError} for no such file
   * @throws {PackageError}
   */
  async file(path, { signal } = {}) {
    const { bytes, pieces } = found(this.manifest.files, path, 'file');
    if (bytes > MAX_FILE_BYTES) {
      throw new PackageError('manifest', `The model's file ${path} is too large (${bytes} bytes).`);
    }
    const whole = new Uint8Array(bytes);
    for await (const piece of this.#read(pieces, signal)) whole.set(piece.bytes, piece.offset);
    return whole;
  }

  /**
   * The bytes of a weight as they are stored, in order.
   * @param {string} name component/name
   * @param {{signal?: AbortSignal}} [options]
   * @returns {AsyncGenerator<{offset: number, bytes: Uint8Array}>} `offset` from the start of the
   *   tensor. `bytes` is a view of a shard, neither to be written to nor transferred, and to be
   *   read before the next piece is asked for: afterwards it may be empty, its memory given back
   * @throws {RangeError} for no such weight
   * @throws {PackageError}
   */
  async* pieces(name, { signal } = {}) {
    yield* this.#read(found(this.manifest.tensors, name, 'weight').pieces, signal);
  }

  /**
   * Some rows of a weight, as a weight of only those rows would be stored: of int8 and int4 first
   * the codes, then the scales from a multiple of 256 on. Loads only the shards that they lie in.
   * @param {string} name component/name
   * @param {ArrayLike<number>} numbers of rows, in any order, also several times
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Uint8Array>} the layout of `dtype` and [numbers.length, columns]
   * @throws {RangeError} for no such weight or row
   * @throws {PackageError}
   */
  async rows(name, numbers, { signal } = {}) {
    const { dtype, shape, pieces } = found(this.manifest.tensors, name, 'weight');
    const [rows, columns] = asMatrix(shape);
    const from = layoutOf(dtype, rows, columns);
    const to = layoutOf(dtype, numbers.length, columns);
    const copies = [];
    for (let n = 0; n < numbers.length; n++) {
      const row = numbers[n];
      if (!(Number.isInteger(row) && row >= 0 && row < rows)) {
        throw new RangeError(`${name} has no row ${row}`);
      }
      copies.push([row * from.rowBytes, n * to.rowBytes, from.rowBytes]);
      if (from.groups) {
        const scales = 2 * from.groups;
        copies.push([from.scales + row * scales, to.scales + n * scales, scales]);
      }
    }
    const result = new Uint8Array(to.bytes);
    await this.#copy(pieces, copies.sort(([a], [b]) => a - b), result, signal);
    return result;
  }

  /** Resolves when all is stored that has arrived: a tab that closes before loses some of it. */
  async written() {
    await this.#shards.written();
  }

  /** Frees the shards in memory, up to 64 MiB. It can go on reading. */
  free() {
    this.#shards.clear();
  }

  /** Gives up what is under way and frees what is in memory. */
  close() {
    this.#ended.abort(new DOMException('the package was closed', 'AbortError'));
    this.#shards.clear();
  }

  #numbersOf(names = [...this.manifest.tensors.keys(), ...this.manifest.files.keys()]) {
    const { files, tensors } = this.manifest;
    return [...names].flatMap((name) => found(tensors.has(name) ? tensors : files, name, 'weight')
      .pieces.map(({ shard }) => shard));
  }

  async* #read(pieces, signal) {
    let offset = 0;
    const numbers = pieces.map(({ shard }) => shard);
    for (const [n, piece] of pieces.entries()) {
      const using = this.#shards.use(piece.shard, numbers.slice(n + 1, n + 4));
      const used = await orAborted(using, signal, release);
      try {
        yield { offset, bytes: used.data.subarray(piece.offset, piece.offset + piece.bytes) };
      } finally {
        used.release();
      }
      offset += piece.bytes;
    }
  }

  /** copies: [from, to, bytes], rising by `from` and by their ends: each shard is used once. */
  async #copy(pieces, copies, target, signal) {
    const tasks = [];
    let start = 0;
    let first = 0;
    for (const { shard, offset, bytes } of pieces) {
      const stop = start + bytes;
      while (first < copies.length && ending(copies[first]) <= start) first += 1;
      const here = [];
      for (let n = first; n < copies.length && copies[n][0] < stop; n++) {
        const [from, to] = copies[n];
        const begin = Math.max(from, start);
        const end = Math.min(ending(copies[n]), stop);
        const at = offset - start;
        here.push([at + begin, at + end, to + begin - from]);
      }
      if (here.length) tasks.push({ shard, here });
      start = stop;
    }
    for (const [n, { shard, here }] of tasks.entries()) {
      const after = tasks.slice(n + 1, n + 4).map((task) => task.shard);
      const using = this.#shards.use(shard, after, true);
      const used = await orAborted(using, signal, release);
      for (const [begin, end, to] of here) target.set(used.data.subarray(begin, end), to);
      used.release();
    }
  }
}

const ending = ([from, , bytes]) => from + bytes;

async function findManifest(base, { expect, fetch, signal, store }) {
  const known = expect === undefined ? null : await store?.manifest(expect);
  if (known) return known;
  try {
    return await downloadSmall({
      url: new URL(MANIFEST_NAME, base).href, limit: MAX_MANIFEST_BYTES, fetch, signal,
    });
  } catch (error) {
    const last = error.code === 'unreachable' ? await store?.manifestFrom(base.href) : null;
    if (last) return last;
    throw error;
  }
}

async function fits(bytes) {
  const room = await PackageStore.estimate();
  return room && bytes <= room.quota - room.usage;
}

function found(map, name, kind) {
  const entry = map.get(name);
  if (!entry) throw new RangeError(`the model has no ${kind} ${name}`);
  return entry;
}

/** The folder's address, which ends with a slash, whether it or its manifest was named. */
function folderOf(url) {
  const address = new URL(url, globalThis.location?.href);
  address.search = '';
  address.hash = '';
  if (address.pathname.endsWith(`/${MANIFEST_NAME}`)) return new URL('.', address);
  if (!address.pathname.endsWith('/')) address.pathname += '/';
  return address;
}

const release = (used) => used.release();

function once(make) {
  let made;
  return () => made ??= make();
}
