// Who has helped with one chunk: said with its result, for the picture's timeline.

import { MOST_PARTNERS } from './queue/partners.js';

export class Ledger {
  #by = new Map();

  /**
   * Something that another tab computed is in the result.
   * @param {string|null} worker its id; null: none that the queue knows
   * @param {{steps?: number, received: number, sent: number}} part steps: of which it computed a half;
   *   bytes from it and to it
   */
  note(worker, { steps = 0, received, sent }) {
    if (worker === null) return;
    const known = this.#by.get(worker) ?? { worker, steps: 0, received: 0, sent: 0 };
    this.#by.set(worker, {
      worker, steps: known.steps + steps, received: known.received + received,
      sent: known.sent + sent,
    });
  }

  /** @returns {object[]} as `work.complete` has it */
  get partners() {
    return [...this.#by.values()].slice(0, MOST_PARTNERS);
  }
}
