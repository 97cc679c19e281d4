// How a picture was made: who computed which steps, when, and what went wrong. Twin of
// queue/genqueue/timeline.py.
//
// - One entry is one lease: a chunk that was handed in, given back or taken back. Chunks in a row of
//   one worker are one entry, so most pictures have three.
// - Beside the entries is what checks have found of them, one a result of a checker; agreements in a
//   row of one worker's steps by one checker are one.
// - Both are kept with the picture and bounded: of more than MOST_ENTRIES the oldest go, those without
//   a result first; of more than MOST_CHECKS the oldest agreements.

import { MOST_PARTNERS, parts, present, together } from './partners.js';
import { unfinishedImages } from './records.js';
import { imageEnded } from './transitions.js';

export const MOST_ENTRIES = 128;
export const MOST_CHECKS = 64;
export const FARTHEST = 1e9; // texts of another length are infinitely far

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
 * @property {import('./partners.js').Partner[]} partners who else had a part in it
 *
 * @typedef {object} Checked
 * @property {'encode'|'denoise'|'decode'} kind
 * @property {number} start @property {number} stop steps of a `denoise` that were computed again
 * @property {string} worker whose it was @property {string|null} checker null: nobody could say
 * @property {'agreed'|'wrong'|'disputed'|'unsaid'} verdict
 * @property {boolean} again it was wrong, and was made once more
 * @property {number|null} distance between both results @property {number|null} limit of honest ones;
 *   null where nothing was measured
 * @property {number} at ms since the epoch
 * @property {number} checks how many are in it
 */

/** @param {Entry[]} entries @param {Entry} entry @returns {Entry[]} with it, at most MOST_ENTRIES */
export function added(entries, entry) {
  const last = entries.at(-1);
  if (last && goesOn(last, entry)) {
    const partners = together(last.partners, entry.partners);
    const both = { ...last, stop: entry.stop, ended: entry.ended, partners };
    for (const name of ['seconds', 'chunks', 'received', 'sent']) {
      both[name] = thousandths(last[name] + entry[name]);
    }
    return [...entries.slice(0, -1), both];
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
  && entry.kind === 'denoise' && last.stop === entry.start && entry.attempt === 0
  && together(last.partners, entry.partners).length <= MOST_PARTNERS;

/** @param {Checked[]} checks @param {Checked} check
 * @returns {Checked[]} with it, at most MOST_CHECKS */
export function withCheck(checks, check) {
  const last = checks.at(-1);
  if (last && agreesOn(last, check)) {
    return [...checks.slice(0, -1), {
      ...last, stop: check.stop, at: check.at, distance: Math.max(last.distance, check.distance),
      checks: last.checks + check.checks,
    }];
  }
  const kept = [...checks, check];
  while (kept.length > MOST_CHECKS) {
    const agreed = kept.slice(0, -1).findIndex(({ verdict }) => verdict === 'agreed');
    kept.splice(Math.max(0, agreed), 1);
  }
  return kept;
}

const agreesOn = (last, check) => (
  last.verdict === 'agreed' && check.verdict === 'agreed'
  && ['kind', 'worker', 'checker', 'limit'].every((name) => last[name] === check[name])
  && check.kind === 'denoise' && last.stop === check.start);

/** How many steps each worker has computed; half of those that two have computed together. Steps that
 * were lost, or found wrong and computed again, count for nobody. @param {Entry[]} entries @returns {Record<string, number>} by its id */
export function stepsBy(entries) {
  let ranges = [];
  for (const { kind, worker, start, stop, partners } of entries) {
    if (kind !== 'denoise') continue;
    ranges = ranges.filter((one) => one.start < start) // whatever comes after it was done in vain
      .map((one) => ({ ...one, stop: Math.min(one.stop, start) }));
    if (stop > start) ranges.push({ worker, start, stop, partners });
  }
  const steps = {};
  for (const { worker, start, stop, partners } of ranges) {
    for (const [id, part] of parts(stop - start, worker, partners)) {
      steps[id] = (steps[id] ?? 0) + part;
    }
  }
  return steps;
}

/**
 * A chunk was handed in.
 * @param {import('./records.js').Records} records @param {import('./records.js').Chunk} chunk as it
 *   was leased
 * @param {{now: number, seconds: number, received?: number, sent?: number,
 *   partners?: import('./partners.js').Partner[]}} how partners: as its worker says
 */
export function noteDone(records, chunk,
  { now, seconds, received = 0, sent = 0, partners: said = [] }) {
  const steps = chunk.kind === 'denoise' ? [chunk.from, chunk.stop] : [0, 0];
  note(records, chunk, steps, now,
    { outcome: 'done', seconds: thousandths(seconds), received, sent, fault: null,
      partners: present(records, said, chunk.worker) });
}

/** A lease has ended without a result: unharmed, or by this fault. What its worker left as a
 * checkpoint counts. @param {string|null} fault */
export function noteEnded(records, chunk, fault, now) {
  let steps = [0, 0];
  if (chunk.kind === 'denoise') {
    const stop = records.imageOf(chunk).checkpoints[0]?.step ?? 0;
    steps = [Math.min(chunk.from, stop), stop];
  }
  const outcome = fault === null ? 'returned' : 'failed';
  note(records, chunk, steps, now,
    { outcome, seconds: null, received: 0, sent: 0, fault, partners: [] });
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

/**
 * A checker's result was held against what had been handed in, or nobody can say any more.
 * @param {import('./checks.js').Check} check
 * @param {import('./records.js').Image[]} images that it is about
 * @param {Checked['verdict']} verdict @param {number} now ms
 * @param {{checker?: string|null, finding?: import('./checks.js').Finding|null}} [by]
 */
export function noteCheck({ kind, start, stop, worker }, images, verdict, now,
  { checker = null, finding = null } = {}) {
  const distance = finding && significant(Math.min(finding.distance, FARTHEST));
  for (const image of images) {
    // Of what is finished only the picture itself is replaced
    const again = verdict === 'wrong' && (!imageEnded(image) || kind === 'decode');
    image.checked = withCheck(image.checked, {
      kind, start, stop, worker, checker, verdict, again, distance, limit: finding?.limit ?? null,
      at: now, checks: 1,
    });
  }
}

const significant = (number) => Number(number.toPrecision(6));
const thousandths = (number) => Math.round(number * 1000) / 1000;
