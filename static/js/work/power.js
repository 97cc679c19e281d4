// How much of the time a tab computes: after each piece of work it rests, so that of all the time it
// computes at most a share. Rests are owed and paid: one that was too long makes the next one shorter.

import { HostTimers } from './host-timers.js';

const SHORTEST_REST_MS = 5; // less is owed until it is worth a timer
const LONGEST_CREDIT_MS = 1000;

export class Power {
  #timers;
  #now;
  #owedMs = 0;
  #wake = null; // ends the rest at once

  /** Of all the time, above 0 and at most 1. */
  share = 1;

  /**
   * @param {object} [options]
   * @param {() => number} [options.now] milliseconds
   * @param {{after(ms: number, run: () => void): () => void, close(): void}} [options.timers] that go
   *   on in a tab that nobody sees; made when there is a rest, because they are a Worker
   */
  constructor({ now = () => performance.now(), timers = null } = {}) {
    this.#now = now;
    this.#timers = timers;
  }

  /** @param {number} ms of computing have passed */
  worked(ms) {
    this.#owedMs = this.share === 1 ? 0 : this.#owedMs + ms * (1 / this.share - 1);
  }

  /** @returns {number} how long the next rest takes, 0 for none */
  get restMs() {
    return this.#owedMs < SHORTEST_REST_MS ? 0 : this.#owedMs;
  }

  /** Another share counts from now on: who rests for the old one goes on. @param {number} share */
  limit(share) {
    if (share === this.share) return;
    this.share = share;
    this.#owedMs = 0;
    this.#wake?.();
  }

  /** @param {AbortSignal} [signal] ends it @returns {Promise<void>} when all that is owed is paid */
  async rest(signal) {
    const began = this.#now();
    const ms = this.restMs;
    if (!ms || signal?.aborted) return;
    this.#timers ??= new HostTimers();
    let wake;
    await new Promise((resolve) => {
      wake = this.#wake = resolve;
      this.#timers.after(ms, resolve);
      signal?.addEventListener('abort', resolve, { once: true });
    });
    if (this.#wake === wake) this.#wake = null;
    this.#owedMs = Math.max(this.#owedMs - (this.#now() - began), -LONGEST_CREDIT_MS);
  }

  close() {
    this.#wake?.();
    this.#timers?.close();
  }
}
