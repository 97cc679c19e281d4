// The shards of a package: from memory, from what the browser stores, from the network. Their hash
// is checked each time that they come into memory.

import { orAborted } from './abort.js';
import { download } from './download.js';
import { PackageError } from './errors.js';
import { sha256Of } from './sha256.js';

const KEPT = 4; // in memory: up to 64 MiB, besides those on their way
const AHEAD = 3; // of them loaded before they are asked for
const AT_ONCE = 4; // on their way, until they are stored
const DAMAGED_TRIES = 3;

const UNSTORED = {
  full: 'This browser has no room left to keep the model. It works all the same, and will be '
    + 'downloaded again the next time.',
  failed: 'This browser could not keep the model. It works all the same, and will be downloaded '
    + 'again the next time.',
};

/**
 * @typedef {object} Entry a shard in memory, or on its way there
 * @property {Promise<Uint8Array>} arriving
 * @property {Uint8Array|null} data when it has arrived
 * @property {boolean} kept whether the next who asks for it will find it
 * @property {number} users who read it now, or write it to the store
 *
 * @typedef {object} ShardsOptions
 * @property {(sha256: string) => string} urlOf
 * @property {typeof globalThis.fetch} fetch
 * @property {AbortSignal} signal
 * @property {Agreement} agreement
 * @property {PackageStore|null} store
 * @property {Set<string>} stored hashes of the shards that it has
 * @property {() => Promise<void>} note tells the store whose shards these are, before the first
 * @property {(progress: object) => void} onProgress
 */

/** The shards of one package, by their number in its manifest. */
export class Shards {
  #shards;
  #options;
  #first; // of each number the first one that is the same shard
  #storing;
  #kept = new Map(); // number to entry, the one that will be used last at the end
  #order = []; // numbers, as they will be read
  #places = new Map(); // number to where it is in #order
  #wanted = new Set(); // numbers, of which progress counts the bytes
  #total = 0;
  #done = 0;
  #slots = new Slots(AT_ONCE);
  #writing = new Set();

  /**
   * @param {Shard[]} shards
   * @param {ShardsOptions} options
   */
  constructor(shards, options) {
    this.#shards = shards;
    this.#options = options;
    this.#storing = options.store !== null;
    const seen = new Map();
    this.#first = shards.map(({ sha256, bytes }, number) => {
      const key = `${sha256} ${bytes}`;
      if (!seen.has(key)) seen.set(key, number);
      return seen.get(key);
    });
  }

  /** @param {Iterable<number>} numbers @returns {number} bytes of all of them */
  bytes(numbers) {
    return this.#distinct(numbers).reduce((sum, number) => sum + this.#shards[number].bytes, 0);
  }

  /** @param {Iterable<number>} numbers @returns {number} bytes of those that are not stored */
  bytesMissing(numbers) {
    return this.bytes(this.#missing(numbers));
  }

  /**
   * What will be read, in this order. Asks for agreement to what is missing, and begins.
   * @param {Iterable<number>} numbers
   * @throws {PackageError} `declined`
   */
  async prepare(numbers) {
    const order = this.#distinct(numbers);
    const missing = this.#missing(order);
    await this.#agree(missing, () => missing);
    this.#order = order;
    this.#places = new Map(order.map((number, place) => [number, place]));
    this.#want(missing);
    this.#readAhead(order);
  }

  /**
   * A shard, to be released when it was read: its memory is given back then, and not when the
   * garbage collector finds the time, which can be hundreds of megabytes later.
   * @param {number} number
   * @param {number[]} after what the caller will ask for next
   * @param {boolean} [only] whether the caller leaves out what `prepare` said: that is not fetched
   *   ahead then
   * @returns {Promise<{data: Uint8Array, release: () => void}>} all of its bytes, not to be written
   *   to, and gone some time after the release
   * @throws {PackageError}
   */
  async use(number, after, only = false) {
    const first = this.#first[number];
    const entry = this.#load(first);
    const release = this.#used(entry);
    const place = only ? undefined : this.#places.get(first);
    this.#readAhead(place === undefined ? this.#distinct(after) : this.#order.slice(place + 1));
    try {
      return { data: await entry.arriving, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Resolves when all is stored that has arrived. */
  async written() {
    await Promise.all(this.#writing);
  }

  /** Frees what is in memory and not in use. */
  clear() {
    for (const number of [...this.#kept.keys()]) this.#drop(number);
  }

  #readAhead(numbers) {
    for (const number of numbers.slice(0, AHEAD)) {
      const free = this.#kept.has(number) || this.#has(number)
        || this.#options.agreement.take([number]);
      if (free) this.#load(number);
    }
  }

  #load(number) {
    const found = this.#kept.get(number);
    const entry = found ?? { arriving: null, data: null, kept: true, users: 0 };
    this.#kept.delete(number);
    this.#kept.set(number, entry);
    if (!found) {
      entry.arriving = this.#start(number, entry);
      entry.arriving.then(() => this.#evict(), () => {
        if (this.#kept.get(number) === entry) this.#drop(number);
      });
    }
    return entry;
  }

  /** Who calls this needs the shard's memory until calling what comes back. */
  #used(entry) {
    entry.users += 1;
    return () => {
      entry.users -= 1;
      free(entry);
    };
  }

  #evict() {
    for (const [number, { data }] of this.#kept) {
      if (this.#kept.size <= KEPT) return;
      if (data) this.#drop(number);
    }
  }

  #drop(number) {
    const entry = this.#kept.get(number);
    this.#kept.delete(number);
    entry.kept = false;
    free(entry);
  }

  /** Its slot is free again when the shard is stored: a slow disk does not fill the memory. */
  async #start(number, entry) {
    await this.#slots.take();
    let stored = null;
    try {
      this.#options.signal.throwIfAborted();
      stored = await this.#stored(number);
      entry.data = stored ?? await this.#fetch(number);
    } catch (error) {
      this.#slots.give();
      throw error;
    }
    if (stored) this.#slots.give();
    else this.#write(number, entry).then(() => this.#slots.give());
    return entry.data;
  }

  async #stored(number) {
    if (!this.#has(number)) return null;
    const { sha256, bytes } = this.#shards[number];
    const data = await this.#options.store.shard(sha256).catch(() => null);
    if (data?.length === bytes) return data;
    this.#options.stored.delete(sha256);
    return null;
  }

  async #fetch(number) {
    const { fetch, signal, urlOf } = this.#options;
    await this.#agree([number], () => this.#missing(
      this.#order.length ? this.#order : this.#shards.keys()));
    if (!this.#wanted.size) this.#want(this.#missing(this.#shards.keys()));
    this.#want([number]);
    const { sha256, bytes } = this.#shards[number];
    const url = urlOf(sha256);
    for (let tries = 0; tries < DAMAGED_TRIES; tries++) {
      // What is stored here need not lie in the browser's HTTP cache too; what is damaged may.
      const cache = tries ? 'reload' : this.#storing ? 'no-store' : 'default';
      const onBytes = (count) => this.#progress(count);
      const data = await download({ url, bytes, cache, fetch, signal, onBytes });
      if (await sha256Of(data) === sha256) return data;
      this.#progress(-bytes);
    }
    throw new PackageError(
      'damaged', `A part of the model arrived damaged ${DAMAGED_TRIES} times from `
        + `${new URL(url).host}, and was not used.`);
  }

  async #agree(needed, intended) {
    const { agreement, signal } = this.#options;
    await orAborted(agreement.cover(needed, intended), signal);
  }

  /** Never fails: without storage it goes on, and says so once. */
  async #write(number, entry) {
    if (!this.#storing) return;
    const release = this.#used(entry);
    const writing = this.#store(this.#shards[number].sha256, entry.data).finally(release);
    this.#writing.add(writing);
    await writing;
    this.#writing.delete(writing);
  }

  async #store(sha256, data) {
    const { note, onProgress, store, stored } = this.#options;
    try {
      await note();
      await store.putShard(sha256, data);
      stored.add(sha256);
    } catch (error) {
      if (!this.#storing) return;
      this.#storing = false;
      const code = error.name === 'QuotaExceededError' ? 'full' : 'failed';
      onProgress({ kind: 'unstored', code, message: UNSTORED[code] });
    }
  }

  #want(numbers) {
    for (const number of numbers) {
      if (this.#wanted.has(number)) continue;
      this.#wanted.add(number);
      this.#total += this.#shards[number].bytes;
    }
  }

  #progress(count) {
    this.#done += count;
    this.#options.onProgress({ kind: 'download', done: this.#done, total: this.#total });
  }

  #has(number) {
    return this.#options.stored.has(this.#shards[number].sha256);
  }

  #missing(numbers) {
    return this.#distinct(numbers).filter((number) => !this.#has(number));
  }

  #distinct(numbers) {
    return [...new Set(Array.from(numbers, (number) => this.#first[number]))];
  }
}

/** Gives the memory of a shard back that nobody will read any more. */
function free(entry) {
  if (entry.kept || entry.users || !entry.data) return;
  entry.data.buffer.transfer?.(0); // older browsers leave it to the garbage collector
  entry.data = null;
}

/** So many at a time; the others wait in line. */
class Slots {
  #free;
  #waiting = [];

  constructor(count) {
    this.#free = count;
  }

  async take() {
    if (this.#free) this.#free -= 1;
    else await new Promise((resolve) => this.#waiting.push(resolve));
  }

  give() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}
