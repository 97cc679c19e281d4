// Spot checks: what a worker hands in that is not taken on trust, and whether somebody looks. Twin of
// queue/genqueue/checks.py; docs/checks.md is the whole story.
//
// - Every lease of a worker that is not trusted with the job has a record: where it began, and the
//   newest that it has handed in. Nobody can choose afterwards what will be looked at.
// - When the lease ends, well or not, it is drawn: always, until its worker has PROVEN results that
//   others have computed alike; then with probability max(1/n, LEAST_SHARE).
// - What is drawn is `open`, and a chunk of kind `check` waits for another client. What is settled is
//   no record any more.
//
// Who asked for a picture is trusted with it: its own tabs are not checked at its own jobs. The
// client that holds the queue is trusted as a checker, since the verdict is its own anyway; what its
// tabs compute for others is checked by these.

import { noteCheck } from './timeline.js';
import { imageEnded, move } from './transitions.js';

export const PROVEN = 10; // results found right, before which all are checked
export const LEAST_SHARE = 0.05;
// What nobody could check is kept with its files, which lie in browsers here: shorter than at a site
export const KEPT_FOR_MS = 600e3;
export const MOST_KEPT = 100; // of jobs that have ended
export const MOST_OPINIONS = 2; // of untrusted checkers who disagree; then only a trusted one decides

/**
 * @typedef {object} Check what was handed in under one lease
 * @property {string} id of the lease: its chunk and attempt
 * @property {string} job @property {number|null} image index, null of `encode`
 * @property {'encode'|'denoise'|'decode'} kind
 * @property {number} start @property {number} stop steps of a `denoise`
 * @property {'held'|'open'|'spared'|'lapsed'} state
 * @property {string|null} given the latent where it began; null: the noise, or a prompt
 * @property {string|null} conditioning with which steps were computed
 * @property {string|null} result the newest under the lease; null while nothing has come
 * @property {string} worker @property {string} client @property {string} variant whose result it is
 * @property {string|null} second what an untrusted checker made of it who disagreed
 * @property {string} secondWorker @property {string} secondClient @property {string} secondVariant
 * @property {number} opinions results of untrusted checkers, none of which decided it
 * @property {number} createdAt of the lease; of an open one, when it was drawn
 *
 * @typedef {{distance: number, limit: number}} Finding how far a result is from the checker's, and
 *   how far an honest one may be
 * @typedef {{result: string, variant: string, second: string|null, secondVariant: string,
 *   checkerVariant: string}} Disputed what a checker's result is to be compared with
 */

/** That the next result of a worker is checked, `valid` of whose results were found right.
 * @param {number} valid @returns {number} */
export const probability = (valid) => (valid < PROVEN ? 1 : Math.max(1 / valid, LEAST_SHARE));

/** @param {Finding} finding @returns {boolean} */
export const isAlike = ({ distance, limit }) => distance <= limit;

/** The holder's own. @param {import('./records.js').Records} records
 * @param {import('./records.js').Worker} worker @returns {boolean} */
export const isTrusted = (records, worker) => records.checking?.trusted === worker.client;

/**
 * Never the same client, with however many tabs.
 * @param {import('./records.js').Records} records @param {import('./records.js').Worker} worker
 * @param {Check} check @returns {boolean}
 */
export function mayCheck(records, worker, check) {
  const decides = check.opinions < MOST_OPINIONS || isTrusted(records, worker);
  return decides && worker.client !== check.client
    && (check.second === null || worker.client !== check.secondClient);
}

export class Checks {
  #records;
  #now;

  /** @param {import('./records.js').Records} records @param {() => number} now */
  constructor(records, now) {
    this.#records = records;
    this.#now = now;
  }

  // What is handed in -----------------------------------------------------------------------------
  /** Its worker has leased this chunk, from the latent `given`.
   * @param {import('./records.js').Chunk} chunk leased @param {string|null} given */
  begin(chunk, given) {
    const { checking, workers, jobs, checks } = this.#records;
    const { client, variant } = workers.get(chunk.worker);
    const job = jobs.get(chunk.job);
    if (!checking || client === job.client) return;
    const { image, kind, from, worker } = chunk;
    const id = nameOf(chunk);
    checks.set(id, {
      id, job: job.id, image, kind, start: from, stop: from, state: 'held',
      given: kind === 'encode' ? null : given,
      conditioning: kind === 'denoise' ? job.conditioning : null,
      result: null, worker, client, variant, second: null, secondWorker: '', secondClient: '',
      secondVariant: '', opinions: 0, createdAt: this.#now(),
    });
  }

  /** The newest that has come under this lease. @param {import('./records.js').Chunk} chunk
   * @param {number} stop @param {string} result */
  handIn(chunk, stop, result) {
    const check = this.#records.checks.get(nameOf(chunk));
    if (check) Object.assign(check, { stop, result });
  }

  /** The lease has ended, well or not: draw what has come under it.
   * @param {{id: number, attempt: number}} lease its chunk, and the attempt that has ended */
  endLease(lease) {
    const { checks, checking, workers } = this.#records;
    const check = checks.get(nameOf(lease));
    if (check?.state !== 'held') return;
    if (check.result === null || !checking) {
      checks.delete(check.id);
      return;
    }
    const valid = workers.get(check.worker)?.valid ?? 0;
    if (checking.random() < probability(valid)) this.#open(check, 'held');
    else move('check', check, 'held', 'spared');
  }

  #open(check, old) {
    move('check', check, old, 'open', { createdAt: this.#now() });
    this.ask(check);
  }

  /** Let somebody compute it again. @param {Check} check open */
  ask({ id, job }) {
    this.#records.addChunk({ job, kind: 'check', check: id }, this.#now());
  }

  /** The encoding that was spared, after all: it is there as long as its job is.
   * @param {Check} check */
  reopen(check) {
    this.#open(check, 'spared');
  }

  // Endings ---------------------------------------------------------------------------------------
  /** It is over: found right or wrong, or nobody needs to know any more. @param {Check} check */
  settle(check) {
    this.#withdraw(check);
    this.#records.checks.delete(check.id);
  }

  /** Nobody could say. @param {Check} check open */
  lapse(check) {
    this.#withdraw(check);
    move('check', check, 'open', 'lapsed', { second: null });
    const job = this.#records.jobs.get(check.job);
    noteCheck(check, imagesOf(check, job.images), 'unsaid', this.#now());
    this.forgetEnded(job);
  }

  /** What is finished remembers by itself that nobody could say; its records may go.
   * @param {import('./records.js').Job} job */
  forgetEnded(job) {
    for (const check of this.#of(job)) {
      if (!['spared', 'lapsed'].includes(check.state)) continue;
      const images = imagesOf(check, job.images);
      for (const image of images) {
        const lapsed = check.state === 'lapsed' && image.doubt === 'unchecked';
        if (image.state === 'done' && lapsed) image.doubt = 'lapsed';
      }
      if (images.every(imageEnded)) this.#records.checks.delete(check.id);
    }
  }

  #of({ id }) {
    return [...this.#records.checks.values()].filter(({ job }) => job === id);
  }

  #withdraw({ id }) {
    const { chunks } = this.#records;
    for (const chunk of chunks.values()) {
      if (chunk.check !== id) continue;
      move('chunk', chunk, chunk.state, 'cancelled');
      chunks.delete(chunk.id);
    }
  }

  /** Nobody needs to know any more: what they are about is done again, or gone.
   * @param {import('./records.js').Job} job
   * @param {(check: Check) => boolean} [which] of its checks */
  drop(job, which = () => true) {
    for (const check of this.#of(job).filter(which)) this.settle(check);
  }

  /** What nobody has come to check of jobs that have ended. */
  forgetOld() {
    const { checks, jobs } = this.#records;
    const old = this.#now() - KEPT_FOR_MS;
    const kept = [...checks.values()].filter(({ state, job }) => (
      state === 'open' && jobs.get(job).finishedAt !== null));
    kept.sort((one, other) => other.createdAt - one.createdAt);
    for (const [place, check] of kept.entries()) {
      if (place < MOST_KEPT && check.createdAt >= old) continue;
      this.lapse(check);
      this.#records.announce(jobs.get(check.job));
    }
  }
}

/** @param {{id: number, attempt: number}} chunk @returns {string} the name of one lease's check */
export const nameOf = ({ id, attempt }) => `${id}.${attempt}`;

/** Those whose it is: of an encoding all of its job.
 * @param {Check} check @param {import('./records.js').Image[]} images */
export const imagesOf = ({ image }, images) => images.filter(
  ({ index }) => image === null || index === image);
