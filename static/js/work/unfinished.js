// Whether a room has something to compute, as its messages say (docs/api-websocket.md).

const WAITS = ['queued', 'running'];

export class Unfinished {
  #jobs = new Set();
  #paused = false;
  /** That of the newest message. */
  revision = 0;

  /** Whether there is work, for whomever. */
  get some() {
    return this.#jobs.size > 0 && !this.#paused;
  }

  /**
   * @param {object} message of the room; others are passed over
   * @returns {boolean} false when something before it was lost
   */
  hear(message) {
    if (message.type === 'room.state') {
      this.#jobs = new Set();
    } else if (message.type !== 'room.changed') {
      return message.type !== 'peer.beat' || message.revision === this.revision;
    } else if (message.since !== this.revision) {
      return false;
    }
    for (const { id, state } of message.jobs ?? []) {
      if (WAITS.includes(state)) this.#jobs.add(id);
      else this.#jobs.delete(id);
    }
    for (const id of message.gone ?? []) this.#jobs.delete(id);
    this.#paused = message.room?.paused === true;
    this.revision = message.revision;
    return true;
  }
}
