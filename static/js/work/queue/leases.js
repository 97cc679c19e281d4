// The lease protocol: claim, renew, checkpoint, complete, give up. Twin of genqueue/protocol.py.
//
// - A lease is (chunk, attempt, worker) with a deadline. Every later call names it, and changes
//   nothing but throws LeaseLost when the chunk has moved on: cancelled, taken back, done.
// - `takeBack` ends leases from outside; `freeImages` ends what is no lease yet: a worker's claim
//   to the next chunk of its image.
// - Completing a chunk makes the next one of its image.
// - Who checks something has a lease like that of whom it checks, and hands in with a finding
//   (`judge`); what comes of it is verdicts.js.
//
// A refused call changes nothing, so everything is checked before the first record is touched.

import { Checks } from './checks.js';
import { record, stepsOf } from './cutting.js';
import { Fairness, isYoung } from './fairness.js';
import { Finishing, forgetWork } from './finishing.js';
import { noteLack } from './memory.js';
import { CHECKPOINTS_KEPT, unfinishedImages } from './records.js';
import { noteDone, noteEnded } from './timeline.js';
import { imageEnded, jobEnded, move } from './transitions.js';
import { Verdicts } from './verdicts.js';

const MOST_TIMES_BACK = 32; // of one image: a store that loses everything is no store

/** The chunk is not this lease's any more. Stop computing; nothing was changed. */
export class LeaseLost extends Error {
  code = 'lost';

  constructor() {
    super('The chunk is not leased to this worker any more.');
  }
}

/**
 * @typedef {object} Lease the right to compute one chunk
 * @property {number} chunk @property {number} attempt @property {string} worker its id
 * @property {'encode'|'denoise'|'decode'} kind
 * @property {string} job @property {number|null} image index, null of `encode`
 * @property {number|null} seed of the image
 * @property {number} start @property {number} stop steps of a `denoise` chunk
 * @property {import('./records.js').Settings} settings of the job
 * @property {string|null} conditioning name of a blob
 * @property {string|null} latent name of a blob; null at step 0, where it is the noise
 * @property {number} deadline ms
 * @property {string|null} check the id of what it computes again, when it is a check; all the others
 *   are those of what is checked
 * @property {boolean} fresh what the worker remembers of this image or its prompt may be wrong
 */

export class Leases {
  #records;
  #now;
  #leaseMs;
  #maxFaults;
  #checks;
  #finishing;
  #verdicts;

  /**
   * @param {import('./records.js').Records} records
   * @param {{now: () => number, leaseMs: number, maxFaults: number}} options
   */
  constructor(records, { now, leaseMs, maxFaults }) {
    this.#records = records;
    this.#now = now;
    this.#leaseMs = leaseMs;
    this.#maxFaults = maxFaults;
    this.#checks = new Checks(records, now);
    this.#finishing = new Finishing(records, this.#checks, now);
    this.#verdicts = new Verdicts(records, this.#checks, this.#finishing, now);
  }

  /** @param {string} workerId @returns {Lease|null} */
  claim(workerId) {
    const worker = this.#records.workers.get(workerId);
    if (worker?.state !== 'ready') return null;
    const now = this.#now();
    this.#heard(worker, now);
    const fairness = new Fairness(this.#records, now);
    const chunk = fairness.nextChunk(worker);
    if (!chunk) return null;
    if (chunk.kind === 'check') return this.#leaseCheck(chunk, worker, now);
    const portion = chunk.kind === 'denoise' ? fairness.portionFor(chunk, worker) : null;
    return this.#lease(chunk, worker, portion, now);
  }

  #lease(chunk, worker, portion, now) {
    const records = this.#records;
    const job = records.jobs.get(chunk.job);
    const image = chunk.image === null ? null : records.imageOf(chunk);
    const newest = image?.checkpoints[0] ?? null;
    const goesOn = image?.worker === worker.id;
    let { start, stop } = chunk;
    if (portion) {
      start = newest?.step ?? 0;
      stop = start + stepsOf(portion, job.settings.steps - start);
    }
    move('chunk', chunk, 'pending', 'leased', {
      worker: worker.id,
      deadline: now + this.#leaseMs,
      leasedAt: now,
      beganAt: goesOn && isYoung(chunk, now) ? chunk.createdAt : now,
      from: start,
      stop,
    });
    if (!image || (image.state === 'queued' && image.worker === null)) {
      records.turns[job.client] = ++records.turn;
    }
    if (job.state === 'queued') move('job', job, 'queued', 'running', { startedAt: now });
    if (image?.state === 'queued') move('image', image, 'queued', 'running', { startedAt: now });
    if (image) image.worker = worker.id;
    if (chunk.kind === 'denoise') {
      image.step = start;
      if (!start) Object.assign(image, { preview: null, previewStep: null });
      else if (image.preview) image.previewStep = start;
    }
    records.announce(job);
    const latent = newest?.latent ?? null;
    this.#checks.begin(chunk, latent);
    return this.#describe(chunk, job, image, {
      kind: chunk.kind, start: chunk.from, stop: chunk.stop, conditioning: job.conditioning, latent,
      check: null, fresh: (image?.goneBack ?? 0) > 0,
    });
  }

  /** Everything is as it was for the one whose result is checked. */
  #leaseCheck(chunk, worker, now) {
    const records = this.#records;
    const check = records.checks.get(chunk.check);
    const job = records.jobs.get(check.job);
    const image = job.images.find(({ index }) => index === check.image) ?? null;
    move('chunk', chunk, 'pending', 'leased', {
      worker: worker.id, deadline: now + this.#leaseMs, leasedAt: now, beganAt: now, from: 0,
    });
    records.announce();
    return this.#describe(chunk, job, image, {
      kind: check.kind, start: check.start, stop: check.stop, conditioning: check.conditioning,
      latent: check.given, check: check.id, fresh: true,
    });
  }

  #describe(chunk, job, image, how) {
    return {
      chunk: chunk.id,
      attempt: chunk.attempt,
      worker: chunk.worker,
      job: job.id,
      image: image?.index ?? null,
      seed: image?.seed ?? null,
      settings: { ...job.settings },
      deadline: chunk.deadline,
      ...how,
    };
  }

  /** @param {Lease} lease @returns {boolean} */
  holds({ chunk: id, attempt, worker }) {
    const chunk = this.#records.chunks.get(id);
    return chunk?.state === 'leased' && chunk.attempt === attempt && chunk.worker === worker;
  }

  /** @param {Lease} lease @returns {Lease} with a new deadline @throws {LeaseLost} */
  renew(lease) {
    const chunk = this.#held(lease);
    chunk.deadline = this.#now() + this.#leaseMs;
    return { ...lease, deadline: chunk.deadline };
  }

  /**
   * `step` steps of the image are done. One that comes after a later one only says that its worker
   * is alive.
   * @param {Lease} lease @param {number} step
   * @param {{latent?: string|null, preview?: string|null}} blobs
   * @throws {LeaseLost}
   * @throws {RangeError} for a step outside the lease
   */
  checkpoint(lease, step, { latent = null, preview = null }) {
    const chunk = this.#held(lease);
    const check = this.#records.checks.get(chunk.check);
    const [kind, from, stop] = check
      ? [check.kind, check.start, check.stop] : [chunk.kind, chunk.from, chunk.stop];
    if (kind !== 'denoise' || !Number.isInteger(step) || step <= from || step > stop) {
      throw new RangeError(`step ${step} is outside ${from}..${stop}`);
    }
    checkName(latent ?? 'none');
    checkName(preview ?? 'none');
    chunk.deadline = this.#now() + this.#leaseMs;
    if (check) return; // nobody goes on from what a checker computes
    const image = this.#records.imageOf(chunk);
    if (step < image.step) return;
    image.step = step;
    if (preview !== null) Object.assign(image, { preview, previewStep: step });
    if (latent !== null) {
      keepCheckpoint(image, step, latent);
      this.#checks.handIn(chunk, step, latent);
    }
    this.#records.announce(this.#records.jobs.get(chunk.job));
  }

  /**
   * Hand in the result and make the next chunk.
   * @param {Lease} lease
   * @param {string} blob name of the conditioning, the latent or the picture
   * @param {number} seconds computing time; what cannot have passed counts as all that has
   * @param {{received?: number, sent?: number, partners?: import('./partners.js').Partner[]}} [how]
   *   bytes to the worker and from it; who else had a part in it, as it says
   * @throws {LeaseLost} then somebody else answers for the chunk
   */
  complete(lease, blob, seconds, how = {}) {
    const chunk = this.#held(lease);
    checkName(blob);
    if (chunk.kind === 'check') throw new TypeError('a check is handed in with what it found');
    const now = this.#now();
    const job = this.#records.jobs.get(chunk.job);
    const computed = this.#done(chunk, chunk.kind, chunk.stop - chunk.from, seconds);
    noteDone(this.#records, chunk, { now, seconds: computed, ...how });
    this.#checks.handIn(chunk, chunk.stop, blob);
    if (chunk.kind === 'encode') this.#encoded(chunk, job, blob, now);
    else if (chunk.kind === 'denoise') this.#denoised(chunk, job, blob, computed, now);
    else this.#decoded(chunk, blob, computed);
    this.#checks.endLease(chunk);
    if (chunk.kind === 'decode') this.#finishing.finishReady(job);
    this.#records.announce(job);
  }

  /** The chunk is done, and its worker was so fast. @returns {number} seconds of computing */
  #done(chunk, kind, range, seconds) {
    const passed = Math.max(0, this.#now() - chunk.beganAt) / 1000;
    move('chunk', chunk, 'leased', 'done');
    this.#records.chunks.delete(chunk.id);
    const { speeds } = this.#records.workers.get(chunk.worker);
    const { settings } = this.#records.jobs.get(chunk.job);
    record(speeds, kind, settings, kind === 'denoise' ? range : 0, passed);
    return seconds >= 0 && seconds <= passed ? seconds : passed;
  }

  /**
   * A checker hands in what it computed and what was found.
   * @param {Lease} lease of a check @param {string} blob
   * @param {number} seconds computing time
   * @param {{first: import('./checks.js').Finding, second: import('./checks.js').Finding|null}|null}
   *   found null: it cannot be compared
   * @returns {string[]} clients whose workers are to go, and who are to be pursued then
   * @throws {LeaseLost}
   */
  judge(lease, blob, seconds, found) {
    const chunk = this.#held(lease);
    checkName(blob);
    const records = this.#records;
    const check = records.checks.get(chunk.check);
    const job = records.jobs.get(chunk.job);
    const checker = records.workers.get(chunk.worker);
    this.#done(chunk, check.kind, check.stop - check.start, seconds);
    const culprits = found
      ? this.#verdicts.decide(check, checker, blob, found.first, found.second) : [];
    if (!found) this.#verdicts.cannotSay(check);
    this.#finishing.finishReady(job);
    records.announce(job);
    return culprits;
  }

  /** What is to be done about a client whose workers have gone, because it was found wrong.
   * @param {string} client */
  pursue(client) {
    this.#verdicts.pursue(client);
  }

  #encoded(chunk, job, conditioning, now) {
    job.conditioning = conditioning;
    const images = unfinishedImages(job).filter(({ picture }) => picture === null);
    for (const image of images) this.#records.addNextChunk(job, image, now);
    // Who encoded goes on with the first image: both were one turn.
    if (images.length) images[0].worker = chunk.worker;
  }

  #denoised(chunk, job, latent, seconds, now) {
    const image = this.#records.imageOf(chunk);
    keepCheckpoint(image, chunk.stop, latent);
    image.step = chunk.stop;
    image.seconds += seconds;
    this.#records.addNextChunk(job, image, now);
  }

  #decoded(chunk, picture, seconds) {
    const image = this.#records.imageOf(chunk);
    image.seconds += seconds;
    Object.assign(image, { picture, endedBy: endOf(chunk) });
  }

  /**
   * The worker gives the chunk up: to be tried again, until the third fault.
   * @param {Lease} lease
   * @param {string|null} fault a code of faults.js; null gives it back unharmed
   * @param {string} detail what happened exactly; no page shows it
   * @param {string|null} [lost] of `file-lost`: the blob, where that is known
   * @returns {boolean} whether it counts: not where it says something of the worker alone
   * @throws {LeaseLost}
   */
  giveUp(lease, fault, detail, lost = null) {
    const chunk = this.#held(lease);
    if (fault === 'out-of-memory' && this.#othersHaveRoom(chunk)) {
      this.#return(chunk, fault, detail, { counts: false });
      return false;
    }
    // Twice, so it is not that one worker alone cannot reach the blob: it is made once more.
    const image = chunk.image === null ? null : this.#records.imageOf(chunk);
    if (fault === 'file-lost' && chunk.faults && image && image.goneBack < MOST_TIMES_BACK) {
      this.#return(chunk, fault, detail, { again: true });
      if (lost === null ? lease.latent === null : lost === lease.conditioning) {
        this.#encodeAgain(this.#records.jobs.get(chunk.job));
      } else {
        this.#goBack(chunk, image, lease.latent);
      }
    } else {
      this.#return(chunk, fault, detail);
    }
    return fault !== null;
  }

  /** Whether it is news that this worker has too little memory, and somebody is here who may have
   * more. */
  #othersHaveRoom(chunk) {
    const { checks, jobs, workers } = this.#records;
    const worker = workers.get(chunk.worker);
    const kind = chunk.kind === 'check' ? checks.get(chunk.check).kind : chunk.kind;
    const isNews = noteLack(worker, kind, jobs.get(chunk.job).settings);
    return isNews && new Fairness(this.#records, this.#now()).othersHaveRoom(worker, chunk);
  }

  /** A latent is lost: go on from the one before it, or from the noise. Ranges that were done are done
   * again then, as other chunks. */
  #goBack(chunk, image, lost) {
    image.checkpoints = image.checkpoints.filter(({ latent }) => latent !== lost);
    image.goneBack += 1;
    const start = image.checkpoints[0]?.step ?? 0;
    if (chunk.kind === 'denoise') {
      chunk.start = Math.min(chunk.start, start);
      return;
    }
    move('chunk', chunk, 'pending', 'cancelled');
    this.#records.chunks.delete(chunk.id);
    image.step = start;
    this.#records.addNextChunk(this.#records.jobs.get(chunk.job), image, this.#now());
  }

  /** The texts of a job are lost: its images wait for them, and go on from their checkpoints. */
  #encodeAgain(job) {
    const records = this.#records;
    const now = this.#now();
    const chunks = records.chunksOf(job.id);
    this.takeBack(chunks.filter(({ state }) => state === 'leased'), null, '');
    for (const chunk of chunks) {
      move('chunk', chunk, 'pending', 'cancelled');
      records.chunks.delete(chunk.id);
    }
    for (const image of unfinishedImages(job)) {
      image.goneBack += 1;
      if (image.state === 'queued') image.worker = null;
    }
    job.conditioning = null;
    records.addChunk({ job: job.id, kind: 'encode' }, now);
  }

  /**
   * End these leases from outside.
   * @param {import('./records.js').Chunk[]} chunks leased
   * @param {string|null} fault null: they go back unharmed @param {string} detail
   */
  takeBack(chunks, fault, detail) {
    for (const chunk of chunks) this.#return(chunk, fault, detail);
  }

  /** Everything that this worker holds or that is kept for it is open to everybody.
   * @param {string} workerId @param {string|null} fault @param {string} detail */
  giveBack(workerId, fault, detail) {
    this.takeBack(this.#leased().filter(({ worker }) => worker === workerId), fault, detail);
    this.freeImages(workerId);
  }

  /** Let anybody go on with the images whose next chunk waits for this worker. */
  freeImages(workerId) {
    for (const chunk of this.#records.chunks.values()) {
      if (chunk.state !== 'pending' || chunk.image === null) continue;
      const image = this.#records.imageOf(chunk);
      if (image.worker !== workerId) continue;
      image.worker = null;
      this.#records.announce(this.#records.jobs.get(chunk.job));
    }
  }

  /** @returns {number} how many late leases were taken back */
  sweep() {
    const now = this.#now();
    const late = this.#leased().filter(({ deadline }) => deadline < now);
    for (const chunk of late) {
      const worker = this.#records.workers.get(chunk.worker);
      this.#return(chunk, 'worker-lost', 'The worker was not heard of any more.');
      if (now - worker.heardAt > this.#leaseMs) {
        worker.silent = true;
        this.freeImages(worker.id);
      }
    }
    this.#checks.forgetOld();
    this.#finishing.finishAllReady();
    return late.length;
  }

  /** Nobody could renew while the holder slept: every lease lasts a whole lease from now. */
  extendAll() {
    for (const chunk of this.#leased()) chunk.deadline = this.#now() + this.#leaseMs;
  }

  #leased() {
    return [...this.#records.chunks.values()].filter(({ state }) => state === 'leased');
  }

  #held(lease) {
    if (!this.holds(lease)) throw new LeaseLost();
    this.#heard(this.#records.workers.get(lease.worker), this.#now());
    return this.#records.chunks.get(lease.chunk);
  }

  #heard(worker, now) {
    worker.heardAt = now;
    if (!worker.silent) return;
    worker.silent = false;
    this.#records.announce();
  }

  /** leased -> pending, or failed after too many faults. again: what it lacked is made once more, and
   * faults are counted anew. counts: whether this one is counted. */
  #return(chunk, fault, detail, { again = false, counts = true } = {}) {
    const records = this.#records;
    const job = records.jobs.get(chunk.job);
    if (chunk.kind !== 'check') noteEnded(records, chunk, fault, this.#now());
    if (again) chunk.faults = 0;
    else if (fault !== null && counts) chunk.faults += 1;
    const { id, attempt } = chunk;
    chunk.attempt += 1;
    this.#checks.endLease({ id, attempt });
    const ended = { deadline: null, leasedAt: null, beganAt: null, from: null };
    if (fault !== null && counts && chunk.faults >= this.#maxFaults) {
      move('chunk', chunk, 'leased', 'failed', ended);
      records.chunks.delete(chunk.id);
      if (chunk.kind !== 'check') this.#failImages(job, chunk, fault, detail);
      else this.#verdicts.cannotSay(records.checks.get(chunk.check));
    } else {
      move('chunk', chunk, 'leased', 'pending', ended);
      if (chunk.image !== null) records.imageOf(chunk).worker = null; // anybody may go on
    }
    records.announce(job);
  }

  /** Without its chunk an image cannot end well; without the encoding none of the job can. */
  #failImages(job, chunk, fault, detail) {
    const now = this.#now();
    for (const image of unfinishedImages(job)) {
      if (chunk.image !== null && image.index !== chunk.image) continue;
      const ended = { finishedAt: now, picture: null, endedBy: endOf(chunk) };
      move('image', image, image.state, 'failed', ended);
      forgetWork(image);
      this.#checks.drop(job, (check) => check.image === image.index);
    }
    const where = chunk.stop ? `${chunk.kind}, step ${chunk.start}` : chunk.kind;
    Object.assign(job, { errorCode: fault, errorDetail: `${where}: ${detail}` });
    this.#finishing.endAfterImages(job);
    this.#checks.forgetEnded(job);
  }

  /** Every unfinished image and every live chunk. @param {import('./records.js').Job} job
   * @returns {boolean} false when it had ended */
  cancel(job) {
    if (jobEnded(job)) return false;
    const now = this.#now();
    for (const chunk of this.#records.chunksOf(job.id)) {
      move('chunk', chunk, chunk.state, 'cancelled');
      this.#records.chunks.delete(chunk.id);
    }
    for (const image of job.images.filter((one) => !imageEnded(one))) {
      move('image', image, image.state, 'cancelled', { finishedAt: now, picture: null });
      forgetWork(image);
    }
    this.#checks.drop(job);
    move('job', job, job.state, 'cancelled', { finishedAt: now });
    job.conditioning = null;
    this.#records.announce(job);
    return true;
  }
}

const endOf = ({ kind, start, attempt }) => ({ kind, start, attempt });

/** Keep this one and the newest before it. */
function keepCheckpoint(image, step, latent) {
  const before = image.checkpoints.filter((one) => one.step < step);
  image.checkpoints = [{ step, latent }, ...before].slice(0, CHECKPOINTS_KEPT);
}

function checkName(blob) {
  if (typeof blob !== 'string' || !blob) throw new TypeError('a blob is named by a string');
}
