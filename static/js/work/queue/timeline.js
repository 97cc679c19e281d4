// How a picture was made: who computed which steps, when, and what went wrong. Twin of
// queue/genqueue/timeline.py.
//
// - One entry is one lease: a chunk that was handed in, given back or taken back. Chunks in a row of
//   one worker are one entry, so most pictures have three.
// - It is kept with the picture and bounded: of more than MOST_ENTRIES the oldest go, those without a
//   result first.

import { unfinishedImages } from './records.js';

export const MOST_ENTRIES = 128;

/**
 * @typedef {object} Entry
 * @property {'encode'|'denoise'|'decode'} kind
 * @property {'done'|'returned'|'failed'} outcome returned: unharmed
 * @property {number} start @property {number} stop the steps that count, the same twice where none
 *   does
 * @property {string} worker its id @property {string} kernels that it ran then
 * @property {number} began @property {number} ended ms since the epoch
 * @property {number|null} seconds of computing; null where no result came
 * @property {number} attempt how often the chunk had been taken back before
 * @property {number} chunks how many are in it
 * @property {number} received @property {number} sent bytes to its worker and from it
 * @property {string|null} fault a code, of a failed one
 */

/** @param {Entry[]} entries @param {Entry} entry @returns {Entry[]} with it, at most MOST_ENTRIES */
export function added(entries, entry) {
  const last = entries.at(-1);
  if (last && goesOn(last, entry)) {
    const together = { ...last, stop: entry.stop, ended: entry.ended };
    for (const name of ['seconds', 'chunks', 'received', 'sent']) {
      together[name] = thousandths(last[name] + entry[name]);
    }
    return [...entries.slice(0, -1), together];
  }
  const kept = [...entries, entry];
  while (kept.length > MOST_ENTRIES) {
    const fruitless = kept.slice(0, -1).findIndex(({ outcome }) => outcome !== 'done');
    kept.splice(Math.max(0, fruitless), 1);
  }
  return kept;
}

const goesOn = (last, entry) =>
  last.outcome === 'done' && entry.outcome === 'done'
  && ['kind', 'worker', 'kernels'].every((name) => last[name] === entry[name])
  && entry.kind === 'denoise' && last.stop === entry.start && entry.attempt === 0;

/** @param {Entry[]} entries @returns {number} the step that the image goes on from, as they tell */
export const covered = (entries) =>
  entries.findLast(({ kind }) => kind === 'denoise')?.stop ?? 0;

/** How many steps each worker has computed. Steps that were lost count for nobody.
 * @param {Entry[]} entries @returns {Record<string, number>} by its id */
export function stepsBy(entries) {
  const steps = {};
  for (const { worker, start, stop } of entries) {
    if (stop > start) steps[worker] = (steps[worker] ?? 0) + stop - start;
  }
  return steps;
}

/**
 * A chunk was handed in.
 * @param {import('./records.js').Records} records @param {import('./records.js').Chunk} chunk as it
 *   was leased
 * @param {{now: number, seconds: number, received?: number, sent?: number}} how
 */
export function noteDone(records, chunk, { now, seconds, received = 0, sent = 0 }) {
  const steps = chunk.kind === 'denoise' ? [chunk.from, chunk.stop] : [0, 0];
  note(records, chunk, steps, now,
    { outcome: 'done', seconds: thousandths(seconds), received, sent, fault: null });
}

/** A lease has ended without a result: unharmed, or by this fault. What its worker left as a
 * checkpoint counts. @param {string|null} fault */
export function noteEnded(records, chunk, fault, now) {
  let steps = [0, 0];
  if (chunk.kind === 'denoise') {
    const { checkpoints, timeline } = records.imageOf(chunk);
    const stop = checkpoints[0]?.step ?? 0;
    const begun = timeline.length ? covered(timeline) : stop; // nothing is known of before an update
    steps = [Math.min(begun, stop), stop];
  }
  const outcome = fault === null ? 'returned' : 'failed';
  note(records, chunk, steps, now, { outcome, seconds: null, received: 0, sent: 0, fault });
}

/** In the image of the chunk; what concerns the encoding in all images that wait for it. */
function note(records, chunk, [start, stop], now, what) {
  const { kind, worker, attempt, leasedAt } = chunk;
  const { kernels } = records.workers.get(worker);
  const entry = {
    kind, start, stop, worker, kernels, began: leasedAt, ended: now, attempt, chunks: 1, ...what,
  };
  const job = records.jobs.get(chunk.job);
  const images = chunk.image === null ? unfinishedImages(job) : [records.imageOf(chunk)];
  for (const image of images) image.timeline = added(image.timeline, entry);
}

const thousandths = (number) => Math.round(number * 1000) / 1000;
