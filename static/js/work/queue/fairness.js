// Who is next.
//
// The order: the client served least recently, then that client's jobs in order, then the images of
// a job in order. One turn is one image (with the encoding, for the first of a job). A worker stays
// with its image until it is done, unless a clearly faster worker is idle: that one also begins
// before slower ones. When nearly everything is begun, slow workers leave what they would hold up to
// faster ones, and these leave what slow ones can end in time (tail.js). Checks come first: they are
// short, and who waits for them waits with a finished picture. Twin of queue/genqueue/fairness.py, for
// one room.
//
// A worker whose person wants it so (`ownFirst`) looks among that person's chunks first, by the same
// rules, and among all others only when there it finds nothing.

import { isTrusted, mayCheck } from './checks.js';
import { CHUNK_SECONDS, Speeds, portion, speedKey, stepsOf } from './cutting.js';
import { hasRoom } from './memory.js';
import { unfinishedImages } from './records.js';
import { CLEARLY_FASTER, Tail, differ } from './tail.js';
import { jobEnded } from './transitions.js';

/** A chunk waits this long for the worker that has its latent in memory. */
export const RESERVED_MS = 2000;
/** With fewer workers nobody waits for one that is busy: what people are told of when their pictures
 * will be done knows nothing of it. */
export const MANY_WORKERS = 5;
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
  #leased; // chunks, by worker
  #tails = new Map();

  /** @param {import('./records.js').Records} records @param {number} now ms */
  constructor(records, now) {
    this.#records = records;
    this.#now = now;
    this.#speeds = new Speeds(records.workers);
    const leased = [...records.chunks.values()].filter(({ state }) => state === 'leased');
    this.#leased = new Map(leased.map((chunk) => [chunk.worker, chunk]));
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
    const own = newest(chunks.filter((chunk) => this.#keeper(chunk) === worker.id));
    const [fresh] = this.inOrder(chunks.filter((chunk) => this.isFresh(chunk)));
    if (own && !this.#isTakenOver(own, worker) && !this.#isLate(own, worker.id, worker)) {
      return this.#needed(chunks, fresh, own, worker) ?? own;
    }
    const orphans = chunks.filter((chunk) => this.#isOrphan(chunk));
    const orphan = oldest(orphans.filter((chunk) => !this.#isLate(chunk, worker.id, worker)));
    if (orphan) return orphan;
    if (fresh && !this.#isLate(fresh, worker.id, worker)) {
      return this.#rivalsWant(fresh, worker) ? null : fresh;
    }
    return this.#takenOver(chunks, worker);
  }

  /**
   * Pending chunks that this worker may lease: of models that it has. What it has failed at itself
   * is left to others, while there are any: a broken worker is the soonest to ask again, and would
   * fail everything. So is what it had too little memory for. A young check is left to a trusted one.
   * @param {import('./records.js').Worker} worker
   * @returns {import('./records.js').Chunk[]}
   */
  openTo(worker) {
    if (this.#records.paused) return [];
    return this.#pending().filter((chunk) => this.#mayDo(worker, chunk)
      && !this.#isLeftToTrusted(worker, chunk)
      && !(chunk.faults && chunk.worker === worker.id && this.#able(worker, chunk).length)
      && !(!this.#hasRoom(worker, chunk) && this.othersHaveRoom(worker, chunk)));
  }

  /** Others to whom this worker may leave a chunk: what it has room for, to nobody who has not; two
   * would leave it to each other. */
  #able(worker, chunk) {
    const room = this.#hasRoom(worker, chunk);
    return this.#present(worker).filter((other) => this.#mayDo(other, chunk)
      && (!room || this.#hasRoom(other, chunk)));
  }

  /** Whether somebody else is here who may do it, and had not too little memory for it.
   * @param {import('./records.js').Worker} worker @param {import('./records.js').Chunk} chunk
   * @returns {boolean} */
  othersHaveRoom(worker, chunk) {
    return this.#present(worker).some(
      (other) => this.#mayDo(other, chunk) && this.#hasRoom(other, chunk));
  }

  #hasRoom(worker, { kind, check, job }) {
    const { checks, jobs } = this.#records;
    const computed = kind === 'check' ? checks.get(check).kind : kind;
    return hasRoom(worker, computed, jobs.get(job).settings);
  }

  #isLeftToTrusted(worker, chunk) {
    if (chunk.kind !== 'check' || this.#now - chunk.createdAt >= TRUSTED_FIRST_MS) return false;
    const trusted = (one) => isTrusted(this.#records, one);
    return !trusted(worker) && this.#able(worker, chunk).some(trusted);
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
    const late = this.openTo(worker).filter((chunk) => chunk.kind === 'denoise'
      && !isYoung(chunk, this.#now)).map((chunk) => this.#leftUntil(chunk, worker.id));
    const times = [
      ...late.filter((until) => until >= this.#now).map((until) => until + 1),
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

  /** An image of another worker: of one that does not come, leaves it, or is clearly slower. */
  #takenOver(chunks, worker) {
    const held = chunks.filter((chunk) => ![null, worker.id].includes(this.#keeper(chunk)));
    return this.#longest(held.sort(byAge).filter((chunk) => {
      if (this.#isLate(chunk, worker.id, worker)) return false;
      if (!isYoung(chunk, this.#now)) return true;
      return chunk.kind === 'denoise' // of a decoding the latent stays where it is
        && (this.#isLeft(chunk, worker)
          || this.#clearlyFaster(worker.id, this.#keeper(chunk), chunk))
        && !this.#rivalsWant(chunk, worker);
    }), worker);
  }

  /** What this worker leaves its own image for: a longer one that slower workers have left. */
  #needed(chunks, fresh, own, worker) {
    const tail = own.kind === 'denoise' ? this.#tail(own, worker) : null;
    if (!tail) return null;
    const left = chunks.filter((chunk) => chunk === fresh || this.#isLeft(chunk, worker));
    return this.#longest(left.filter((chunk) => chunk.kind === 'denoise'
      && tail.isNeededAt(worker.id, nameOf(own), nameOf(chunk))
      && !this.#rivalsWant(chunk, worker)), worker);
  }

  #longest(chunks, worker) {
    let [longest, most] = [null, -1];
    for (const chunk of chunks) {
      const seconds = this.#tail(chunk, worker)?.seconds(nameOf(chunk)) ?? 0;
      if (seconds > most) [longest, most] = [chunk, seconds];
    }
    return longest;
  }

  /** Whether its worker computes another image now, or had better leave it. */
  #isLeft(chunk, worker) {
    const keeper = this.#keeper(chunk);
    if (chunk.kind !== 'denoise' || keeper === worker.id || !this.#tail(chunk, worker)) return false;
    if (keeper === null) return this.#isOrphan(chunk);
    return this.#leased.has(keeper) || this.#isLate(chunk, keeper, worker);
  }

  /** Whether faster workers would have this image too late if `by` did its next chunk, or whether that
   * would be the last of all, as far as `worker` knows, who asks. It is not left to them for ever. */
  #isLate(chunk, by, worker) {
    if (chunk.kind !== 'denoise' || this.#now > this.#leftUntil(chunk, by)) return false;
    const tail = this.#tail(chunk, worker);
    const next = tail && this.#nextRange(chunk, by, worker);
    return next !== null && tail.isTooSlow(nameOf(chunk), by, next.seconds, next.isLast);
  }

  /** Until those that compute must have asked again: a slow worker waits as long as its step would
   * take. @returns {number} ms */
  #leftUntil(chunk, by) {
    const { settings } = this.#records.jobs.get(chunk.job);
    const pace = this.#speeds.seconds(by, speedKey('denoise', settings)) ?? 0;
    return chunk.createdAt + RESERVED_MS + 1000 * Math.max(CHUNK_SECONDS, pace);
  }

  /** How long `by` would have this image, as far as `worker` knows: null when that was never measured,
   * with the decoding where it would be the last range. */
  #nextRange(chunk, by, worker) {
    const { settings } = this.#records.jobs.get(chunk.job);
    const pace = this.#speeds.seconds(by, speedKey('denoise', settings));
    if (pace === null) return null;
    const left = settings.steps - this.#records.imageOf(chunk).step;
    const range = stepsOf(this.#portion(chunk, by, worker), left);
    const isLast = range === left;
    const decode = isLast ? this.#speeds.seconds(by, speedKey('decode', settings)) ?? 0 : 0;
    return { seconds: range * pace + decode, isLast };
  }

  /**
   * @param {import('./records.js').Chunk} chunk of steps that this worker is about to lease
   * @param {import('./records.js').Worker} worker
   * @returns {import('./cutting.js').Portion}
   */
  portionFor(chunk, worker) {
    return this.#portion(chunk, worker.id, worker);
  }

  #portion(chunk, by, worker) {
    const { settings } = this.#records.jobs.get(chunk.job);
    const measured = this.#speeds.measured(by, speedKey('denoise', settings));
    return portion(measured, this.#tail(chunk, worker)?.rangeSeconds(by));
  }

  /** What is left to do, as far as this worker knows, and who does it; null while there is enough
   * that nobody has begun. Of the others those count that can do nothing else than it can itself,
   * else it would not know what keeps them; and idle ones while they are expected to come. */
  #tail(chunk, worker) {
    const { settings } = this.#records.jobs.get(chunk.job);
    const key = speedKey('denoise', settings);
    const young = isYoung(chunk, this.#now);
    const name = `${worker.id} ${young} ${key}`;
    if (!this.#tails.has(name)) this.#tails.set(name, this.#makeTail(worker, key, young));
    return this.#tails.get(name);
  }

  #makeTail(worker, key, young) {
    const idle = new Set(young ? [] : this.#idle(worker));
    const others = this.#present(worker).filter((other) => !idle.has(other)
      && other.models.every((model) => worker.models.includes(model)));
    const paces = new Map([worker, ...others].map(({ id }) => [id, this.#speeds.seconds(id, key)])
      .filter(([, pace]) => pace));
    if (!paces.has(worker.id) || paces.size < MANY_WORKERS || !differ([...paces.values()])) return null;
    const fresh = this.openTo(worker).filter((chunk) => this.isFresh(chunk));
    if (fresh.length >= paces.size || fresh.some(({ kind }) => kind === 'encode')) return null;
    return new Tail(paces, this.#imagesLeft(worker, [...paces.keys()]));
  }

  #imagesLeft(worker, ids) {
    const leased = new Map([...this.#leased.values()].map((chunk) => [nameOf(chunk), chunk]));
    const paces = new Map();
    const fastest = (key) => {
      if (!paces.has(key)) paces.set(key, leastOf(ids.map((id) => this.#speeds.seconds(id, key))));
      return paces.get(key);
    };
    const encoded = [...this.#records.jobs.values()].filter((job) => job.conditioning !== null
      && !jobEnded(job) && worker.models.includes(job.settings.model));
    return encoded.flatMap((job) => {
      const keys = ['denoise', 'decode'].map((kind) => speedKey(kind, job.settings));
      const [aStep, aDecode] = keys.map(fastest);
      if (aStep === null) return [];
      return unfinishedImages(job).filter(({ picture }) => picture === null).map((image) => {
        const name = nameOf({ job: job.id, image: image.index });
        const chunk = leased.get(name);
        const [step, decoded] = chunk ? this.#progress(chunk, image, keys) : [image.step, 0];
        const seconds = (job.settings.steps - step) * aStep + (1 - decoded) * (aDecode ?? 0);
        return { name, seconds, worker: chunk?.worker ?? null };
      });
    });
  }

  /** Steps and the share of the decoding that are done, by the clock: not every step is heard of. */
  #progress(chunk, image, keys) {
    const pace = this.#speeds.seconds(chunk.worker, keys[chunk.kind === 'decode' ? 1 : 0]);
    if (!pace) return [image.step, 0];
    const passed = Math.max(0, this.#now - chunk.leasedAt) / 1000 / pace;
    if (chunk.kind === 'decode') return [image.step, Math.min(1, passed)];
    return [Math.max(image.step, Math.min(chunk.stop, chunk.start + passed)), 0];
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
      && this.#hasRoom(rival, chunk) && this.#clearlyFaster(rival.id, worker.id, chunk));
  }

  /** Compared by steps, of which most of the work is made. */
  #clearlyFaster(one, other, chunk) {
    const key = speedKey('denoise', this.#records.jobs.get(chunk.job).settings);
    const ours = this.#speeds.compared(one, key);
    const theirs = this.#speeds.compared(other, key);
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
const newest = (chunks) => chunks.sort(byAge).at(-1) ?? null;
/** Of those that are known. */
const leastOf = (numbers) => {
  const known = numbers.filter((one) => one !== null);
  return known.length ? Math.min(...known) : null;
};
/** Of a chunk's image. */
const nameOf = ({ job, image }) => `${job} ${image}`;

function compare(one, other) {
  for (let i = 0; i < one.length; i++) {
    if (one[i] < other[i]) return -1;
    if (one[i] > other[i]) return 1;
  }
  return 0;
}
