// Snapshots that somebody has tampered with: real ones of random histories, changed at random.
//
// Each is refused with a SnapshotError, and then nothing has changed; or the queue that takes it in
// keeps everything that must hold, goes on, and ends every job (Watch in histories.js).

import { SnapshotError } from '/static/js/work/queue/snapshot-check.js';

import { Story } from './histories.js';
import { lots } from './simulation.js';

const STRANGE = [
  null, true, false, 0, 1, 2, 3, 7, -1, 0.5, NaN, Infinity, 2 ** 31, 2 ** 53, 2 ** 60, '', 'alice',
  'tiny', 'one', 'job1', 'job2', 'pending', 'leased', 'queued', 'running', 'done', 'failed',
  'cancelled', 'encode', 'denoise', 'decode', '__proto__', 'constructor', 'x'.repeat(10_000), [], {},
  [[]], [null], { step: 1, latent: 'x' }, Array(100).fill(0),
];

/**
 * @param {number} seed
 * @returns {{restored: boolean, merged: boolean}} whether each was let in
 * @throws {Error} where something did not hold
 */
export function fuzz(seed) {
  const random = lots(2 ** 21 + seed);
  const copyOf = (story) => {
    for (let i = Math.floor(random() * 60); i > 0; i--) story.goOn();
    return story.copy();
  };
  const real = copyOf(new Story(seed, false));
  const bad = tampered(real, random);
  try {
    return { restored: isTaken(() => goesOn(seed, bad)), merged: isMerged(seed, real, bad) };
  } catch (error) {
    throw Object.assign(error, { message: `fuzz ${seed}: ${error.message}` });
  }
}

function goesOn(seed, snapshot) {
  const story = new Story(seed, false, { snapshot, holder: 'm' });
  for (let i = 0; i < 20; i++) story.goOn();
  story.end();
}

function isMerged(seed, real, bad) {
  const story = new Story(seed, false, { snapshot: real, holder: 'a' });
  for (let i = 0; i < 10; i++) story.goOn();
  const before = JSON.stringify(story.copy());
  const taken = isTaken(() => story.merge(bad));
  if (!taken && JSON.stringify(story.copy()) !== before) throw new Error('a refused copy changed it');
  for (let i = 0; i < 10; i++) story.goOn();
  story.end();
  return taken;
}

function isTaken(take) {
  try {
    take();
    return true;
  } catch (error) {
    if (error instanceof SnapshotError) return false;
    throw error;
  }
}

/** A copy with one to three random changes. */
function tampered(real, random) {
  const bad = structuredClone(real);
  const some = (list) => list[Math.floor(random() * list.length)];
  for (let changes = 1 + Math.floor(random() * 3); changes > 0; changes--) {
    const places = [...placesIn(bad)];
    const { holder, key } = some(places);
    const lot = random();
    if (lot < 0.5) holder[key] = structuredClone(some(STRANGE));
    else if (lot < 0.65 && Number.isFinite(holder[key])) holder[key] += some([-1, 1, 2, 1000]);
    else if (lot < 0.8) holder[key] = structuredClone(valueAt(some(places.filter(
      (other) => typeof valueAt(other) === typeof holder[key]))));
    else if (lot < 0.9 && Array.isArray(holder)) holder.splice(key, 1, holder[key], holder[key]);
    else if (lot < 0.95 && Array.isArray(holder)) holder.splice(key, 1);
    else if (lot < 0.97) delete holder[key];
    else if (!Array.isArray(holder)) holder[some(['more', 'toString'])] = some(STRANGE);
  }
  return bad;
}

const valueAt = ({ holder, key }) => holder[key];

function* placesIn(holder) {
  for (const key of Object.keys(holder)) {
    yield { holder, key };
    if (holder[key] !== null && typeof holder[key] === 'object') yield* placesIn(holder[key]);
  }
}
