// Nobody's data plan pays for a download that they did not agree to.

import { PackageError } from './errors.js';

export const FREE_BYTES = 50_000_000; // fetched without a question

/**
 * @typedef {object} DownloadQuestion
 * @property {number} bytes that would be fetched
 * @property {string} title of the model
 * @property {boolean} saveData whether the browser was told to save data
 * @property {boolean|null} fits whether the browser has room to store them, as far as it says; null
 *   if it does not say. What is not stored is fetched again the next time
 */

/** Which shards may be fetched, and asking about the others. */
export class Agreement {
  #shards;
  #confirm;
  #agreed = new Set(); // numbers of shards
  #free;
  #asking = Promise.resolve();

  /**
   * @param {Shard[]} shards
   * @param {((bytes: number, saveData: boolean) => Promise<boolean>)|null} confirm
   */
  constructor(shards, confirm) {
    this.#shards = shards;
    this.#confirm = confirm;
    this.saveData = globalThis.navigator?.connection?.saveData === true;
    this.#free = this.saveData ? 0 : FREE_BYTES;
  }

  /**
   * Counts these as agreed to, if that needs no question.
   * @param {Iterable<number>} numbers
   * @returns {boolean} whether they may be fetched
   */
  take(numbers) {
    const fresh = [...new Set(numbers)].filter((number) => !this.#agreed.has(number));
    const bytes = this.#sum(fresh);
    if (bytes > this.#free) return false;
    this.#free -= bytes;
    for (const number of fresh) this.#agreed.add(number);
    return true;
  }

  /**
   * Asks, if they are more than may be fetched without.
   * @param {Iterable<number>} needed shards that are to be fetched now
   * @param {() => Iterable<number>} intended all that will be fetched in the end: what the question
   *   is about
   * @throws {PackageError} `declined`
   */
  async cover(needed, intended) {
    // One question at a time: its answer may settle what others wait for.
    const turn = this.#asking.then(() => this.#cover(needed, intended));
    this.#asking = turn.catch(() => {});
    return turn;
  }

  async #cover(needed, intended) {
    if (this.take(needed)) return;
    const all = [...new Set([...needed, ...intended()])].filter((n) => !this.#agreed.has(n));
    const bytes = this.#sum(all);
    if (!this.#confirm) {
      throw new PackageError(
        'declined',
        `The model needs a download of ${megabytes(bytes)}, which nobody was asked about.`);
    }
    if (!await this.#confirm(bytes, this.saveData)) {
      throw new PackageError('declined', `The download of ${megabytes(bytes)} was declined.`);
    }
    for (const number of all) this.#agreed.add(number);
  }

  #sum(numbers) {
    return numbers.reduce((bytes, number) => bytes + this.#shards[number].bytes, 0);
  }
}

const megabytes = (bytes) => `${Math.ceil(bytes / 1e6).toLocaleString('en')} MB`;
