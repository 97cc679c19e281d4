// A snapshot that came from another tab, or from storage, read as if an enemy had written it.
//
// First each member by itself (snapshot-shape.js), then how they belong together: what must hold in
// every queue between two calls holds in what is let in, so no call has to fear it.

import { seedOf } from './requests.js';
import { must, ShapeError } from './shapes.js';
import { snapshot as whole } from './snapshot-shape.js';
import { imageEnded, jobEnded } from './transitions.js';

/** What was given is no snapshot of a queue. `message` says where it is wrong. */
export class SnapshotError extends TypeError {
  name = 'SnapshotError';
}

/**
 * @param {unknown} given JSON
 * @param {import('./shapes.js').Shape<object>} [shape] `snapshotAgain()`
 * @returns {object} a copy that holds what a snapshot does and nothing else
 * @throws {SnapshotError}
 */
export function checkedSnapshot(given, shape = whole) {
  try {
    const snapshot = shape(given);
    belongsTogether(snapshot);
    return snapshot;
  } catch (error) {
    if (error instanceof ShapeError) throw new SnapshotError(`a snapshot: ${error.message}`);
    throw error;
  }
}

function belongsTogether({ jobs, chunks: all, workers, gone, turns, revision, turn, newestJobAt,
  number, checks, shutOut }) {
  const present = uniqueBy(workers, ({ id }) => id, 'a worker of its own id');
  const known = uniqueBy(jobs, ({ id }) => id, 'a job of its own id');
  uniqueBy(gone, ([id]) => id, 'a job that went once');
  const byId = uniqueBy(all, ({ id }) => id, 'a chunk of its own id');
  const chunks = all.filter(({ kind }) => kind !== 'check');
  uniqueBy(shutOut, ({ client }) => client, 'somebody who was shut out once');
  must(Object.values(turns).every((one) => one <= turn), 'turns that have been');
  for (const [, went] of gone) must(went.revision <= revision, 'a revision that has been');
  const chunksOf = Map.groupBy(chunks, ({ job }) => job);
  for (const chunk of all) {
    must(known.has(chunk.job), 'a chunk of a job that is there');
    must(chunk.number <= number, 'a number that was given');
    must((chunk.kind === 'check') === (chunk.check !== null), 'a check that checks something');
    checkLease(chunk, present);
  }
  const ofChecks = uniqueBy(all.filter(({ kind }) => kind === 'check'), ({ check }) => check,
    'one chunk of a check');
  for (const check of uniqueBy(checks, ({ id }) => id, 'a check of its own id').values()) {
    must(known.has(check.job), 'a check of a job that is there');
    checkCheck(check, known.get(check.job), ofChecks.get(check.id) ?? null);
    const [chunk, attempt] = check.id.split('.').map(Number);
    must(check.state !== 'held' || isLeasedAs(byId.get(chunk), attempt, check),
      'a lease of what is held');
  }
  must([...ofChecks.values()].every(({ check, job }) => checks.some(
    ({ id, job: other }) => id === check && job === other)), 'a check that is there');
  for (const job of jobs) {
    must(job.revision <= revision && job.createdAt <= newestJobAt, 'a job that has been');
    checkJob(job, chunksOf.get(job.id) ?? []);
  }
}

function uniqueBy(records, key, wanted) {
  const found = new Map(records.map((one) => [key(one), one]));
  must(found.size === records.length, wanted);
  return found;
}

function checkLease(chunk, workers) {
  const { state, deadline, leasedAt, beganAt, from, worker } = chunk;
  const parts = [deadline, leasedAt, beganAt, from];
  if (state === 'pending') {
    must(parts.every((part) => part === null), 'a pending chunk without a lease');
    return;
  }
  must(parts.every((part) => part !== null), 'a whole lease');
  must(workers.get(worker)?.state === 'ready', 'a lease of a worker that is there');
}

function checkCheck(check, { images, settings: { steps } }, chunk) {
  const { kind, image, start, stop, given, conditioning, result, second, state } = check;
  must((kind === 'encode') === (image === null), 'a check of an encoding or of an image');
  const of = images.find(({ index }) => index === image);
  must(image === null || (of && ['running', 'done'].includes(of.state)), 'a check of what is there');
  must(kind === 'denoise' ? start <= stop && stop <= steps
    : start === 0 && stop === 0, 'a check of its steps');
  must((kind === 'decode' || start > 0) === (given !== null), 'a latent where it began');
  must((kind === 'denoise') === (conditioning !== null), 'texts of its steps');
  must(state === 'held' || result !== null, 'a result that is checked');
  must((state === 'open') === (chunk !== null), 'a chunk of what is to be checked');
  must(second === null || state === 'open', 'a second result of what is not decided');
  if (!chunk) return;
  must(chunk.image === null && chunk.start === 0 && chunk.stop === 0 && (chunk.from ?? 0) === 0,
    'a check without steps of its own');
}

const isLeasedAs = (chunk, attempt, { kind, image, job, worker, start }) => (
  chunk?.state === 'leased' && chunk.attempt === attempt && chunk.kind === kind
  && chunk.image === image && chunk.job === job && chunk.worker === worker && chunk.from === start);

function checkJob(job, chunks) {
  const { images, removed, settings } = job;
  const ended = jobEnded(job);
  const byIndex = uniqueBy(images, ({ index }) => index, 'an image of its own number');
  must(new Set(removed).size === removed.length, 'a picture that was removed once');
  must([...byIndex.keys(), ...removed].every((index) => index < settings.num_images),
    'an image that was asked for');
  must(!removed.some((index) => byIndex.has(index)), 'a picture that is there or was removed');
  const open = images.filter((image) => !imageEnded(image));
  must(ended === (open.length === 0), 'a job that ends with its images');
  must(ended === (job.finishedAt !== null), 'a job that has a time of its end with its end');
  must(job.state !== 'failed' || job.errorCode !== null, 'a reason where a job has failed');
  must(!ended || (chunks.length === 0 && job.conditioning === null), 'nothing to do for what ended');
  const encodings = chunks.filter(({ kind }) => kind === 'encode');
  must(encodings.length <= 1, 'one encoding');
  must(ended || (job.conditioning === null) === (encodings.length === 1), 'a text or its encoding');
  must(job.state !== 'queued' || encodings.length === 1, 'a queued job that can begin');
  must(ended || (job.state === 'queued') === (job.startedAt === null), 'a job that runs or not');
  for (const image of images) checkImage(image, settings);
  for (const chunk of chunks) checkChunk(chunk, byIndex, settings);
  const places = new Set([...encodings, ...chunks].map(({ image }) => image));
  must(places.size === chunks.length, 'one chunk of an image');
  const toDo = open.filter(({ picture }) => picture === null);
  must(encodings.length === 1 ? chunks.length === 1 : chunks.length === toDo.length,
    'a chunk for every image that is not done');
  must(job.state !== 'queued' || toDo.length === open.length, 'no picture before the text');
}

function checkImage(image, { steps, seed }) {
  const { index, state, step, previewStep, checkpoints, picture, finishedAt } = image;
  must(image.seed === seedOf(seed, index), 'the seed of its number');
  must(step <= steps && (previewStep ?? 0) <= steps, 'steps of its job');
  must(state === 'running' || (state === 'done') === (picture !== null),
    'a picture where one is done');
  must(state === 'done' || image.doubt === null, 'a doubt of what is done');
  must(imageEnded(image) === (finishedAt !== null), 'a time of its end with its end');
  must(!imageEnded(image) || (checkpoints.length === 0 && image.preview === null
    && previewStep === null), 'nothing to go on from in what ended');
  must(state !== 'queued' || (step === 0 && checkpoints.length === 0), 'no step before it runs');
  must(image.timeline.every((entry) => entry.start <= entry.stop && entry.stop <= steps
    && (entry.outcome === 'done') === (entry.seconds !== null)
    && (entry.outcome === 'failed') === (entry.fault !== null)), 'a timeline of its steps');
  must(image.checked.every((one) => one.start <= one.stop && one.stop <= steps
    && (one.verdict === 'unsaid') === (one.checker === null)
    && (one.verdict === 'unsaid') === (one.distance === null)
    && (one.distance === null) === (one.limit === null)), 'checks of its steps');
  const [newest, older] = checkpoints;
  must(!newest || (newest.step >= 1 && newest.step <= steps), 'a checkpoint of its steps');
  must(!older || (older.step >= 1 && older.step < newest.step), 'the newest checkpoint first');
}

function checkChunk(chunk, images, { steps }) {
  const { kind, image: index, start, stop, from } = chunk;
  if (kind === 'encode') {
    must(index === null && start === 0 && stop === 0 && (from ?? 0) === 0, 'one encoding of a job');
    return;
  }
  const image = images.get(index);
  must(image !== undefined && !imageEnded(image) && image.picture === null,
    'a chunk of an image that is not done');
  if (kind === 'decode') {
    must(start === 0 && stop === 0 && (from ?? 0) === 0, 'a decoding without steps');
    must(image.checkpoints[0]?.step === steps, 'a decoding of all steps');
    return;
  }
  must(start < stop && stop <= steps && (from === null || (start <= from && from <= stop)),
    'a range of its steps');
  must(start <= (image.checkpoints[0]?.step ?? 0), 'a range that begins with what is there');
}
