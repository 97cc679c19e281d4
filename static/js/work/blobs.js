// Files of a room by their content: the name of a blob is the SHA-256 of its bytes.
//
// In memory first, with what this browser keeps (keeper.js) behind it. What is kept there leaves the
// memory when there is much of it; what is nowhere else never does.

import { sha256Of } from '../engine/package/sha256.js';

const MEMORY_BYTES = 64 * 2 ** 20; // of blobs that can be read again
const YOUNG_MS = 10000; // between storing a blob and naming it in the queue
const BROUGHT_WITHIN_MS = 5000; // of a new holder; others come within a second or two

export class Blobs {
  #memory = new Map(); // by name: { bytes, at }, the one used last at the end
  #coming = new Map(); // by name: promise
  #keeper;
  #now;
  #patientUntil = -Infinity;
  #awaited = new Map(); // by name: Set of functions that are told when it comes

  /**
   * @param {object} [options]
   * @param {{has(name: string): boolean, blob(name: string): Promise<Uint8Array|null>}|null}
   *   [options.keeper]
   * @param {() => number} [options.now] milliseconds
   */
  constructor({ keeper = null, now = Date.now } = {}) {
    this.#keeper = keeper;
    this.#now = now;
  }

  /** @returns {number} bytes in memory */
  get bytes() {
    return [...this.#memory.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  /** @returns {Promise<string>} the name */
  async put(bytes) {
    const name = await sha256Of(bytes);
    this.#remember(name, bytes);
    return name;
  }

  /**
   * A blob that somebody else named.
   * @param {string} name @param {Uint8Array} bytes
   * @throws {RangeError} when these bytes have another name
   */
  async adopt(name, bytes) {
    const own = await sha256Of(bytes);
    if (own !== name) throw new RangeError(`These bytes are ${own} and not ${name}.`);
    this.#remember(name, bytes);
  }

  /**
   * A blob that somebody else named and has, unless it is here. `get` waits for it meanwhile: who
   * shows a picture asks for it once.
   * @param {string} name @param {(name: string) => Promise<Uint8Array>} fetchBlob
   * @throws what that throws, and RangeError for other bytes
   */
  async bring(name, fetchBlob) {
    if (this.has(name)) return;
    if (!this.#coming.has(name)) {
      const coming = fetchBlob(name).then((bytes) => this.adopt(name, bytes));
      this.#coming.set(name, coming.finally(() => this.#coming.delete(name)));
    }
    await this.#coming.get(name);
  }

  /** The tab that had them all has gone: for a while `get` waits for what the others may bring. */
  expectOthers() {
    this.#patientUntil = this.#now() + BROUGHT_WITHIN_MS;
  }

  /** @returns {boolean} */
  has(name) {
    return this.#memory.has(name) || Boolean(this.#keeper?.has(name));
  }

  /** @returns {Promise<Uint8Array|null>} null for one that is not here, or is damaged */
  async get(name) {
    await this.#coming.get(name)?.catch(() => {}); // whoever brings it is told
    const known = this.#memory.get(name);
    if (known) {
      this.#remember(name, known.bytes);
      return known.bytes;
    }
    const bytes = await this.#keeper?.blob(name);
    if (!bytes || await sha256Of(bytes) !== name) return this.#brought(name);
    this.#remember(name, bytes);
    return bytes;
  }

  /** What comes while others may bring it. */
  async #brought(name) {
    const ms = this.#patientUntil - this.#now();
    if (ms > 0 && !this.#memory.has(name)) {
      if (!this.#awaited.has(name)) this.#awaited.set(name, new Set());
      const waiting = this.#awaited.get(name);
      await new Promise((come) => {
        waiting.add(come);
        setTimeout(come, Math.min(ms, BROUGHT_WITHIN_MS));
      });
    }
    return this.inMemory(name);
  }

  /** @returns {Uint8Array|null} without asking what the browser keeps */
  inMemory(name) {
    return this.#memory.get(name)?.bytes ?? null;
  }

  /**
   * Forget all others, and of these what can be read again where memory lacks. A blob that is
   * seconds old stays: the queue may be about to name it.
   * @param {Set<string>} names
   */
  keep(names) {
    const young = this.#now() - YOUNG_MS;
    let { bytes: left } = this;
    for (const [name, { bytes, at }] of this.#memory) {
      const wanted = names.has(name);
      const again = wanted && left > MEMORY_BYTES && this.#keeper?.has(name);
      if ((wanted || at > young) && !again) continue;
      this.#memory.delete(name);
      left -= bytes.length;
    }
  }

  #remember(name, bytes) {
    const at = this.#memory.get(name)?.at ?? this.#now();
    this.#memory.delete(name);
    this.#memory.set(name, { bytes, at });
    for (const come of this.#awaited.get(name) ?? []) come();
    this.#awaited.delete(name);
  }
}
