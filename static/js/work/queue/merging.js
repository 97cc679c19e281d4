// Two copies of a queue that were held apart for a while become one.
//
// - A finished picture is never lost: it wins over everything but its own removal.
// - What somebody cancelled on one side is cancelled, but for what is finished.
// - Of an image that goes on, the side that has done more of it counts; where both are at the same
//   chunk, the higher (attempt, holder). So it is of two pictures and of failing or not.
// - Of the other side no lease is taken over, and attempts only grow: what its workers say is late.
// - Nor is anything of its spot checks: whoever comes in brings a copy, and by a forged one honest
//   clients would be shut out here, or liars be proven. What it made was checked there or not.

import { nameOf } from './checks.js';
import { isShown, unfinishedImages } from './records.js';
import { SnapshotError } from './snapshot-check.js';
import { MOST } from './snapshot-shape.js';
import { imageEnded, jobEnded } from './transitions.js';

/**
 * @param {import('./records.js').Records} ours changed
 * @param {import('./records.js').Records} theirs of the same room; used up
 * @param {number} now ms
 * @throws {SnapshotError} for another room's, or when both are more than one queue holds; nothing
 *   has changed then
 */
export function mergeInto(ours, theirs, now) {
  if (theirs.room !== ours.room) throw new SnapshotError('a snapshot of another room');
  refuseTooMany(ours, theirs);
  refuseAnother(ours, theirs);
  for (const [client, turn] of Object.entries(theirs.turns)) {
    ours.turns[client] = Math.max(ours.turns[client] ?? 0, turn);
  }
  for (const name of ['revision', 'turn', 'number', 'newestJobAt']) {
    ours[name] = Math.max(ours[name], theirs[name]);
  }
  for (const worker of theirs.workers.values()) {
    if (ours.workers.has(worker.id)) continue;
    ours.workers.set(worker.id, { ...worker, state: 'gone', valid: 0 });
  }
  const ids = new Set([...ours.jobs.keys(), ...theirs.jobs.keys(), ...theirs.gone.keys()]);
  for (const id of ids) new JobMerge(ours, theirs, id).merge(now);
  ours.jobs = new Map([...ours.jobs].sort(([, one], [, other]) => one.createdAt - other.createdAt));
}

/** Or else nobody would take the copies of what comes of it. */
function refuseTooMany(ours, theirs) {
  const names = {
    jobs: [ours.jobs, theirs.jobs].map((jobs) => [...jobs.keys()]),
    chunks: [ours.chunks, theirs.chunks].map((chunks) => [...chunks.keys()]),
    workers: [ours.workers, theirs.workers].map((workers) => [...workers.keys()]),
    clients: [ours.turns, theirs.turns].map((turns) => Object.keys(turns)),
    gone: [ours.gone, theirs.gone].map((gone) => [...gone.keys()]),
  };
  for (const [what, both] of Object.entries(names)) {
    if (new Set(both.flat()).size > MOST[what]) {
      throw new SnapshotError(`a snapshot: together more than ${MOST[what]} ${what}`);
    }
  }
}

/** What both have by one name is one thing. */
function refuseAnother(ours, theirs) {
  for (const job of theirs.jobs.values()) {
    const known = ours.jobs.get(job.id);
    if (known && sameness(known) !== sameness(job)) {
      throw new SnapshotError('a snapshot: another job by the name of one that is here');
    }
  }
  for (const { id, job, image, kind } of theirs.chunks.values()) {
    const known = ours.chunks.get(id);
    if (known && !(known.job === job && known.image === image && known.kind === kind)) {
      throw new SnapshotError('a snapshot: another chunk by the name of one that is here');
    }
  }
}

const sameness = ({ client, createdAt, settings }) => (
  JSON.stringify([client, createdAt, Object.entries(settings).sort()]));

/** One job on both sides; `null` where a side does not know it. */
class JobMerge {
  #ours;
  #theirs;
  #id;

  constructor(ours, theirs, id) {
    this.#ours = side(ours, id);
    this.#theirs = side(theirs, id);
    this.#id = id;
  }

  merge(now) {
    const { records } = this.#ours;
    const sides = [this.#ours, this.#theirs];
    const [one, other] = sides.map(({ job }) => job);
    if (!one && !other) return;
    const before = one && JSON.stringify(one);
    const removed = [...new Set(sides.flatMap((from) => from.removed))];
    const images = this.#images(now).filter(({ image }) => !removed.includes(image.index));
    // A side that has forgotten the job cancelled it, or dismissed what failed.
    if (sides.some(({ job, gone }) => !job && gone)) {
      for (const { image } of images) if (!imageEnded(image)) cancel(image, now);
    }
    const job = { ...(one ?? other), images: images.map(({ image }) => image), removed };
    job.conditioning = one?.conditioning ?? other?.conditioning ?? null;
    job.startedAt = earliest(one?.startedAt, other?.startedAt);
    settle(job, [other, one], now);
    const encoding = this.#encoding(job, now);
    for (const { id } of this.#ours.chunks) records.chunks.delete(id);
    this.#forgetChecks(images, job);
    if (jobEnded(job) && !job.images.some(({ state }) => ['done', 'failed'].includes(state))
      && !one) return; // nothing that we would show, and we do not have it
    records.jobs.set(this.#id, job);
    records.gone.delete(this.#id);
    if (encoding) records.chunks.set(encoding.id, encoding);
    for (const { image, chunk } of images) {
      if (imageEnded(image) || encoding || image.picture !== null) continue;
      if (chunk) records.chunks.set(chunk.id, chunk);
      else records.addNextChunk(job, image, now);
    }
    this.#forgetUnheld();
    // History that both have alike is no news.
    const known = jobEnded(job) && isShown(job) && JSON.stringify(job) === before;
    if (!job.images.length) records.forget(job);
    else if (!known) records.announce(job);
  }

  /** Checks of leases that the other side's chunks have taken the place of. */
  #forgetUnheld() {
    const { records } = this.#ours;
    const held = new Set(records.chunksOf(this.#id).filter(({ state }) => state === 'leased')
      .map(nameOf));
    for (const check of [...records.checks.values()]) {
      const lost = check.job === this.#id && check.state === 'held' && !held.has(check.id);
      if (lost) records.forgetCheck(check);
    }
  }

  /** Of each index the side that counts: { image, chunk }. */
  #images(now) {
    const indexes = [this.#ours, this.#theirs].flatMap(({ images }) => [...images.keys()]);
    return [...new Set(indexes)].sort((a, b) => a - b).map((index) => {
      const one = this.#ours.images.get(index) ?? null;
      const other = this.#theirs.images.get(index) ?? null;
      const theirs = Boolean(other && (!one || this.#wins(other, one)));
      const [winner, loser] = theirs ? [other, one] : [one, other];
      const { image } = winner;
      if (theirs) unchecked(image, now);
      if (theirs) image.checked = [];
      if (loser && place(loser) > place(winner)) { // its ranges are done again, as other chunks
        image.goneBack = Math.max(image.goneBack, loser.image.goneBack) + 1;
      }
      if (theirs && !imageEnded(image)) image.worker = null;
      const chunk = theirs
        ? adopted(other.chunk, one?.chunk, now) : kept(one.chunk, other?.chunk);
      return { image, chunk, theirs };
    });
  }

  /** Of images that are the other side's now, or came to no good end. */
  #forgetChecks(images, job) {
    const { records } = this.#ours;
    const still = new Set(images.filter(({ image, theirs }) => (
      !theirs && ['running', 'done'].includes(image.state))).map(({ image }) => image.index));
    for (const check of [...records.checks.values()]) {
      if (check.job !== this.#id) continue;
      const over = jobEnded(job) && check.state !== 'open'; // of open ones the pictures are marked
      const kept = check.image === null ? !over : still.has(check.image);
      if (!kept) records.forgetCheck(check);
    }
  }

  /** Whether their image counts and not ours. */
  #wins(theirs, ours) {
    const [more, less] = [weight(theirs.image), weight(ours.image)];
    if (more !== less) return more > less;
    const [there, here] = [place(theirs), place(ours)];
    // One that failed has failed only where the other is no further.
    if (there !== here) {
      const failed = [theirs, ours].map(({ image }) => image.state === 'failed');
      return failed[0] === failed[1] ? there > here : failed[1];
    }
    return this.#isHigher(theirs.attempt, ours.attempt);
  }

  #isHigher(theirs, ours) {
    return theirs > ours
      || (theirs === ours && this.#theirs.records.holder > this.#ours.records.holder);
  }

  /** The live encoding, while no side has its result. */
  #encoding(job, now) {
    if (job.conditioning !== null || jobEnded(job)) return null;
    const [one, other] = [this.#ours, this.#theirs].map(({ chunks }) => (
      chunks.find(({ kind }) => kind === 'encode') ?? null));
    const theirs = other && (!one || this.#isHigher(other.attempt, one.attempt));
    return theirs ? adopted(other, one, now) : kept(one, other);
  }
}

function side(records, id) {
  const job = records.jobs.get(id) ?? null;
  const chunks = records.chunksOf(id);
  const images = new Map(job?.images.map((image) => {
    const chunk = chunks.find((one) => one.image === image.index) ?? null;
    const attempt = chunk?.attempt ?? image.endedBy?.attempt ?? 0;
    return [image.index, { image, chunk, attempt }];
  }));
  const gone = records.gone.get(id);
  return { records, job, chunks, images, gone, removed: job?.removed ?? gone?.removed ?? [] };
}

/** A chunk of theirs, whose worker is not here. */
function adopted(chunk, ours, now) {
  return chunk && {
    ...chunk,
    state: 'pending',
    attempt: Math.max(after(chunk), ours?.id === chunk.id ? after(ours) : 0),
    deadline: null,
    leasedAt: null,
    beganAt: null,
    from: null,
    createdAt: Math.min(chunk.createdAt, now),
  };
}

/** A chunk of ours. Leased it stays; else no lease of theirs may be given here once more. */
function kept(chunk, theirs) {
  if (chunk?.state === 'pending' && theirs?.id === chunk.id) {
    chunk.attempt = Math.max(chunk.attempt, after(theirs));
  }
  return chunk;
}

/** The attempt after this lease, or the present one of what is not leased. */
const after = ({ attempt, state }) => (state === 'leased' ? attempt + 1 : attempt);

const weight = ({ state, picture }) => (
  { done: 3, cancelled: 2 }[state] ?? (picture === null ? 0 : 1));

/** Their picture: nobody waits here for checks that are not here. */
function unchecked(image, now) {
  if (image.picture === null) return;
  if (image.state === 'running') {
    Object.assign(image, { state: 'done', finishedAt: now, checkpoints: [], preview: null,
      previewStep: null, doubt: 'lapsed' });
  } else if (image.doubt === 'unchecked') {
    image.doubt = 'lapsed';
  }
}

/** How far an image is: encoding, then its steps, then decoding, then its end. */
function place({ image, chunk }) {
  const { kind, start } = chunk ?? image.endedBy ?? { kind: 'encode', start: 0 };
  return { encode: -1, denoise: start, decode: Infinity }[kind];
}

function cancel(image, now) {
  Object.assign(image, {
    state: 'cancelled', finishedAt: now, checkpoints: [], preview: null, previewStep: null,
    picture: null,
  });
}

/** The job's state follows from those of its images. */
function settle(job, sides, now) {
  const states = job.images.map(({ state }) => state);
  const failed = states.includes('failed');
  Object.assign(job, { errorCode: null, errorDetail: '' });
  for (const known of sides) {
    if (failed && known?.errorCode) Object.assign(job, pickError(known));
  }
  if (unfinishedImages(job).length) {
    job.state = job.startedAt === null ? 'queued' : 'running';
    job.finishedAt = null;
    return;
  }
  job.state = states.includes('cancelled') ? 'cancelled' : failed ? 'failed' : 'done';
  job.finishedAt ??= now;
  job.conditioning = null;
}

const pickError = ({ errorCode, errorDetail }) => ({ errorCode, errorDetail });

const earliest = (...times) => {
  const known = times.filter((time) => time !== null && time !== undefined);
  return known.length ? Math.min(...known) : null;
};
