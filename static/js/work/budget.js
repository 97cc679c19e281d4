/** How much one peer may send: so much a second in the mean, and at most `burst` at once. */
export class Budget {
  #left;
  #at;
  #now;
  #burst;

  /** @param {number} aSecond @param {number} burst @param {() => number} now milliseconds */
  constructor(aSecond, burst, now) {
    this.aSecond = aSecond;
    this.#burst = burst;
    this.#left = burst;
    this.#now = now;
    this.#at = now();
  }

  /** @param {number} [amount] @returns {boolean} false when it is used up */
  spend(amount = 1) {
    const now = this.#now();
    const earned = Math.max(0, now - this.#at) / 1000 * this.aSecond;
    this.#left = Math.min(this.#burst, this.#left + earned) - amount;
    this.#at = now;
    return this.#left >= 0;
  }
}
