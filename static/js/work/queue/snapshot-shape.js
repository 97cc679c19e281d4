// What a snapshot of the queue may be, member by member: the records of records.js with the bounds
// that honest queues keep. A new member of a record is a line here too; what is not here is refused.

import { speedKey } from './cutting.js';
import { CHECKPOINTS_KEPT } from './records.js';
import { MOST_IMAGES, SEED_LIMIT } from './requests.js';
import {
  dictionary, flag, list, number, oneOf, orNull, record, text, that, tuple, whole,
} from './shapes.js';
import { MOST_PARTNERS } from './partners.js';
import { MOST_CHECKS, MOST_ENTRIES } from './timeline.js';
import { CHUNK_LIVE, IMAGE_ENDED, JOB_ENDED, MOVES } from './transitions.js';
import { MOST_SHUT_OUT } from './verdicts.js';

export const FORMAT = 1;

/** Of one queue. What two have together is bounded alike: see merging.js. */
export const MOST = Object.freeze({
  jobs: 2 ** 14, chunks: 2 ** 13, workers: 2 ** 14, clients: 2 ** 14, gone: 2 ** 14, checks: 2 ** 14,
});

const MOST_STEPS = 2 ** 13;
const MOST_SIDE = 2 ** 16;
const MOST_TIME = Date.UTC(3000); // later ones would be no dates after a while of counting on
const MOST_COUNT = 2 ** 50; // counts on for as long as anybody likes
const MOST_ATTEMPTS = 2 ** 31;
const MOST_SECONDS = 1e9;
const MOST_SPEEDS = 2 ** 12; // of a worker: kinds of chunks that it has done
const MOST_SAMPLES = 16;
const LONGEST_PROMPT = 2 ** 13;
const LONGEST_NAME = 200;
const LONGEST_KEY = 500;
const LONGEST_DETAIL = 2 ** 12;

const KINDS = ['encode', 'denoise', 'decode'];
const DOUBTS = ['unchecked', 'lapsed', 'wrong'];
const name = text(LONGEST_NAME, 1);
const time = number(0, MOST_TIME);
const count = whole(0, MOST_COUNT);
const attempts = whole(0, MOST_ATTEMPTS);
const steps = whole(0, MOST_STEPS);
const index = whole(0, MOST_IMAGES - 1);
const seconds = number(0, MOST_SECONDS);
const seed = whole(0, SEED_LIMIT - 1);

const settings = record({
  prompt: text(LONGEST_PROMPT),
  negative_prompt: text(LONGEST_PROMPT),
  model: name,
  width: whole(1, MOST_SIDE),
  height: whole(1, MOST_SIDE),
  steps: whole(1, MOST_STEPS),
  guidance: number(-1e6, 1e6),
  seed,
  num_images: whole(1, MOST_IMAGES),
});

const partner = record({
  worker: name,
  how: oneOf('half', 'band', 'gave'),
  steps,
  received: count,
  sent: count,
});

const entry = filledUp({ partners: [] }, record({
  kind: oneOf(...KINDS),
  outcome: oneOf('done', 'returned', 'failed'),
  start: steps,
  stop: steps,
  worker: name,
  kernels: text(LONGEST_NAME),
  began: time,
  ended: time,
  seconds: orNull(seconds),
  attempt: attempts,
  chunks: count,
  received: count,
  sent: count,
  fault: orNull(name),
  partners: list(partner, MOST_PARTNERS),
}));

const checked = record({
  kind: oneOf(...KINDS),
  start: steps,
  stop: steps,
  worker: name,
  checker: orNull(name),
  verdict: oneOf('agreed', 'wrong', 'disputed', 'unsaid'),
  again: flag,
  distance: orNull(seconds), // of the same bounds
  limit: orNull(seconds),
  at: time,
  checks: whole(1, MOST_COUNT),
});

const image = filledUp({ timeline: [], checked: [], doubt: null }, record({
  index,
  seed,
  state: oneOf('queued', 'running', ...IMAGE_ENDED),
  step: steps,
  preview: orNull(name),
  previewStep: orNull(steps),
  worker: orNull(name),
  picture: orNull(name),
  startedAt: orNull(time),
  finishedAt: orNull(time),
  seconds,
  checkpoints: list(record({ step: steps, latent: name }), CHECKPOINTS_KEPT),
  endedBy: orNull(record({ kind: oneOf(...KINDS), start: steps, attempt: attempts })),
  goneBack: attempts,
  timeline: list(entry, MOST_ENTRIES),
  checked: list(checked, MOST_CHECKS),
  doubt: orNull(oneOf(...DOUBTS)),
}));

const job = record({
  id: name,
  client: name,
  state: oneOf('queued', 'running', ...JOB_ENDED),
  settings,
  conditioning: orNull(name),
  createdAt: time,
  startedAt: orNull(time),
  finishedAt: orNull(time),
  errorCode: orNull(name),
  errorDetail: text(LONGEST_DETAIL),
  images: list(image, MOST_IMAGES),
  removed: list(index, MOST_IMAGES),
  revision: count,
});

const chunk = filledUp({ check: null }, record({
  id: whole(0, Number.MAX_SAFE_INTEGER - MOST.chunks), // addChunk counts on from one that is taken
  job: name,
  image: orNull(index),
  kind: oneOf(...KINDS, 'check'),
  check: orNull(name),
  start: steps,
  stop: steps,
  state: oneOf(...CHUNK_LIVE),
  worker: orNull(name),
  attempt: attempts,
  faults: attempts,
  deadline: orNull(time),
  leasedAt: orNull(time),
  beganAt: orNull(time),
  from: orNull(steps),
  createdAt: time,
  number: count,
}));

const check = record({
  id: name,
  job: name,
  image: orNull(index),
  kind: oneOf(...KINDS),
  start: steps,
  stop: steps,
  state: oneOf(...Object.keys(MOVES.check)),
  given: orNull(name),
  conditioning: orNull(name),
  result: orNull(name),
  worker: name,
  client: name,
  variant: text(LONGEST_NAME),
  second: orNull(name),
  secondWorker: text(LONGEST_NAME),
  secondClient: text(LONGEST_NAME),
  secondVariant: text(LONGEST_NAME),
  opinions: attempts,
  createdAt: time,
});

const shutOut = record({
  client: name,
  name,
  kind: oneOf(...KINDS),
  start: steps,
  stop: steps,
  distance: seconds, // of the same bounds
  limit: seconds,
  at: time,
});

const key = that(isSpeedKey, 'a name of speedKey');
const speed = record({
  kind: oneOf(...KINDS),
  samples: list(seconds, MOST_SAMPLES),
  seconds,
});

const worker = filledUp({ variant: '', valid: 0 }, record({
  id: name,
  client: name,
  kind: name,
  name,
  device: name,
  software: flag,
  kernels: text(LONGEST_NAME),
  models: list(name, 64),
  variant: text(LONGEST_NAME),
  valid: attempts,
  state: oneOf('ready', 'gone'),
  silent: flag,
  arrivedAt: time,
  heardAt: time,
  speeds: dictionary(key, speed, MOST_SPEEDS),
}));

/** The members that are neither records nor lists of them. */
export const PLAIN = Object.freeze({
  room: name,
  holder: text(LONGEST_NAME),
  revision: count,
  paused: flag,
  turn: count,
  number: count,
  newestJobAt: time,
});

const snapshotOf = (ofJob, ofWorker) => filledUp({ checks: [], shutOut: [] }, record({
  format: oneOf(FORMAT),
  ...PLAIN,
  turns: dictionary(name, count, MOST.clients),
  jobs: list(ofJob, MOST.jobs),
  chunks: list(chunk, MOST.chunks),
  workers: list(ofWorker, MOST.workers),
  gone: list(tuple(name, record({ revision: count, removed: list(index, MOST_IMAGES) })), MOST.gone),
  checks: list(check, MOST.checks),
  shutOut: list(shutOut, MOST_SHUT_OUT),
}));

/** @type {import('./shapes.js').Shape<object>} */
export const snapshot = snapshotOf(job, worker);

/**
 * The same for who reads one copy after another and changes nothing of what it gets: a job or worker
 * that is the very object of a snapshot before is read once.
 * @returns {import('./shapes.js').Shape<object>}
 */
export const snapshotAgain = () => snapshotOf(...[job, worker].map((shape) => {
  const known = new WeakMap();
  return (value) => {
    if (!known.has(value)) known.set(value, shape(value));
    return known.get(value);
  };
}));

/** Rooms that were kept before there were such members have none: timelines, checks. */
function filledUp(missing, shape) {
  const names = Object.keys(missing);
  return (value) => {
    const isRecord = value !== null && typeof value === 'object' && !Array.isArray(value);
    const isFull = !isRecord || names.every((name) => Object.hasOwn(value, name));
    return shape(isFull ? value : { ...missing, ...value }); // which copies what is missing too
  };
}

function isSpeedKey(value) {
  if (typeof value !== 'string' || value.length > LONGEST_KEY) return false;
  try {
    const [kind, model, width, height, twice] = JSON.parse(value);
    return KINDS.includes(kind) && value === speedKey(
      kind, { model: String(model), width, height, guidance: twice === 2 ? 2 : 1 });
  } catch {
    return false;
  }
}
