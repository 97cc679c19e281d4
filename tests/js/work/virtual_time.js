// Time that passes at once: a page's timers and its clock run as fast as what they start lets them.
//
// - A timer runs when nothing else happens by itself any more: no messages, no hashes on their way.
// - What is played so is the same each time, however busy the machine is.

const SUBTLE = crypto.subtle;
const digestOf = SUBTLE.digest.bind(SUBTLE);
const KEPT = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
};
const QUIET_TURNS = 3; // a message from one to another may make that one send another

export class VirtualTime {
  ms = 0;
  #due = new Map(); // by number of the timer: { at, run, every }
  #number = 0;
  #hashing = 0;
  #ports = new MessageChannel(); // a timer of the browser's waits 4 ms each time

  /** From now on, for the whole page. */
  begin() {
    const later = (run, ms, args, every) => {
      this.#number += 1;
      const due = { at: this.ms + Math.max(0, Number(ms) || 0), every, run: () => run(...args) };
      this.#due.set(this.#number, due);
      return this.#number;
    };
    const forget = (number) => this.#due.delete(number);
    Object.assign(globalThis, {
      setTimeout: (run, ms, ...args) => later(run, ms, args, null),
      setInterval: (run, ms, ...args) => later(run, ms, args, Math.max(1, ms)),
      clearTimeout: forget,
      clearInterval: forget,
    });
    performance.now = () => this.ms;
    SUBTLE.digest = async (...bytes) => {
      this.#hashing += 1;
      try {
        return await digestOf(...bytes);
      } finally {
        this.#hashing -= 1;
      }
    };
  }

  /** The browser's own clock again. */
  end() {
    Object.assign(globalThis, KEPT);
    delete performance.now;
    delete SUBTLE.digest;
    this.#ports.port1.close();
  }

  /**
   * Let time pass until `done` says so.
   * @param {() => boolean} done @param {number} mostMs
   * @throws {Error} when it is not so by then
   */
  async until(done, mostMs) {
    const end = this.ms + mostMs;
    for (await this.#quiet(); !done(); await this.#quiet()) {
      const next = this.#next();
      if (!next || next[1].at > end) throw new Error(`not so after ${mostMs} ms: ${done}`);
      this.#run(next);
    }
  }

  /** Let so much time pass. @param {number} ms */
  async pass(ms) {
    const end = this.ms + ms;
    for (;;) {
      await this.#quiet();
      const next = this.#next();
      if (!next || next[1].at > end) break;
      this.#run(next);
    }
    this.ms = end;
  }

  #next() {
    let first = null;
    for (const timer of this.#due) {
      if (!first || timer[1].at < first[1].at) first = timer;
    }
    return first;
  }

  #run([number, due]) {
    this.ms = Math.max(this.ms, due.at);
    if (due.every === null) this.#due.delete(number);
    else due.at = this.ms + due.every;
    due.run();
  }

  async #quiet() {
    for (let quiet = 0; quiet < QUIET_TURNS;) {
      await new Promise((resolve) => {
        this.#ports.port1.onmessage = resolve;
        this.#ports.port2.postMessage(null);
      });
      quiet = this.#hashing ? 0 : quiet + 1;
    }
  }
}
