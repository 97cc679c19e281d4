// Whether the other end of a connection is still there, and how far away it is.
//
// A killed tab says nothing, and WebRTC takes 10 to 13 s to notice. Silence is counted in the ticks
// of this tab, not by the clock: a computer that slept, or a page that was busy, has not listened.

export const BEAT_EVERY_MS = 3000;
export const GONE_AFTER_MS = 9000; // and a tick of 1 s: within 10 s
const LONGEST_TICK_MS = 2000;

export class Heartbeat {
  #send;
  #now;
  #tickedAt;
  #silentMs = 0;
  #sinceBeatMs = BEAT_EVERY_MS;
  #number = 0;
  #sentAt = null;

  /** Milliseconds there and back, the newest measured, or null. */
  roundTripMs = null;

  /**
   * @param {(number: number) => void} send sends a beat, which the other end answers with its number
   * @param {() => number} [now] milliseconds
   */
  constructor(send, now = () => performance.now()) {
    this.#send = send;
    this.#now = now;
    this.#tickedAt = now();
  }

  /** Something came from the other end. */
  heard() {
    this.#silentMs = 0;
  }

  /** @param {unknown} number of the beat that was answered */
  answered(number) {
    if (number !== this.#number || this.#sentAt === null) return;
    this.roundTripMs = this.#now() - this.#sentAt;
    this.#sentAt = null;
  }

  /** Called every second. @returns {boolean} false when the other end is gone */
  tick() {
    const now = this.#now();
    const passedMs = Math.min(now - this.#tickedAt, LONGEST_TICK_MS);
    this.#tickedAt = now;
    this.#silentMs += passedMs;
    if (this.#silentMs >= GONE_AFTER_MS) return false;
    this.#sinceBeatMs += passedMs;
    if (this.#sinceBeatMs >= BEAT_EVERY_MS - LONGEST_TICK_MS / 4) {
      this.#sinceBeatMs = 0;
      this.#number += 1;
      this.#sentAt = now;
      this.#send(this.#number);
    }
    return true;
  }
}
