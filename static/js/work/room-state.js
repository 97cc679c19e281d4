// The state of a room, as one tab gives it to another or to its browser's storage: what is about the
// room, and its queue. It is read as if an enemy had written it, and once for all that is done with
// it.

import { ShapeError, must, oneOf, orNull, record, text, that, whole } from './queue/shapes.js';
import { SnapshotError } from './queue/snapshot-check.js';
import { recordsOf } from './queue/snapshot.js';
import { LIMITS } from './requests.js';

export const STATE_VERSION = 2;
const WITHOUT_CHECKS = 1; // the version before: what it lacks is filled up as it is read
export const TITLE_CHARACTERS = 80;
const LONGEST_OWNER = 64;
const MOST_CHANGES = 2 ** 50;
const BLOB = /^[0-9a-f]{64}$/;

const state = record({
  version: oneOf(STATE_VERSION, WITHOUT_CHECKS),
  about: record({
    owner: orNull(text(LONGEST_OWNER)),
    title: text(2 * TITLE_CHARACTERS), // some characters are two
    revision: whole(0, MOST_CHANGES),
  }),
  queue: that(() => true, 'a snapshot'), // recordsOf reads it
});

/**
 * @param {unknown} given of RoomHost.state(), from anywhere
 * @param {string} room whose state it should be
 * @param {import('./queue/shapes.js').Shape<object>} [shape] `snapshotAgain()`
 * @returns {{about: {owner: string|null, title: string, revision: number},
 *   records: import('./queue/records.js').Records}} nothing in it is shared, but with what was read
 *   before by the same shape
 * @throws {RangeError} for a state of another version
 * @throws {SnapshotError} for what is no room's state, or another room's
 */
export function readState(given, room, shape) {
  const { version } = Object(given);
  if (Number.isInteger(version) && ![STATE_VERSION, WITHOUT_CHECKS].includes(version)) {
    throw new RangeError(
      'This room is one of another version of this page: load it again, in every tab.');
  }
  try {
    const { about, queue } = state(given);
    const records = recordsOf(queue, shape);
    must(records.room === room, 'a state of this room');
    for (const { settings } of records.jobs.values()) mustBeAllowed(settings);
    for (const name of records.blobs()) must(BLOB.test(name), 'files named by their SHA-256');
    return { about, records };
  } catch (error) {
    if (error instanceof ShapeError) throw new SnapshotError(`a room's state: ${error.message}`);
    throw error;
  }
}

/** What nobody could have asked for here is nobody's job. */
function mustBeAllowed({ prompt, negative_prompt, width, height, steps, guidance, num_images }) {
  const { promptCharacters, maxSide, maxSteps, maxGuidance, maxImages } = LIMITS;
  const texts = [prompt, negative_prompt];
  must(texts.every((words) => words.length <= 2 * promptCharacters), 'prompts of a room');
  must(Math.max(width, height) <= maxSide && steps <= maxSteps && num_images <= maxImages
    && guidance >= 1 && guidance <= maxGuidance, 'settings that a room allows');
}
