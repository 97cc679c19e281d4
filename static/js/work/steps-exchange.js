// What two tabs give each other over the steps of one run, such as velocities or, at each norm, what
// bands of a picture are like: the same on both sides.

import { WireError } from './halves-wire.js';

/**
 * @typedef {'late'|'gone'|'nonsense'|'busy'|'over'} Ending
 *   late: what the other side should give did not come in time.  gone: the link is closed.  nonsense:
 *   what came is no part of this run.  busy: the other side has work of its own.  over: as agreed
 *
 * @typedef {object} Wire how one run crosses
 * @property {(step: number, value: *) => Uint8Array} write
 * @property {(buffer: ArrayBuffer) => {step: number, data: *}} read
 *   throws a TensorError for what is none
 */

export class StepsExchange {
  #link;
  #run;
  #wire;
  #next; // the step that is given next
  #came = new Map(); // by step
  #waiting = null; // { step, resolve }
  #moved;
  /** @type {Ending|null} */
  ended = null;

  /**
   * @param {import('../room/link.js').Link} link
   * @param {{run: number, start: number, wire: Wire, moved?: {received: number, sent: number}}}
   *   options moved: bytes are counted in it
   */
  constructor(link, { run, start, wire, moved = { received: 0, sent: 0 } }) {
    this.#link = link;
    this.#run = run;
    this.#wire = wire;
    this.#moved = moved;
    this.#next = start;
  }

  get run() {
    return this.#run;
  }

  /**
   * Give what this side has of a step, and wait for the other side's.
   * @param {number} step @param {*} value
   * @param {number} withinMs
   * @returns {Promise<*>} the other side's; null when it has ended
   */
  async give(step, value, withinMs) {
    this.send(step, value);
    return this.given(step, withinMs);
  }

  /** Give what this side has of a step. */
  send(step, value) {
    // A step is given again where the device was lost meanwhile: the other side has it then.
    if (this.ended || step !== this.#next) return;
    this.#next += 1;
    const bytes = this.#wire.write(step, value);
    this.#moved.sent += bytes.length;
    this.#link.sendBytes(bytes);
  }

  /** @returns {Promise<*>} what the other side gives of a step; null when it has ended */
  async given(step, withinMs) {
    if (this.ended) return null;
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
   * Bytes of this run came.
   * @throws {WireError} nonsense: this side has not got that far, or had it already
   * @throws {TensorError} for what is none
   */
  take(buffer) {
    const { step, data } = this.#wire.read(buffer);
    const expected = step === this.#next || step === this.#next - 1;
    if (!expected || this.#came.has(step)) {
      throw new WireError('nonsense', `Step ${step} came; it is step ${this.#next}.`);
    }
    this.#moved.received += buffer.byteLength;
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
