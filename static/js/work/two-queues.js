// One worker, two queues: that of its room at the site, and that which exported pages share in the
// same room (elsewhere.js). The site's goes first; there the worker is whenever it can be of use.
//
// To its worker this is the wire, and to the page it is the worker.

import { Elsewhere } from './elsewhere.js';

const IDLE_MS = 2000; // without a chunk at the site, before it looks elsewhere

/** @typedef {{send(message: object): void, sendBytes(bytes: Uint8Array): void, buffered: number}} Wire */

export class TwoQueues {
  #home;
  #waits; // whether something waits at the site
  #connected = false; // the site's socket is open
  #elsewhere = null;
  #away = false;
  #worker = null;
  #idleSince = null;
  #unwanted = new Set(); // ids of holders that have no use for this worker
  #moving = false;
  #moved = () => {};

  /** @param {Wire} home to the site @param {() => boolean} waits whether there is work at the site */
  constructor(home, waits) {
    this.#home = home;
    this.#waits = waits;
  }

  /** Whether it computes for the exported pages. */
  get isAway() {
    return this.#away;
  }

  /** @param {import('./tab-worker.js').TabWorker} worker whose wire this is */
  employ(worker) {
    this.#worker = worker;
  }

  /**
   * Others are met from now on.
   * @param {Pick<import('./elsewhere.js').ElsewhereOptions, 'network'|'client'|'timers'>
   *   & {moved: () => void}} options moved: `isAway` has changed
   */
  meets({ moved, ...options }) {
    this.#moved = moved;
    this.#elsewhere = new Elsewhere({
      ...options,
      receive: (message) => this.#fromElsewhere(message),
      receiveBytes: (bytes) => this.#away && this.#worker?.receiveBytes(bytes),
      changed: () => this.#consider(),
    });
    options.timers.every(1000, () => this.#consider());
  }

  /** Who is met has changed. */
  met() {
    this.#elsewhere?.consider();
  }

  /** @param {import('./tab-worker.js').TabState} state that the worker says */
  stated({ state }) {
    this.#idleSince = state === 'waiting' ? this.#idleSince ?? performance.now() : null;
    if (state === 'waiting') queueMicrotask(() => this.#consider());
  }

  close() {
    this.#worker = null;
    this.#elsewhere?.close();
  }

  // The worker's wire -----------------------------------------------------------------------------
  send(message) {
    this.#wire.send(message);
  }

  sendBytes(bytes) {
    this.#wire.sendBytes(bytes);
  }

  get buffered() {
    return this.#wire.buffered;
  }

  get #wire() {
    return this.#away ? this.#elsewhere : this.#home;
  }

  // The page's worker -----------------------------------------------------------------------------
  connected() {
    this.#connected = true;
    if (!this.#away) this.#worker?.connected();
  }

  disconnected() {
    this.#connected = false;
    if (!this.#away) this.#worker?.disconnected();
  }

  receive(message) {
    if (message.type.startsWith('work.')) {
      if (!this.#away) this.#worker?.receive(message);
    } else {
      this.#consider();
    }
  }

  receiveBytes(bytes) {
    if (!this.#away) this.#worker?.receiveBytes(bytes);
  }

  #fromElsewhere(message) {
    if (!this.#away) return;
    if (message.type !== 'work.dismissed') {
      this.#worker?.receive(message);
      return;
    }
    this.#unwanted.add(this.#elsewhere.holder); // it has another model, for example
    this.#move(false);
  }

  // Where to be -----------------------------------------------------------------------------------
  #consider() {
    if (!this.#worker || this.#moving || !this.#elsewhere) return;
    const { holder, hasWork } = this.#elsewhere;
    const use = hasWork && !this.#unwanted.has(holder);
    if (this.#away) {
      const idle = this.#idleSince !== null;
      if (holder === null || (idle && (!use || this.#waits()))) this.#move(false);
    } else if (use && this.#idleSince !== null && performance.now() - this.#idleSince >= IDLE_MS) {
      this.#move(true);
    }
  }

  #move(away) {
    this.#moving = true; // the worker says how it is, in between
    this.send({ type: 'work.goodbye' });
    this.#away = away;
    if (away || this.#connected) this.#worker.connected();
    else this.#worker.disconnected();
    this.#idleSince = null;
    this.#moving = false;
    this.#moved();
  }
}
