// The queue of one room, held by a tab: what `genqueue` is where there is a server.
//
// - Jobs are cut into chunks (encode, ranges of steps, decode); workers lease them one by one.
// - A pure data structure: no timers, no I/O, no DOM. Time is what `now` says; blobs have names
//   here and lie elsewhere.
// - Every call is one decision: it changes everything that belongs to it, or throws and changes
//   nothing.
// - Who may do what is the caller's question.

import { Fairness } from './fairness.js';
import { forecast } from './forecast.js';
import { jobJson, roomWorkerJson, shutOutJson, timelineJson } from './job-json.js';
import { Leases } from './leases.js';
import { mergeInto } from './merging.js';
import { isShown, Records, unfinishedImages } from './records.js';
import { isName, newImages, refuseUnless, settingsOf } from './requests.js';
import { recordsOf, snapshotOf } from './snapshot.js';
import { jobEnded, move } from './transitions.js';

export { LeaseLost } from './leases.js';
export { QueueRefusal } from './requests.js';

const KEPT_WITHOUT_PICTURES_MS = 10 * 60e3; // cancelled jobs, which nobody is shown
const MOST_GONE_WORKERS = 100; // whose speeds are known when they come again
const MOST_GONE = 1000; // ids of jobs that are no longer shown; who missed more asks for everything

/**
 * @typedef {object} QueueOptions
 * @property {() => number} now milliseconds since the epoch
 * @property {string} [holder] id of the peer that holds this copy
 * @property {() => string} [newId] makes ids of jobs that come without one
 * @property {number} [leaseMs] how long a lease lasts
 * @property {number} [maxFaults] of a chunk, until it is given up
 * @property {{trusted: string, random: () => number}|null} [checks] what tabs hand in is checked, see
 *   checks.js. trusted: the client that holds the queue; random: from 0 to 1, which nobody foresees
 */

export class RoomQueue {
  #records;
  #leases;
  #now;
  #newId;

  /** @param {QueueOptions & {room: string}} options */
  constructor({ room, holder = '', ...options }) {
    this.#begin(new Records(room, holder), options);
  }

  /**
   * The queue goes on, here or at another tab: every lease has gone back unharmed, and the workers
   * have to arrive again.
   * @param {object} snapshot of `snapshot()`
   * @param {QueueOptions} options
   * @returns {RoomQueue}
   * @throws {import('./snapshot-check.js').SnapshotError}
   */
  static restore(snapshot, options) {
    return RoomQueue.resume(recordsOf(snapshot), options);
  }

  /** The same with a copy that was read before. @param {Records} records of recordsOf; used up
   * @param {QueueOptions} options @returns {RoomQueue} */
  static resume(records, options) {
    const queue = new RoomQueue({ ...options, room: records.room });
    records.holder = options.holder ?? records.holder;
    queue.#begin(records, options);
    queue.#resume();
    return queue;
  }

  #begin(records, { now, newId, leaseMs = 30_000, maxFaults = 3, checks = null }) {
    this.#records = records;
    records.checking = checks;
    this.#now = now;
    this.#newId = newId;
    this.#leases = new Leases(records, { now, leaseMs, maxFaults });
  }

  #resume() {
    const { workers, chunks, checks, checking } = this.#records;
    for (const worker of workers.values()) {
      this.#leases.giveBack(worker.id, null, '');
      if (worker.state !== 'gone') move('worker', worker, worker.state, 'gone');
    }
    // Another tab's clock may be ahead of ours: nothing waits for anybody until then.
    for (const chunk of chunks.values()) chunk.createdAt = Math.min(chunk.createdAt, this.#now());
    for (const check of [...checks.values()]) {
      check.createdAt = Math.min(check.createdAt, this.#now());
      if (!checking) this.#records.forgetCheck(check); // nobody checks here
    }
    this.#records.announce();
  }

  // What people do ------------------------------------------------------------------------------

  /**
   * Add a job.
   * @param {object} request prompt, negative_prompt, model, width, height, steps, guidance, seed,
   *   num_images
   * @param {{client: string, id?: string, seed?: number}} by client: the public name of who asks;
   *   seed: of a request without one
   * @returns {object} JobJson
   * @throws {QueueRefusal} `bad-request`, `known-job`
   */
  submit(request, { client, id = this.#newId?.(), seed }) {
    const settings = settingsOf({ ...request, seed: request.seed ?? seed });
    refuseUnless(isName(client), 'bad-request', 'A job needs to be somebody\'s.');
    refuseUnless(isName(id), 'bad-request', 'A job needs an id.');
    const { jobs, gone } = this.#records;
    refuseUnless(!jobs.has(id) && !gone.has(id), 'known-job', 'There is such a job already.');
    const now = this.#now();
    // The order of jobs is that of these times, whatever the clocks of their holders said.
    const createdAt = Math.max(now, this.#records.newestJobAt + 1);
    this.#records.newestJobAt = createdAt;
    const job = {
      id, client, state: 'queued', settings, conditioning: null, createdAt, startedAt: null,
      finishedAt: null, errorCode: null, errorDetail: '', images: newImages(settings),
      removed: [], revision: 0,
    };
    jobs.set(id, job);
    this.#records.addChunk({ job: id, kind: 'encode' }, now);
    this.#records.announce(job);
    return this.job(id);
  }

  /** Stop a queued or running job. @param {string} jobId
   * @returns {boolean} false when it had ended, or is unknown */
  cancel(jobId) {
    const job = this.#records.jobs.get(jobId);
    return job ? this.#leases.cancel(job) : false;
  }

  /**
   * Remove a picture. The last picture of an ended job takes the job along.
   * @param {string} jobId @param {number} index
   * @returns {boolean} false when there is no such image
   * @throws {QueueRefusal} `not-finished` while the image is in the queue
   */
  remove(jobId, index) {
    const job = this.#records.jobs.get(jobId);
    const image = job?.images.find((one) => one.index === index);
    if (!image) return false;
    refuseUnless(
      !unfinishedImages(job).includes(image), 'not-finished',
      'This picture is not finished: cancel its job instead.',
    );
    this.#removeImages(job, [image]);
    return true;
  }

  /** Forget what failed of a failed job; its finished pictures stay. @param {string} jobId
   * @returns {boolean} false when there is nothing to forget */
  dismiss(jobId) {
    const job = this.#records.jobs.get(jobId);
    if (job?.state !== 'failed') return false;
    const failed = job.images.filter(({ state }) => state !== 'done');
    this.#removeImages(job, failed);
    return failed.length > 0;
  }

  #removeImages(job, images) {
    job.images = job.images.filter((image) => !images.includes(image));
    const gone = new Set(images.map(({ index }) => index));
    for (const check of [...this.#records.checks.values()]) {
      if (check.job === job.id && gone.has(check.image)) this.#records.forgetCheck(check);
    }
    const finished = images.filter(({ state }) => state === 'done');
    job.removed.push(...finished.map(({ index }) => index));
    const pictures = job.images.some(({ state }) => state === 'done');
    if (jobEnded(job) && !pictures) this.#records.forget(job);
    else this.#records.announce(job);
  }

  /** A paused room starts no chunk; those that run finish. @param {boolean} paused */
  pause(paused) {
    if (this.#records.paused === paused) return;
    this.#records.paused = paused;
    this.#records.announce();
  }

  // Who is there --------------------------------------------------------------------------------

  /**
   * A worker is ready to lease. One that was there already has connected again: what it held goes
   * back unharmed.
   * @param {{id: string, client: string, kind?: string, name: string, device: string,
   *   software?: boolean, kernels?: string, models: string[], variant?: string,
   *   ownFirst?: boolean}} worker kernels: which variants it runs; models: names of those that it has
   *   opened; variant: how it stores their weights; ownFirst: what its client asks for comes before
   *   all else
   * @throws {QueueRefusal} `bad-request`, `shut-out`
   */
  arrive({
    id, client, kind = 'tab', name, device, software = false, kernels = '', models, variant = '',
    ownFirst = false,
  }) {
    refuseUnless(!this.isShutOut(client), 'shut-out',
      'What you computed here was found wrong, so you compute no more in this room.');
    const texts = [id, client, kind, name, device];
    refuseUnless(
      texts.every(isName) && Array.isArray(models) && models.every(isName), 'bad-request',
      'A worker has an id, a name, a device, somebody whose it is, and models.',
    );
    const now = this.#now();
    const known = this.#records.workers.get(id);
    const worker = known ?? { id, state: 'loading', speeds: {}, valid: 0 };
    if (known) this.#leases.giveBack(id, null, '');
    if (worker.state !== 'ready') move('worker', worker, worker.state, 'ready');
    Object.assign(worker, {
      client, kind, name, device, software, kernels, models: [...models], variant, silent: false,
      arrivedAt: now, heardAt: now, ownFirst,
    });
    this.#records.workers.set(id, worker);
    this.#records.announce();
  }

  /**
   * What a worker computes with from now on, the lease at hand included: nothing that came under it
   * has been drawn yet.
   * @param {string} workerId that is there
   * @param {{device: string, software: boolean, kernels: string, variant: string}} equipment as of
   *   `arrive`
   */
  equip(workerId, { device, software, kernels, variant }) {
    const worker = this.#records.workers.get(workerId);
    Object.assign(worker, { device, software, kernels, variant });
    for (const check of this.#records.checks.values()) {
      if (check.worker === workerId && check.state === 'held') check.variant = variant;
    }
    this.#records.announce();
  }

  /** Whether what its client asked for comes before all else, from its next claim on.
   * @param {string} workerId that is there @param {boolean} first */
  putOwnFirst(workerId, first) {
    const worker = this.#records.workers.get(workerId);
    if (worker.ownFirst === first) return;
    worker.ownFirst = first;
    this.#records.announce(); // positions and times may be others
  }

  /**
   * A worker has gone; its leases go back at once.
   * @param {string} workerId
   * @param {{crashed?: boolean}} [how] crashed: then they count as faults of their chunks
   */
  leave(workerId, { crashed = false } = {}) {
    const worker = this.#records.workers.get(workerId);
    if (!worker || worker.state === 'gone') return;
    move('worker', worker, worker.state, 'gone');
    this.#leases.giveBack(workerId, crashed ? 'worker-lost' : null, 'The worker has gone.');
    this.#records.announce();
  }

  // What workers do -----------------------------------------------------------------------------

  /** The next chunk for this worker, or null when there is none, or the worker is not there.
   * @param {string} workerId @returns {import('./leases.js').Lease|null} */
  claim(workerId) {
    return this.#leases.claim(workerId);
  }

  /**
   * When a claim that found nothing may find something though nothing has happened: what is open
   * was left for a moment to a worker that has its latent, or is clearly faster.
   * @param {string} workerId
   * @returns {number|null} ms; null: not before the next change
   */
  claimAgainAt(workerId) {
    const worker = this.#records.workers.get(workerId);
    if (worker?.state !== 'ready') return null;
    return new Fairness(this.#records, this.#now()).nextLookAt(worker);
  }

  /** Whether the chunk is still this lease's; a cancelled job's is not.
   * @param {import('./leases.js').Lease} lease @returns {boolean} */
  holds(lease) {
    return this.#leases.holds(lease);
  }

  /** A new deadline. @param {import('./leases.js').Lease} lease
   * @returns {import('./leases.js').Lease} @throws {LeaseLost} */
  renew(lease) {
    return this.#leases.renew(lease);
  }

  /**
   * A `denoise` chunk has computed `step` steps of its image. Renews the lease.
   * @param {import('./leases.js').Lease} lease @param {number} step start < step <= stop
   * @param {{latent?: string|null, preview?: string|null}} [blobs] latent: to go on from
   * @throws {LeaseLost}
   * @throws {RangeError} for a step outside the lease
   */
  checkpoint(lease, step, blobs = {}) {
    this.#leases.checkpoint(lease, step, blobs);
  }

  /**
   * Hand in the result: name of the conditioning (encode), the latent (denoise) or the picture.
   * @param {import('./leases.js').Lease} lease @param {string} blob
   * @param {number} seconds computing time as the worker says
   * @param {{received?: number, sent?: number, partners?: import('./partners.js').Partner[]}} [how]
   *   bytes to the worker and from it; who else had a part in it, as it says
   * @throws {LeaseLost}
   */
  complete(lease, blob, seconds, how) {
    this.#leases.complete(lease, blob, seconds, how);
  }

  /**
   * What a checker's result is to be compared with.
   * @param {import('./leases.js').Lease} lease of a check
   * @returns {import('./checks.js').Disputed|null} null when it is not held any more
   */
  disputed(lease) {
    if (!this.holds(lease)) return null;
    const { checks, workers } = this.#records;
    const { result, variant, second, secondVariant } = checks.get(lease.check);
    const { variant: checkerVariant } = workers.get(lease.worker);
    return { result, variant, second, secondVariant, checkerVariant };
  }

  /**
   * Hand in what a checker computed, and what was found. Who was wrong is shut out: its workers go,
   * and what nobody has found right of its work is done again.
   * @param {import('./leases.js').Lease} lease of a check @param {string} blob
   * @param {number} seconds computing time as the worker says
   * @param {{first: import('./checks.js').Finding, second: import('./checks.js').Finding|null}|null}
   *   found null: nobody can say
   * @throws {LeaseLost}
   */
  judge(lease, blob, seconds, found) {
    for (const client of this.#leases.judge(lease, blob, seconds, found)) {
      for (const worker of [...this.#records.workers.values()]) {
        if (worker.client === client) this.leave(worker.id);
      }
      this.#leases.pursue(client);
    }
  }

  /** Whether a client was found wrong, and computes no more here. @param {string} client
   * @returns {boolean} */
  isShutOut(client) {
    return this.#records.shutOut.has(client);
  }

  /** It could not be computed: others try again, until the third fault.
   * @param {import('./leases.js').Lease} lease @param {string} fault a code of faults.js
   * @param {string} [detail] what happened exactly; no page shows it
   * @param {string|null} [lost] of `file-lost`: the blob, where that is known
   * @returns {boolean} whether it counts: too little memory does not while others may have more
   * @throws {LeaseLost} */
  fail(lease, fault, detail = '', lost = null) {
    if (!isName(fault)) throw new TypeError('a fault has a code');
    return this.#leases.giveUp(lease, fault, detail, lost);
  }

  /** The worker gives the chunk back unharmed. @param {import('./leases.js').Lease} lease
   * @throws {LeaseLost} */
  release(lease) {
    this.#leases.giveUp(lease, null, '');
  }

  /** Every few seconds: take late leases back, forget what nobody is shown.
   * @returns {number} how many leases were late */
  sweep() {
    const late = this.#leases.sweep();
    this.#prune();
    return late;
  }

  /** The holder slept (its timers were late by more than a few seconds): nobody could renew, so
   * every lease lasts a whole lease from now. */
  awoke() {
    this.#leases.extendAll();
  }

  #prune() {
    this.#records.forgetWorkers(MOST_GONE_WORKERS);
    const { jobs, gone } = this.#records;
    const old = this.#now() - KEPT_WITHOUT_PICTURES_MS;
    for (const job of [...jobs.values()]) {
      if (!isShown(job) && job.finishedAt < old) this.#records.forget(job);
    }
    for (const id of [...gone.keys()].slice(0, Math.max(0, gone.size - MOST_GONE))) gone.delete(id);
  }

  // What everybody sees -------------------------------------------------------------------------

  /** Grows with every visible change. @returns {number} */
  get revision() {
    return this.#records.revision;
  }

  /** @returns {boolean} */
  get paused() {
    return this.#records.paused;
  }

  /** What a page shows: waiting and running jobs, and those that ended with pictures or failed,
   * oldest first. @param {number} [mostEnded] of these the newest
   * @returns {object[]} JobJson; addresses are names of blobs */
  jobs(mostEnded = Infinity) {
    const shown = [...this.#records.jobs.values()].filter(isShown);
    let surplus = shown.filter(jobEnded).length - mostEnded;
    return this.#json(shown.filter((job) => !jobEnded(job) || surplus-- <= 0));
  }

  /** Any job that is known. @param {string} jobId @returns {object|null} JobJson */
  job(jobId) {
    const job = this.#records.jobs.get(jobId);
    return job ? this.#json([job])[0] : null;
  }

  /** How a picture was made so far. @param {string} jobId @param {number} index
   * @returns {object|null} TimelineJson; null where there is no such picture */
  timeline(jobId, index) {
    const job = this.#records.jobs.get(jobId);
    const image = job?.images.find((one) => one.index === index);
    return image ? timelineJson(this.#records, job, image) : null;
  }

  #json(jobs) {
    const expected = jobs.some((job) => !jobEnded(job))
      ? forecast(this.#records) : new Map();
    const sorted = jobs.toSorted((one, other) => one.createdAt - other.createdAt);
    return sorted.map((job) => jobJson(this.#records, job, expected.get(job.id)));
  }

  /** The newest that were shut out. @returns {object[]} ShutOutJson */
  shutOut() {
    return shutOutJson(this.#records);
  }

  /** Workers that are there, first come first. @returns {object[]} RoomWorkerJson */
  workers() {
    const records = this.#records;
    return records.presentWorkers().map((worker) => roomWorkerJson(records, worker));
  }

  /**
   * Jobs that are new or may be different since, and ids of those that are no longer shown. What is
   * expected of unfinished jobs changes with every change, so they are all among them.
   * @param {number} revision
   * @returns {{jobs: object[], gone: string[]}}
   */
  changedSince(revision) {
    const { jobs, gone } = this.#records;
    if (revision >= this.revision) return { jobs: [], gone: [] };
    const changed = [...jobs.values()].filter(
      (job) => isShown(job) && (!jobEnded(job) || job.revision > revision),
    );
    return {
      jobs: this.#json(changed),
      gone: [...gone].filter(([, at]) => at.revision > revision).map(([id]) => id),
    };
  }

  // Copies --------------------------------------------------------------------------------------

  /** @returns {object} JSON from which `restore` makes the queue again */
  snapshot() {
    return snapshotOf(this.#records);
  }

  /**
   * Two tabs held the queue while they did not hear of each other: take in the other copy. Leases
   * of this one go on where it counts.
   * @param {object} snapshot of the other holder
   * @throws {import('./snapshot-check.js').SnapshotError} for what is none, or of another room, or
   *   more than one queue holds; nothing has changed then
   */
  merge(snapshot) {
    this.mergeRecords(recordsOf(snapshot));
  }

  /** The same with a copy that was read before. @param {Records} theirs of recordsOf; used up */
  mergeRecords(theirs) {
    mergeInto(this.#records, theirs, this.#now());
  }

  /** @returns {Set<string>} names of all blobs that are still needed */
  blobs() {
    return this.#records.blobs();
  }
}
