// How much goes into one submission: what takes a device a tenth of a second, by its own measure.
//
// While a submission runs, a GPU draws no window and serves no other program; Windows takes it away
// after two seconds. Dispatches of a kind that nobody has measured yet are submitted alone and
// timed, beginning with a small part of their workgroups, so that even a very long one is never
// submitted whole. From then on dispatches go together as long as their times allow, a whole step
// at once on a fast device, and those that are too long alone go in parts.
// queue/diffusion/backends/wgpu_pace.py does the same.

const LONGEST_SUBMISSION_MS = 100;
const REMEMBERED = 4096;
const PROBES = 32; // of a dispatch of unknown length this part is tried first

/**
 * @typedef {[number, number, number]} Groups workgroups in x, y, z
 *
 * @typedef {{kind: string, groups: Groups}} Task a dispatch; those of one kind take the same time
 *
 * @typedef {{number: number, first: Groups, groups: Groups}} Part
 *   workgroups of a dispatch: `groups` of them from `first` on. number: of its task
 */

/**
 * A dispatch in at least `wanted` nearly equal parts, as far as it has so many workgroups.
 * @param {number} number @param {Groups} groups @param {number} wanted
 * @returns {Part[]}
 */
export const parts = (number, groups, wanted) => cut(whole(number, groups), wanted);

const whole = (number, groups) => ({ number, first: [0, 0, 0], groups });

function cut(part, wanted) {
  const axis = longestAxis(part.groups);
  const count = part.groups[axis];
  const slabs = Math.min(wanted, count);
  if (slabs <= 1) return [part];
  return Array.from({ length: slabs }, (_, number) => {
    const [start, stop] = [number, number + 1].map((end) => Math.floor(count * end / slabs));
    return cut(slab(part, axis, start, stop), Math.ceil(wanted / slabs));
  }).flat();
}

const longestAxis = (groups) => groups.indexOf(Math.max(...groups));

function slab({ number, first, groups }, axis, start, stop) {
  return {
    number,
    first: first.with(axis, first[axis] + start),
    groups: groups.with(axis, stop - start),
  };
}

export class Pace {
  #longestMs;
  #now;
  #times = new Map(); // ms by kind, the one used last at the end

  /**
   * @param {number} [longestMs] Infinity: everything at once, nothing is measured
   * @param {() => number} [now] a clock in ms
   */
  constructor(longestMs = LONGEST_SUBMISSION_MS, now = () => performance.now()) {
    this.#longestMs = longestMs;
    this.#now = now;
  }

  /**
   * Submits all tasks in order.
   * @param {Task[]} tasks
   * @param {(batches: Part[][], last: boolean) => Promise<void>} submit each batch at once. last:
   *   nothing follows; it is called so once, even without any batch
   * @param {() => Promise<void>} wait resolves when all that was submitted is done
   */
  async run(tasks, submit, wait) {
    let batches = [];
    let room = 0; // ms, in the last one of them
    for (const [number, { kind, groups }] of tasks.entries()) {
      const known = this.#known(kind);
      if (known === undefined) {
        if (batches.length) await submit(batches, false);
        batches = [];
        this.#remember(kind, await this.#measure(number, groups, submit, wait));
        continue;
      }
      const cut = parts(number, groups, Math.ceil(known / this.#longestMs));
      const each = known / cut.length;
      for (const part of cut) {
        if (!batches.length || room < each) {
          batches.push([]);
          room = this.#longestMs;
        }
        batches.at(-1).push(part);
        room -= each;
      }
    }
    await submit(batches, true);
  }

  #known(kind) {
    if (this.#longestMs === Infinity) return 0;
    const known = this.#times.get(kind);
    if (known !== undefined) this.#remember(kind, known);
    return known;
  }

  #remember(kind, ms) {
    this.#times.delete(kind);
    this.#times.set(kind, ms);
    if (this.#times.size > REMEMBERED) this.#times.delete(this.#times.keys().next().value);
  }

  /**
   * Submits a dispatch in slabs, each as long as the one before it lets expect to be short; the
   * milliseconds of all. What the first of several takes is not counted: drivers finish pipelines
   * when these first run.
   */
  async #measure(number, groups, submit, wait) {
    const axis = longestAxis(groups);
    const count = groups[axis];
    let size = Math.ceil(count / PROBES);
    let counted = 0;
    let ms = 0;
    await wait(); // what was submitted before, and the values that were written
    for (let done = 0; done < count;) {
      const stop = Math.min(done + size, count);
      const began = this.#now();
      await submit([[slab(whole(number, groups), axis, done, stop)]], false);
      await wait();
      const took = this.#now() - began;
      if (done > 0 || stop === count) {
        counted += stop - done;
        ms += took;
      }
      size = Math.max(Math.floor(this.#longestMs / (took / (stop - done))), 1);
      done = stop;
    }
    return ms / counted * count;
  }
}
