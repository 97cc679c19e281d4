/** The timers of a host. They go on in a tab that nobody sees, because a Worker keeps them. */
export class HostTimers {
  #worker = new Worker(new URL('timer-worker.js', import.meta.url), { type: 'module' });
  #waiting = new Map(); // by number
  #last = 0;

  constructor() {
    this.#worker.onmessage = ({ data: number }) => {
      const run = this.#waiting.get(number);
      this.#waiting.delete(number);
      run?.();
    };
  }

  /** @param {number} ms @param {() => void} run @returns {() => void} calls it off */
  after(ms, run) {
    const number = ++this.#last;
    this.#waiting.set(number, run);
    this.#worker.postMessage({ number, ms });
    return () => this.#waiting.delete(number);
  }

  /** @param {number} ms @param {() => void} run @returns {() => void} calls it off */
  every(ms, run) {
    let callOff = null;
    const again = () => {
      callOff = this.after(ms, again);
      run();
    };
    callOff = this.after(ms, again);
    return () => callOff();
  }

  close() {
    this.#waiting.clear();
    this.#worker.terminate();
  }
}
