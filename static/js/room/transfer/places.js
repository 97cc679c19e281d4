/** So many at once; others wait, first come first. */
export class Places {
  #free;
  #waiting = [];

  /** @param {number} places */
  constructor(places) {
    this.#free = places;
  }

  /**
   * @param {AbortSignal} [signal]
   * @returns {Promise<() => void>} to be called once, by who leaves
   * @throws the signal's reason
   */
  async enter(signal) {
    signal?.throwIfAborted();
    if (this.#free) this.#free -= 1;
    else await this.#wait(signal);
    return () => this.#leave();
  }

  #wait(signal) {
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1);
        reject(signal.reason);
      };
      const go = () => {
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      signal?.addEventListener('abort', stop);
      this.#waiting.push(go);
    });
  }

  #leave() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}
