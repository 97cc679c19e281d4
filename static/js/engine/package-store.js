// What this browser keeps of models: shards under their hashes, so that variants share what they
// have in common, and manifests under their package_id.
//
// In the origin private file system, by streams: a file is written whole or stays empty, several
// tabs may read and write at once, windows and Workers use it alike. The Cache API wrote no faster
// and read at half to a third of the speed; access handles were twice as fast again, but a file has
// only one of them at a time, in one tab (docs/measurements.md).

import { readManifest } from './manifest.js';
import { ifUnused } from './package/in-use.js';
import { sha256Of } from './package/sha256.js';

const FOLDER = 'p2pweb-models';
const LINE_END = 10;

/**
 * @typedef {object} StoredPackage
 * @property {string} packageId
 * @property {string} modelId
 * @property {string} title
 * @property {string} variant
 * @property {string} url of the package's folder
 * @property {number} bytes stored of it
 * @property {number} total bytes of all of it
 * @property {number} own bytes that `remove` would free: no other stored package has them too
 */

/** The stored models of this origin. */
export class PackageStore {
  #shards;
  #manifests;

  /**
   * @param {FileSystemDirectoryHandle} shards <sha256>, the bytes
   * @param {FileSystemDirectoryHandle} manifests <package_id>, a line with where it came from, then
   *   the bytes
   */
  constructor(shards, manifests) {
    this.#shards = shards;
    this.#manifests = manifests;
  }

  /**
   * @returns {Promise<PackageStore|null>} null where nothing can be stored: outside of browsers, on
   *   insecure pages, in some private windows
   */
  static async open() {
    try {
      const root = await globalThis.navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle(FOLDER, { create: true });
      return new PackageStore(
        await folder.getDirectoryHandle('shards', { create: true }),
        await folder.getDirectoryHandle('manifests', { create: true }),
      );
    } catch {
      return null;
    }
  }

  /** @returns {Promise<Set<string>>} the hashes of the shards that are there */
  async shards() {
    return new Set(await names(this.#shards));
  }

  /**
   * @param {string} sha256
   * @returns {Promise<Uint8Array|null>} the shard, if it is there; with another hash it is deleted
   */
  async shard(sha256) {
    const data = await read(this.#shards, sha256);
    if (data && await sha256Of(data) === sha256) return data;
    await remove(this.#shards, sha256);
    return null;
  }

  /**
   * @param {string} sha256
   * @param {Uint8Array} data with this hash
   * @returns {Promise<void>} when it is written
   * @throws {DOMException} `QuotaExceededError` when there is no room
   */
  async putShard(sha256, data) {
    await write(this.#shards, sha256, [data]);
  }

  /**
   * @param {string} packageId
   * @returns {Promise<Uint8Array|null>} its manifest
   */
  async manifest(packageId) {
    return (await this.#manifest(packageId))?.data ?? null;
  }

  /**
   * @param {string} url of a package's folder
   * @returns {Promise<Uint8Array|null>} the manifest that came from there last
   */
  async manifestFrom(url) {
    for (const packageId of await names(this.#manifests)) {
      const found = await this.#manifest(packageId);
      if (found?.url === url) return found.data;
    }
    return null;
  }

  /**
   * Stores a manifest. What came from the same address before is replaced: of it only shards stay
   * that another package has too.
   * @param {string} packageId
   * @param {Uint8Array} data
   * @param {string} url of the package's folder
   */
  async putManifest(packageId, data, url) {
    await write(this.#manifests, packageId, [new TextEncoder().encode(`${url}\n`), data]);
    for (const other of await this.list()) {
      if (other.url === url && other.packageId !== packageId) await this.remove(other.packageId);
    }
  }

  /** @returns {Promise<StoredPackage[]>} by title and variant */
  async list() {
    const there = await this.shards();
    const all = await this.#readable();
    const listed = [...all].map(([packageId, { manifest, url }]) => {
      const mine = [...sizes(manifest)];
      const others = shardsOfOthers(all, packageId);
      const sum = (counts) => mine.reduce(
        (bytes, [sha256, size]) => bytes + (counts(sha256) ? size : 0), 0);
      return {
        packageId,
        modelId: manifest.modelId,
        title: String(manifest.about.title ?? ''),
        variant: manifest.variant,
        url,
        bytes: sum((sha256) => there.has(sha256)),
        total: sum(() => true),
        own: sum((sha256) => there.has(sha256) && !others.has(sha256)),
      };
    });
    const key = ({ title, variant }) => `${title} ${variant}`;
    return listed.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }

  /**
   * Deletes a package, and every shard that none of those left names.
   * @param {string} packageId
   */
  async remove(packageId) {
    await remove(this.#manifests, packageId);
    const kept = shardsOfOthers(await this.#readable(), packageId);
    for (const sha256 of await keys(this.#shards)) {
      if (!kept.has(sha256)) await remove(this.#shards, sha256);
    }
  }

  /**
   * Deletes a package as `remove` does, unless a tab or Worker of this browser is using it.
   * @param {string} packageId
   * @returns {Promise<boolean>} whether it did
   */
  removeUnused(packageId) {
    return ifUnused(packageId, () => this.remove(packageId));
  }

  /** Deletes everything. */
  async clear() {
    for (const folder of [this.#shards, this.#manifests]) {
      for (const name of await keys(folder)) await remove(folder, name);
    }
  }

  /**
   * @returns {Promise<{usage: number, quota: number}|null>} bytes that this origin uses, and may
   *   use; null where the browser does not say
   */
  static async estimate() {
    const { usage, quota } = await globalThis.navigator?.storage?.estimate?.() ?? {};
    return quota === undefined ? null : { usage, quota };
  }

  /**
   * Asks the browser not to delete what is stored when the disk fills up. For windows, where some
   * browsers ask the user; Workers cannot.
   * @returns {Promise<boolean>} whether it promises
   */
  static async persist() {
    return await globalThis.navigator?.storage?.persist?.() ?? false;
  }

  /** @returns {Promise<boolean>} whether the browser has promised it before */
  static async persisted() {
    return await globalThis.navigator?.storage?.persisted?.() ?? false;
  }

  async #manifest(packageId) {
    const stored = await read(this.#manifests, packageId);
    const end = stored?.indexOf(LINE_END) ?? -1;
    if (end < 0) return null;
    const data = stored.slice(end + 1);
    if (await sha256Of(data) !== packageId) return null;
    return { data, url: new TextDecoder().decode(stored.subarray(0, end)) };
  }

  /** package_id to {manifest, url}, without any that cannot be read any more. */
  async #readable() {
    const found = new Map();
    for (const packageId of await names(this.#manifests)) {
      const stored = await this.#manifest(packageId);
      if (!stored) continue;
      try {
        found.set(packageId, { manifest: readManifest(stored.data), url: stored.url });
      } catch {
        // Of another version of this site, maybe: `remove` and `clear` still delete it.
      }
    }
    return found;
  }
}

/** Of the files that were written to their end: those that were not are empty. */
async function names(folder) {
  const sizes = [];
  for await (const [name, handle] of folder.entries()) {
    sizes.push(handle.getFile().then(({ size }) => size && name, () => null));
  }
  return (await Promise.all(sizes)).filter(Boolean);
}

/** Of all files. */
async function keys(folder) {
  const found = [];
  for await (const name of folder.keys()) found.push(name);
  return found;
}

/** The bytes of a file; null for one that is not there or cannot be read. */
async function read(folder, name) {
  try {
    const file = await (await folder.getFileHandle(name)).getFile();
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    return null;
  }
}

async function write(folder, name, parts) {
  const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
  try {
    for (const part of parts) await stream.write(part);
    await stream.close();
  } catch (error) {
    await stream.abort().catch(() => {}); // it may have ended by itself
    throw error;
  }
}

/** Does nothing for a file that is not there, or that another tab is writing. */
async function remove(folder, name) {
  await folder.removeEntry(name).catch(() => {});
}

/** The hashes of all shards that packages other than this one name. */
function shardsOfOthers(manifests, packageId) {
  const others = [...manifests].filter(([other]) => other !== packageId);
  return new Set(others.flatMap(([, { manifest }]) => manifest.shards.map(({ sha256 }) => sha256)));
}

const sizes = ({ shards }) => new Map(shards.map(({ sha256, bytes }) => [sha256, bytes]));
