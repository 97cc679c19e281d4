// The exchange of velocities between two tabs over the steps of one run: the same on both sides.

import { velocityBytes, WireError } from './halves-wire.js';

/**
 * @typedef {'late'|'gone'|'nonsense'|'busy'|'over'} Ending
 *   late: the other side's velocity did not come in time.  gone: the link is closed.  nonsense: what
 *   came is no velocity of this run.  busy: the other side has work of its own.  over: as agreed
 */

export class HalvesExchange {
  #link;
  #run;
  #shape;
  #next; // the step whose velocity is given next
  #came = new Map(); // by step
  #waiting = null; // { step, resolve }
  /** @type {Ending|null} */
  ended = null;

  /**
   * @param {import('../room/link.js').Link} link
   * @param {{run: number, shape: number[], start: number}} options
   */
  constructor(link, { run, shape, start }) {
    this.#link = link;
    this.#run = run;
    this.#shape = shape;
    this.#next = start;
  }

  get run() {
    return this.#run;
  }

  /**
   * @param {number} step @param {Float32Array} velocity of this side's half
   * @param {number} withinMs
   * @returns {Promise<Float32Array|null>} the other side's; null when it has ended
   */
  async give(step, velocity, withinMs) {
    if (this.ended) return null;
    // A step is asked for again where the device was lost meanwhile: the other side has it then.
    if (step === this.#next) {
      this.#next += 1;
      this.#link.sendBytes(velocityBytes(this.#run, step, velocity, this.#shape));
    }
    if (this.#came.has(step)) return this.#came.get(step);
    const timer = setTimeout(() => this.end('late'), withinMs);
    try {
      return await new Promise((resolve) => {
        this.#waiting = { step, resolve };
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * A velocity of this run came.
   * @throws {WireError} nonsense: this side has not got that far, or had it already
   */
  take({ step, data }) {
    const expected = step === this.#next || step === this.#next - 1;
    if (!expected || this.#came.has(step)) {
      throw new WireError('nonsense', `A velocity of step ${step} came; it is step ${this.#next}.`);
    }
    this.#came.delete(step - 2);
    this.#came.set(step, data);
    if (this.#waiting?.step === step) this.#settle(data);
  }

  /** @param {Ending} why the first one counts */
  end(why) {
    this.ended ??= why;
    this.#settle(null);
  }

  #settle(value) {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve(value);
  }
}
