// What steps took in this tab, by size of the latent: seconds, the median of the last few, so that a
// step during which the computer did something else does not count.

const KEPT = 8;

export class Speeds {
  #seconds = new Map();

  /**
   * @param {'alone'|'half'|'opening'|'decode'|'banding'} kind a step with both halves of guidance in
   *   one batch, or with one of them; what comes before the first step of a split; a picture; what
   *   one in bands took beyond what was expected
   * @param {number[]} shape of the latent @param {number} seconds
   */
  note(kind, shape, seconds) {
    const key = `${kind} ${shape}`;
    const all = this.#seconds.get(key) ?? [];
    this.#seconds.set(key, [...all, seconds].slice(-KEPT));
  }

  /** @returns {number|null} null before anything was measured */
  of(kind, shape) {
    const all = this.#seconds.get(`${kind} ${shape}`);
    return all ? median(all) : null;
  }
}

/** @param {number[]} numbers at least one @returns {number} of an even number the lower one */
export const median = (numbers) =>
  [...numbers].sort((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)];
