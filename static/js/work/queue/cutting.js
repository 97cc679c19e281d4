// How much one worker is given at a time: about CHUNK_SECONDS of its measured speed, less near the end
// of a batch (tail.js).
//
// Measured seconds per step, encode and decode also tell who is clearly faster, and what is to be
// expected when. Twin of queue/genqueue/speeds.py.

export const CHUNK_SECONDS = 3;
export const STEPS_BEFORE_ANY_MEASUREMENT = 2;
const SAMPLES_KEPT = 9;

/**
 * @typedef {object} Speed measured on one worker for one kind of chunk
 * @property {'encode'|'denoise'|'decode'} kind
 * @property {number[]} samples the newest seconds, oldest first
 * @property {number} seconds median of the samples: per step, or per encode or decode
 */

/**
 * What has a speed of its own, as a name. Encoding does not depend on the size: there it is 0 x 0.
 * @param {'encode'|'denoise'|'decode'} kind
 * @param {{model: string, width: number, height: number, guidance: number}} settings
 * @returns {string}
 */
export function speedKey(kind, { model, width, height, guidance }) {
  const size = kind === 'encode' ? [0, 0] : [width, height];
  return JSON.stringify([kind, model, ...size, guidance > 1 ? 2 : 1]);
}

/**
 * Add one finished chunk. The median of the newest few forgets a slow first run.
 * @param {Record<string, Speed>} speeds of the worker, by speedKey; changed
 * @param {'encode'|'denoise'|'decode'} kind
 * @param {object} settings of the job
 * @param {number} steps 0 for what is not measured by steps
 * @param {number} seconds all that passed until it was handed in: that is what others wait for
 */
export function record(speeds, kind, settings, steps, seconds) {
  const key = speedKey(kind, settings);
  const one = Math.round((steps ? seconds / steps : seconds) * 1e5) / 1e5;
  const samples = [...(speeds[key]?.samples ?? []), one].slice(-SAMPLES_KEPT);
  delete speeds[key]; // what was measured last is the last one
  speeds[key] = { kind, samples, seconds: median(samples) };
}

/**
 * @typedef {object} Portion how many steps a worker does at a time
 * @property {number} steps
 * @property {number} most so many if then none are left
 */

/**
 * What this worker does in about so long; little until that is measured. A rest of less than half a
 * range is not worth a lease of its own and goes with it; but not where ranges are shorter than
 * CHUNK_SECONDS, so that images can move between them.
 * @param {number|null|undefined} secondsAStep
 * @param {number} [seconds]
 * @returns {Portion} at least 1
 */
export function portion(secondsAStep, seconds = CHUNK_SECONDS) {
  const steps = secondsAStep
    ? Math.max(1, roundHalfEven(seconds / secondsAStep)) : STEPS_BEFORE_ANY_MEASUREMENT;
  return { steps, most: seconds < CHUNK_SECONDS ? steps : Math.floor((3 * steps - 1) / 2) };
}

/** @param {Portion} portion @param {number} left @returns {number} steps of the next range */
export const stepsOf = ({ steps, most }, left) => (left <= most ? left : steps);

/** All measured speeds, as they are now. */
export class Speeds {
  #workers;
  #guesses = new Map();

  /** @param {Map<string, {speeds: Record<string, Speed>}>} workers by id */
  constructor(workers) {
    this.#workers = workers;
  }

  /**
   * Seconds per step, encode or decode: as measured, or else as the others suggest. Each other
   * worker that has done this kind suggests its own seconds, times how much slower this one was at
   * what both have done of that stage.
   * @param {string|null} workerId @param {string} key of speedKey
   * @returns {number|null} null when nobody has done this kind yet
   */
  seconds(workerId, key) {
    const measured = this.measured(workerId, key);
    if (measured !== null) return measured;
    const asked = `${workerId} ${key}`;
    if (!this.#guesses.has(asked)) this.#guesses.set(asked, this.#guess(workerId, key));
    return this.#guesses.get(asked);
  }

  /** @param {string|null} workerId @param {string} key @returns {number|null} */
  measured(workerId, key) {
    return this.#of(workerId)[key]?.seconds ?? null;
  }

  /**
   * The same for telling who is faster: null also for a worker that has done nothing of that stage,
   * of which the others suggest only that it is like them.
   * @param {string|null} workerId @param {string} key @returns {number|null}
   */
  compared(workerId, key) {
    const [kind] = JSON.parse(key);
    const known = Object.values(this.#of(workerId)).some((speed) => speed.kind === kind);
    return known ? this.seconds(workerId, key) : null;
  }

  #of(workerId) {
    return this.#workers.get(workerId)?.speeds ?? {};
  }

  #guess(workerId, key) {
    const [kind] = JSON.parse(key);
    const ours = Object.entries(this.#of(workerId)).filter(([, speed]) => speed.kind === kind);
    const suggested = [];
    for (const { speeds } of this.#workers.values()) {
      if (!(key in speeds)) continue;
      const both = ours.filter(([name]) => speeds[name]?.seconds);
      const ratios = both.map(([name, speed]) => speed.seconds / speeds[name].seconds);
      suggested.push(speeds[key].seconds * (ratios.length ? median(ratios) : 1));
    }
    return suggested.length ? median(suggested) : null;
  }
}

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// As Python rounds, so that both queues cut alike.
function roundHalfEven(number) {
  const down = Math.floor(number);
  const part = number - down;
  if (part === 0.5) return down % 2 ? down + 1 : down;
  return part > 0.5 ? down + 1 : down;
}
