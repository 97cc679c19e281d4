// Who is next.
//
// The order: the client served least recently, then that client's jobs in order, then the images of
// a job in order. One turn is one image (with the encoding, for the first of a job). A worker stays
// with its image until it is done, unless a clearly faster worker is idle: that one also begins
// before slower ones. Checks come first: they are short, and who waits for them waits with a finished
// picture. Twin of queue/genqueue/fairness.py, for one room.
//
// A worker whose person wants it so (`ownFirst`) looks among that person's chunks first, by the same
// rules, and among all others only when there it finds nothing.

import { isTrusted, mayCheck } from './checks.js';
import { Speeds, speedKey } from './cutting.js';

/** A chunk waits this long for the worker that has its latent in memory. */
export const RESERVED_MS = 2000;
export const CLEARLY_FASTER = 1.3;
/** A check waits so long for a tab that is trusted, where one is there that may make it. */
export const TRUSTED_FIRST_MS = 10e3;

/**
 * Whether a chunk may still wait for a certain worker.
 * @param {import('./records.js').Chunk} chunk @param {number} now
 * @returns {boolean}
 */
export const isYoung = (chunk, now) => now - chunk.createdAt <= RESERVED_MS;

/** The order of chunks that were open at the same moment is the one in which they were made. */
const byAge = (one, other) => one.createdAt - other.createdAt || one.number - other.number;

/** The queue at one moment, as it decides who does what. Reads the records and changes nothing. */
export class Fairness {
  #records;
  #now;
  #speeds;

  /** @param {import('./records.js').Records} records @param {number} now ms */
  constructor(records, now) {
    this.#records = records;
    this.#now = now;
    this.#speeds = new Speeds(records.workers);
  }

  /**
   * @param {import('./records.js').Worker} worker present
   * @returns {import('./records.js').Chunk|null} what this worker should lease now
   */
  nextChunk(worker) {
    const chunks = this.openTo(worker);
    const check = oldest(chunks.filter(({ kind }) => kind === 'check'));
    if (check) return check;
    const askedHere = worker.ownFirst
      ? this.#nextOf(chunks.filter((chunk) => this.#isAskedBy(chunk, worker.client)), worker) : null;
    return askedHere ?? this.#nextOf(chunks, worker);
  }

  #nextOf(chunks, worker) {
    const own = oldest(chunks.filter((chunk) => this.#keeper(chunk) === worker.id));
    if (own && !this.#isTakenOver(own, worker)) return own;
    const orphan = oldest(chunks.filter((chunk) => this.#isOrphan(chunk)));
    if (orphan) return orphan;
    const [fresh] = this.inOrder(chunks.filter((chunk) => this.isFresh(chunk)));
    if (fresh) return this.#rivalsWant(fresh, worker) ? null : fresh;
    return this.#takenOver(chunks, worker);
  }

  /**
   * Pending chunks that this worker may lease: of models that it has. What it has failed at itself
   * is left to others, while there are any: a broken worker is the soonest to ask again, and would
   * fail everything. A young check is left to a trusted one.
   * @param {import('./records.js').Worker} worker
   * @returns {import('./records.js').Chunk[]}
   */
  openTo(worker) {
    if (this.#records.paused) return [];
    return this.#pending().filter((chunk) => this.#mayDo(worker, chunk)
      && !this.#isLeftToTrusted(worker, chunk)
      && !(chunk.faults && chunk.worker === worker.id
        && this.#present(worker).some((other) => this.#mayDo(other, chunk))));
  }

  #isLeftToTrusted(worker, chunk) {
    if (chunk.kind !== 'check' || this.#now - chunk.createdAt >= TRUSTED_FIRST_MS) return false;
    const trusted = (one) => isTrusted(this.#records, one);
    return !trusted(worker)
      && this.#present(worker).some((other) => trusted(other) && this.#mayDo(other, chunk));
  }

  /** Whether somebody is here who may compute this again.
   * @param {import('./checks.js').Check} check @returns {boolean} */
  hasChecker(check) {
    const { model } = this.#records.jobs.get(check.job).settings;
    return this.#records.presentWorkers().some(
      (worker) => worker.models.includes(model) && mayCheck(this.#records, worker, check));
  }

  /** @param {import('./records.js').Chunk} chunk @returns {boolean} nobody has begun it */
  isFresh(chunk) {
    if (chunk.kind === 'encode') return true;
    if (chunk.image === null) return false; // a check
    const image = this.#records.imageOf(chunk);
    return image.state === 'queued' && image.worker === null;
  }

  /**
   * @param {import('./records.js').Chunk[]} fresh @returns {import('./records.js').Chunk[]} sorted
   */
  inOrder(fresh) {
    const { jobs, turns } = this.#records;
    const place = (chunk) => {
      const { id, client, createdAt } = jobs.get(chunk.job);
      return [turns[client] ?? 0, client, createdAt, id, chunk.image ?? -1];
    };
    const placed = fresh.map((chunk) => ({ chunk, at: place(chunk) }));
    return placed.sort((one, other) => compare(one.at, other.at)).map(({ chunk }) => chunk);
  }

  /**
   * When something that is open to this worker, and left to others for now, may become its own.
   * @param {import('./records.js').Worker} worker
   * @returns {number|null} ms; null when nothing is
   */
  nextLookAt(worker) {
    if (this.#records.paused) return null;
    const young = this.openTo(worker).filter((chunk) => isYoung(chunk, this.#now));
    const left = this.#pending().filter((chunk) => this.#mayDo(worker, chunk)
      && this.#isLeftToTrusted(worker, chunk));
    const times = [
      ...young.map(({ createdAt }) => createdAt + RESERVED_MS + 1),
      ...left.map(({ createdAt }) => createdAt + TRUSTED_FIRST_MS),
    ];
    return times.length ? Math.min(...times) : null;
  }

  #pending() {
    return [...this.#records.chunks.values()].filter(({ state }) => state === 'pending');
  }

  /** Others that are there. Of one whose lease is late nobody knows. */
  #present(besides) {
    const late = new Set();
    for (const { state, worker, deadline } of this.#records.chunks.values()) {
      if (state === 'leased' && deadline < this.#now) late.add(worker);
    }
    return this.#records.presentWorkers().filter((one) => one !== besides && !late.has(one.id));
  }

  #mayDo(worker, chunk) {
    const { jobs, checks } = this.#records;
    return worker.models.includes(jobs.get(chunk.job).settings.model)
      && (chunk.kind !== 'check' || mayCheck(this.#records, worker, checks.get(chunk.check)));
  }

  #isAskedBy(chunk, client) {
    return this.#records.jobs.get(chunk.job).client === client;
  }

  #keeper(chunk) {
    return chunk.image === null ? null : this.#records.imageOf(chunk).worker;
  }

  /** Of an image that somebody has begun and nobody holds. */
  #isOrphan(chunk) {
    if (chunk.image === null) return false;
    const image = this.#records.imageOf(chunk);
    return image.state === 'running' && image.worker === null;
  }

  /** An image of another worker: of one that does not come, or is clearly slower than we are. */
  #takenOver(chunks, worker) {
    const held = chunks.filter((chunk) => this.#keeper(chunk) !== null).sort(byAge);
    for (const chunk of held) {
      if (!isYoung(chunk, this.#now)) return chunk;
      if (chunk.kind === 'denoise' // of a decoding the latent stays where it is
        && this.#clearlyFaster(worker.id, this.#keeper(chunk), chunk)
        && !this.#rivalsWant(chunk, worker)) return chunk;
    }
    return null;
  }

  /** Whether an idle worker that has nothing to begin takes this worker's own image over. */
  #isTakenOver(chunk, worker) {
    if (chunk.kind !== 'denoise') return false; // the latent stays where it is
    return this.#rivals(chunk, worker).some((rival) => (
      !this.openTo(rival).some((open) => this.#isOrphan(open) || this.isFresh(open))
    ));
  }

  #rivalsWant(chunk, worker) {
    return this.#rivals(chunk, worker).length > 0;
  }

  /** Idle workers that are clearly faster: what has just become open is left to them for a moment,
   * else it would be a matter of luck who gets it. */
  #rivals(chunk, worker) {
    if (!isYoung(chunk, this.#now)) return [];
    return this.#idle(worker).filter((rival) => this.#mayDo(rival, chunk)
      && this.#clearlyFaster(rival.id, worker.id, chunk));
  }

  /** Compared by steps, of which most of the work is made. */
  #clearlyFaster(one, other, chunk) {
    const key = speedKey('denoise', this.#records.jobs.get(chunk.job).settings);
    const ours = this.#speeds.seconds(one, key);
    const theirs = this.#speeds.seconds(other, key);
    return ours !== null && theirs !== null && ours * CLEARLY_FASTER < theirs;
  }

  /** Workers that hold no lease, nor an image whose next chunk has just become open: such a worker
   * is about to ask by itself. */
  #idle(besides) {
    const busy = new Set();
    for (const chunk of this.#records.chunks.values()) {
      if (chunk.state === 'leased') busy.add(chunk.worker);
      else if (isYoung(chunk, this.#now)) busy.add(this.#keeper(chunk));
    }
    return this.#present(besides).filter(({ id }) => !busy.has(id));
  }
}

const oldest = (chunks) => chunks.sort(byAge)[0] ?? null;

function compare(one, other) {
  for (let i = 0; i < one.length; i++) {
    if (one[i] < other[i]) return -1;
    if (one[i] > other[i]) return 1;
  }
  return 0;
}
