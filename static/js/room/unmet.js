// Who is there and cannot be met, as long as that is true: until they are met, or until nothing has
// come of them for a while. Both ends try again about once a minute, so what goes on is seen anew.

const HOLDS_S = 100;

/**
 * @typedef {{code: 'wrong-password'|'no-way'|'other-version', message: string}} Problem message: a
 *   sentence
 */

export class Unmet {
  #known = new Map(); // by the id of who it is: { problem, age }, the newest last
  #onChange;
  #said = null; // its code

  /** @param {(problem: Problem|null) => void} onChange what is to be said now is another one */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** @param {string} id of a peer @param {Problem} problem */
  add(id, problem) {
    this.#known.delete(id);
    this.#known.set(id, { problem, age: 0 });
    this.#tell();
  }

  /** This one was met. @param {string} id */
  met(id) {
    if (this.#known.delete(id)) this.#tell();
  }

  /** Called every second. */
  tick() {
    for (const [id, one] of this.#known) {
      one.age += 1;
      if (one.age > HOLDS_S) this.#known.delete(id);
    }
    this.#tell();
  }

  #tell() {
    const problem = [...this.#known.values()].at(-1)?.problem ?? null;
    const code = problem?.code ?? null;
    if (code === this.#said) return;
    this.#said = code;
    this.#onChange(problem);
  }
}
