// When nearly everything is begun: who should have which image, so that all end early.
//
// Unfinished images are done no sooner than the k longest of them by the k fastest workers, whatever
// k is; by always giving the longest to the fastest that is also reached (the level algorithm of
// Horvath, Lam and Sethi, 1977). But images move only between chunks, and each time their latent
// does. So this says who has to change: nobody, while the k longest leave the k fastest more time
// than it would cost them to wait until this worker has done its next chunk. Twin of
// queue/genqueue/tail.py.

import { CHUNK_SECONDS } from './cutting.js';

/** Less is no difference between workers: what is measured of them changes from time to time. */
export const CLEARLY_FASTER = 1.3;

/**
 * Whether any of these workers is clearly faster than another: else nobody is to wait for anybody.
 * @param {number[]} paces seconds of a step @returns {boolean}
 */
export const differ = (paces) => Math.min(...paces) * CLEARLY_FASTER < Math.max(...paces);
/** What is not worth an image's way, in steps of the fastest worker. */
const NOT_WORTH_STEPS = 0.2;
/** What the last image may end later than all could, in steps of the fastest worker. */
const LATE_STEPS = 0.5;
/** Images can move this often until all could end, but for the shortest ranges. */
const RANGES_LEFT = 30;
const SHORTEST_SECONDS = CHUNK_SECONDS / 3;
/** Nor is it worth leaving an image for one that is not so much longer, for the fastest. */
const LONGER_SECONDS = CHUNK_SECONDS / 2;
/** Until another one that is fast enough has asked. */
const NEXT_SECONDS = 1.5 * CHUNK_SECONDS;

/**
 * @typedef {object} Left an unfinished image
 * @property {string} name
 * @property {number} seconds that the fastest worker needs for the rest of it
 * @property {string|null} worker who computes it at this moment
 */

export class Tail {
  #ranks = new Map(); // by worker: 1 is the fastest, and all that are as fast
  #places = new Map(); // by image: 1 is the longest
  #seconds = new Map();
  #speeds = new Map(); // by worker, of the fastest's
  /** Of the k longest images and the k fastest workers. ends: seconds until these could have done
   * those; apart: the share of them that others compute, or nobody; speed: of one of the workers,
   * on average. The first is of no k. @type {{ends: number, apart: number, speed: number}[]} */
  #tops = [{ ends: 0, apart: 0, speed: 1 }];
  #ends = 0;
  #slowest; // speed, of the fastest's
  #aStep; // seconds of the fastest

  /**
   * @param {Map<string, number>} paces seconds of a step, by worker; not empty
   * @param {Left[]} images
   */
  constructor(paces, images) {
    const sorted = [...paces.values()].sort((one, other) => one - other);
    const [fastest] = sorted;
    this.#aStep = fastest;
    this.#slowest = fastest / sorted.at(-1);
    const ranks = new Map(sorted.map((pace, before) => [pace, before + 1]).reverse());
    for (const [id, pace] of paces) {
      this.#ranks.set(id, ranks.get(pace));
      this.#speeds.set(id, fastest / pace);
    }
    const longest = images.toSorted((one, other) => other.seconds - one.seconds);
    const settled = new Map(); // by k: how many more of the k longest are at the k fastest
    for (const [before, { name, seconds, worker }] of longest.entries()) {
      this.#places.set(name, before + 1);
      this.#seconds.set(name, seconds);
      const k = Math.max(before + 1, this.#ranks.get(worker) ?? Infinity);
      settled.set(k, (settled.get(k) ?? 0) + 1);
    }
    let [work, speed, well] = [0, 0, 0];
    for (const [before, { seconds }] of longest.entries()) {
      const k = before + 1;
      work += seconds;
      if (k <= sorted.length) {
        speed += fastest / sorted[before];
        well += settled.get(k) ?? 0;
        this.#tops.push({ ends: work / speed, apart: (k - well) / k, speed: speed / k });
      }
      this.#ends = Math.max(this.#ends, work / speed);
    }
  }

  /** @param {string} image @returns {number} that the fastest needs for the rest; 0 when unknown */
  seconds(image) {
    return this.#seconds.get(image) ?? 0;
  }

  /**
   * How long this worker should compute until it asks again: the sooner all could end, the shorter,
   * unless it is as fast as all others, who would not take its image.
   * @param {string} worker @returns {number} seconds
   */
  rangeSeconds(worker) {
    const ours = this.#speeds.get(worker);
    if (ours === undefined || !(slower(ours, 1) || slower(this.#slowest, ours))) return CHUNK_SECONDS;
    return Math.min(CHUNK_SECONDS, Math.max(SHORTEST_SECONDS, this.#ends / RANGES_LEFT));
  }

  /**
   * Whether all would end later if this worker did the next chunk of the image, because those that
   * are faster would have it too late, or because there it ends when all could be done.
   * @param {string} image @param {string} worker
   * @param {number} seconds of that chunk, with the decoding where it is the last
   * @param {boolean} isLast
   * @returns {boolean}
   */
  isTooSlow(image, worker, seconds, isLast) {
    if (!this.#places.has(image) || !this.#ranks.has(worker)) return false;
    const ours = this.#speeds.get(worker);
    if (isLast && slower(ours, 1) && seconds > this.#ends + LATE_STEPS * this.#aStep) return true;
    return this.#tops.slice(this.#places.get(image), this.#ranks.get(worker)).some(
      ({ ends, apart, speed }) => (
        ends + seconds * slower(ours, speed) * apart > this.#ends + NOT_WORTH_STEPS * this.#aStep));
  }

  /**
   * Whether a worker should leave its own image for a longer one, and the own one to slower workers.
   * @param {string} worker @param {string} own @param {string} other images
   * @returns {boolean}
   */
  isNeededAt(worker, own, other) {
    if (this.seconds(other) <= this.seconds(own) + LONGER_SECONDS) return false;
    if (!this.#places.has(own) || !this.#ranks.has(worker)) return false;
    const first = Math.max(this.#ranks.get(worker), this.#places.get(other));
    return this.#tops.slice(first, this.#places.get(own)).some(
      ({ ends, apart }) => ends + NEXT_SECONDS * apart > this.#ends);
  }
}

/** The share of the time that it takes longer. */
const slower = (ours, theirs) => (ours * CLEARLY_FASTER < theirs ? 1 - ours / theirs : 0);
