// When unfinished jobs will be done, by what was measured: who computes an image goes on with it, and
// every other image goes, in its turn, to the worker with whom it is done first, among those that do
// not put somebody else's first.
//
// It does not know what queue/genqueue/simulation.py does of the moments in between: chunks that a
// faster worker takes over, and how much of the present step is over; like that one, it does not
// expect that a worker leaves an image for its own person's. Nor what nobody knows: jobs that will be
// added, and who will come or go.

import { Speeds, speedKey } from './cutting.js';
import { unfinishedImages } from './records.js';

/**
 * @param {import('./records.js').Records} records
 * @param {import('./records.js').Worker[]} present
 * @param {import('./records.js').Job[]} jobs unfinished
 * @param {import('./records.js').Job[]} turns one for each image that nobody has begun
 * @returns {Map<string, number|null>} seconds from now until a job's last image is done; null where
 *   a speed that it takes was never measured, while nobody can do it and while the room is paused
 */
export function endsOf(records, present, jobs, turns) {
  const ends = new Map(jobs.map(({ id }) => [id, records.paused ? null : 0]));
  if (records.paused) return ends;
  const hands = new Hands(records, present, turns);
  const notLater = (job, end) => {
    const known = ends.get(job.id);
    ends.set(job.id, known === null || end === null ? null : Math.max(known, end));
  };
  const orphans = [];
  for (const job of jobs) {
    for (const image of unfinishedImages(job)) {
      if (image.picture !== null) continue; // it waits for checks, which come first
      if (image.state === 'queued' && image.worker === null) continue; // in its turn
      if (hands.has(image.worker)) notLater(job, hands.goOn(image.worker, job, image));
      else orphans.push([job, image]);
    }
  }
  const isLate = ([job]) => hands.putOthersFirst(job);
  const late = orphans.filter(isLate);
  for (const [job, image] of orphans.filter((one) => !isLate(one))) {
    notLater(job, hands.begin(job, image));
  }
  for (const job of turns) {
    hands.comesUp(job);
    notLater(job, hands.begin(job, null));
  }
  for (const [job, image] of late) notLater(job, hands.begin(job, image));
  for (const [id, end] of ends) ends.set(id, end === null ? null : Math.round(end * 100) / 100);
  return ends;
}

/** @param {import('./records.js').Worker} worker @param {import('./records.js').Job} job */
export const canDo = ({ models }, { settings }) => models.includes(settings.model);

/** Whether the worker does this before what others asked for.
 * @param {import('./records.js').Worker} worker @param {import('./records.js').Job} job */
export const prefers = (worker, job) => (
  Boolean(worker.ownFirst) && worker.client === job.client && canDo(worker, job));

/** Workers, and when each is free. */
class Hands {
  #present;
  #speeds;
  #free; // by id: seconds; null while that is not known
  #encoded; // by job: seconds until its texts are there; null while nobody has begun them
  #paces = new Map(); // by kind of job, then by worker: seconds { encode, step, decode }
  #own; // by id: how many turns are to come that the worker puts first

  constructor(records, present, turns) {
    this.#present = present;
    this.#speeds = new Speeds(records.workers);
    this.#free = new Map(present.map(({ id }) => [id, 0]));
    this.#own = new Map(present.map(
      (worker) => [worker.id, turns.filter((job) => prefers(worker, job)).length]));
    const waiting = [...records.chunks.values()].filter(({ kind }) => kind === 'encode');
    this.#encoded = new Map(waiting.map(({ job }) => [job, null]));
  }

  has(id) {
    return this.#free.has(id);
  }

  /** Whether all who could do it put something else first. */
  putOthersFirst(job) {
    const able = this.#present.filter((worker) => canDo(worker, job));
    return able.length > 0 && able.every((worker) => this.#putsAnotherFirst(worker, job));
  }

  #putsAnotherFirst(worker, job) {
    return this.#own.get(worker.id) > 0 && !prefers(worker, job);
  }

  /** Its turn is no longer to come. */
  comesUp(job) {
    for (const worker of this.#present) {
      if (prefers(worker, job)) this.#own.set(worker.id, this.#own.get(worker.id) - 1);
    }
  }

  /** The worker's own image. @returns {number|null} when it is done */
  goOn(id, job, image) {
    const free = this.#free.get(id);
    const takes = taken(this.#pace(id, job), job, image);
    const end = free === null || takes === null ? null : free + takes;
    this.#free.set(id, end);
    return end;
  }

  /** @param {object|null} image null: one that nobody has begun. @returns {number|null} */
  begin(job, image) {
    let [first, soonest] = [null, Infinity];
    const nobody = this.putOthersFirst(job); // not in the order of turns: then whoever can
    for (const worker of this.#present) {
      if (!canDo(worker, job) || (!nobody && this.#putsAnotherFirst(worker, job))) continue;
      const { id } = worker;
      const end = this.#endWith(id, job, image);
      if (end !== null && end < soonest) [first, soonest] = [id, end];
    }
    if (first === null) return null;
    if (this.#encoded.get(job.id) === null) {
      this.#encoded.set(job.id, this.#free.get(first) + this.#pace(first, job).encode);
    }
    this.#free.set(first, soonest);
    return soonest;
  }

  #endWith(id, job, image) {
    const free = this.#free.get(id);
    const pace = this.#pace(id, job);
    const takes = taken(pace, job, image);
    if (free === null || takes === null) return null;
    if (!this.#encoded.has(job.id)) return free + takes;
    const encoded = this.#encoded.get(job.id);
    if (encoded !== null) return Math.max(free, encoded) + takes;
    return pace.encode === null ? null : free + pace.encode + takes;
  }

  #pace(id, { settings }) {
    const kind = speedKey('denoise', settings);
    if (!this.#paces.has(kind)) this.#paces.set(kind, new Map());
    const paces = this.#paces.get(kind);
    if (!paces.has(id)) {
      const seconds = (what) => this.#speeds.seconds(id, speedKey(what, settings));
      paces.set(id, {
        encode: seconds('encode'), step: seconds('denoise'), decode: seconds('decode'),
      });
    }
    return paces.get(id);
  }
}

/** Steps that are missing, and the decoding. */
function taken({ step, decode }, { settings: { steps } }, image) {
  return step === null || decode === null ? null : (steps - (image?.step ?? 0)) * step + decode;
}
