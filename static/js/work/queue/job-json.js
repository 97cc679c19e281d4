// Jobs and workers as the JSON that pages and sockets get: the shapes of queue/genqueue/shapes.py.
//
// Addresses are names of blobs here; who shows them turns them into addresses.

import { imagesOf } from './checks.js';
import { ofOneLease, sentence } from './faults.js';
import { awaitsChecks } from './finishing.js';
import { stepsBy } from './timeline.js';
import { imageEnded, jobEnded } from './transitions.js';
import { reasonOf } from './verdicts.js';

const SHOWN_SHUT_OUT = 5;

/**
 * @typedef {object} Forecast
 * @property {number|null} position 1 is the next job to start; null once it runs
 * @property {number|null} eta_seconds from now until the job's last image is done
 * @property {boolean} waits_for_model the workers that are there have other models
 */

/**
 * @param {import('./records.js').Records} records @param {import('./records.js').Job} job
 * @param {Forecast|undefined} expected of an unfinished job
 * @returns {object} JobJson
 */
export function jobJson(records, job, expected) {
  const ended = jobEnded(job);
  return {
    id: job.id,
    room: records.room,
    client: job.client,
    state: job.state,
    position: (job.state === 'queued' && expected?.position) || null,
    eta_seconds: ended ? null : expected?.eta_seconds ?? null,
    waits_for_model: !ended && Boolean(expected?.waits_for_model),
    ...job.settings,
    created_at: time(job.createdAt),
    started_at: time(job.startedAt),
    finished_at: time(job.finishedAt),
    error: job.state === 'failed'
      ? { code: job.errorCode, detail: sentence(job.errorCode) } : null,
    images: job.images.map((image) => imageJson(records, job, image)),
  };
}

function imageJson(records, job, image) {
  const worker = image.worker === null ? null : records.workers.get(image.worker);
  const done = image.state === 'done';
  return {
    index: image.index,
    seed: image.seed,
    state: image.state,
    step: image.step,
    steps: job.settings.steps,
    worker: worker ? workerJson(worker) : null,
    url: done ? image.picture : null, // else it waits for its checks
    preview_url: image.state === 'running' && image.previewStep !== null ? image.preview : null,
    seconds: done ? Math.round(image.seconds * 1000) / 1000 : null,
    steps_by: stepsBy(image.timeline),
    check: awaitsChecks(image) ? checkOf(records, job, image) : null,
    doubt: image.doubt === 'lapsed' ? 'unchecked' : image.doubt,
  };
}

function checkOf({ chunks, checks }, job, image) {
  const begun = [...chunks.values()].some(({ kind, state, check, job: id }) => kind === 'check'
    && state === 'leased' && id === job.id && imagesOf(checks.get(check), [image]).length);
  return begun ? 'running' : 'waiting';
}

/** @param {import('./records.js').Worker} worker @returns {object} WorkerJson */
const workerJson = ({ id, name, kind, client, device, kernels }) =>
  ({ id, name, kind, client, device, kernels });

/** @param {import('./records.js').Records} records @param {import('./records.js').Worker} worker
 * @returns {object} RoomWorkerJson */
export function roomWorkerJson(records, worker) {
  const measured = Object.values(worker.speeds).findLast(({ kind }) => kind === 'denoise');
  const chunk = [...records.chunks.values()].find(
    (one) => one.state === 'leased' && one.worker === worker.id);
  return {
    ...workerJson(worker),
    state: worker.state,
    seconds_a_step: measured ? Math.round(measured.seconds * 1000) / 1000 : null,
    at_work: chunk ? atWorkJson(chunk) : null,
    lacks: { ...worker.lacks },
  };
}

/** @param {import('./records.js').Records} records @returns {object[]} ShutOutJson, newest first */
export const shutOutJson = (records) => [...records.shutOut.values()].slice(-SHOWN_SHUT_OUT).reverse()
  .map((one) => ({
    name: one.name, client: one.client, reason: reasonOf(one), at: time(one.at),
  }));

const atWorkJson = ({ job, image: index, kind, from, stop }) =>
  ({ job, index, kind, start: kind === 'denoise' ? from : 0, stop });

/** How an image was made, with what is computed at this moment as the last entry, and what is to be
 * checked yet as the last checks.
 * @param {import('./records.js').Records} records @param {import('./records.js').Job} job
 * @param {import('./records.js').Image} image @returns {object} TimelineJson */
export function timelineJson(records, job, image) {
  const { index, state, step, timeline } = image;
  // Of copies that others sent, a worker may be missing: what is known of nobody is not told.
  const is = ({ worker }) => records.workers.has(worker);
  const known = timeline.filter(is)
    .map((entry) => ({ ...entry, partners: entry.partners.filter(is) }));
  const entries = known.map((entry) => entryJson(records, entry));
  const running = records.chunksOf(job.id).find((chunk) => chunk.state === 'leased'
    && (chunk.image === index || (chunk.kind === 'encode' && !imageEnded(image))));
  if (running) {
    const start = running.kind === 'denoise' ? running.from : 0;
    const stop = running.kind === 'denoise' ? Math.max(start, step) : 0;
    entries.push(entryJson(records, runningEntry(records, running, start, stop)));
  }
  const found = image.checked.filter(({ worker, checker }) => records.workers.has(worker)
    && (checker === null || records.workers.has(checker)));
  const checks = found.map((one) => checkJson(records, one));
  checks.push(...waitingChecks(records, job, image));
  return { job: job.id, index, state, steps: job.settings.steps, entries, checks };
}

function waitingChecks(records, job, image) {
  const open = [...records.checks.values()].filter((check) => check.job === job.id
    && check.state === 'open' && imagesOf(check, [image]).length && records.workers.has(check.worker));
  const leased = [...records.chunks.values()].filter(({ state }) => state === 'leased');
  return open.map(({ id, kind, start, stop, worker }) => {
    const checker = leased.find(({ check }) => check === id)?.worker ?? null;
    return checkJson(records, { kind, start, stop, worker, checker, verdict: 'waiting', again: false,
      distance: null, limit: null, at: null, checks: 1 });
  });
}

const checkJson = (records, { worker, checker, again, at, ...plain }) => ({
  ...plain,
  worker: workerJson(records.workers.get(worker)),
  checker: checker === null ? null : workerJson(records.workers.get(checker)),
  done_again: again,
  at: time(at),
});

const runningEntry = (records, { kind, worker, attempt, leasedAt }, start, stop) => ({
  kind, outcome: 'running', start, stop, worker, kernels: records.workers.get(worker).kernels,
  began: leasedAt, ended: null, seconds: null, attempt, chunks: 1, received: 0, sent: 0, fault: null,
  partners: [],
});

function entryJson(records, { worker, kernels, began, ended, fault, partners, ...plain }) {
  return {
    ...plain,
    worker: { ...workerJson(records.workers.get(worker)), kernels },
    began_at: time(began),
    ended_at: time(ended),
    fault: fault === null ? null : { code: fault, detail: ofOneLease(fault) },
    partners: partners.map(({ worker: id, ...part }) => (
      { worker: { ...workerJson(records.workers.get(id)), kernels: '' }, ...part })),
  };
}

const time = (ms) => (ms === null ? null : new Date(ms).toISOString());
