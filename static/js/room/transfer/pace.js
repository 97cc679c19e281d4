// How much may lie in the channel's buffer: a fifth of a second's worth, so that a short message
// that comes next does not wait longer, and never so little that the network waits for this thread.

const LEAST_BYTES = 2 ** 17;
const MOST_BYTES = 2 ** 20;
const AHEAD_MS = 200;

export class Pace {
  #most = 2 * LEAST_BYTES;
  #full = null; // { bytes, at }: since when it has been

  /** The buffer is low at half of what it may hold. */
  get lowBytes() {
    return this.#most / 2;
  }

  /** @param {number} buffered bytes @param {number} now ms */
  takesMore(buffered, now) {
    if (this.#full && buffered <= this.lowBytes) this.low(buffered, now);
    // Once full it is left alone until it is low: filled up all the time it would say no speed.
    if (this.#full) return false;
    if (buffered < this.#most) return true;
    this.#full = { bytes: buffered, at: now };
    return false;
  }

  /** The buffer has become low. @param {number} buffered bytes @param {number} now ms */
  low(buffered, now) {
    if (!this.#full) return;
    const perMs = (this.#full.bytes - buffered) / Math.max(1, now - this.#full.at);
    this.#full = null;
    // Empty: it went faster than this thread could see.
    const most = buffered === 0 ? this.#most * 2 : (this.#most + perMs * AHEAD_MS) / 2;
    this.#most = Math.min(MOST_BYTES, Math.max(LEAST_BYTES, most));
  }
}
