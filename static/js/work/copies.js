// A room's state on its way to another tab or to this browser's storage, without what is there
// already.
//
// Most of a room is history after a while: jobs that have ended and workers that are gone. Each of
// these goes once, in parts ahead of the state in which it is new or another one; there and in later
// states stands its id in its place. Both ends keep the same of it: what the newest state names.

import { SnapshotError } from './queue/snapshot-check.js';
import { JOB_ENDED } from './queue/transitions.js';

const CHARACTERS_OF_A_PART = 2 ** 17;
const MOST_CHARACTERS = 2 ** 25; // of what another tab sends of one room's history
const LISTS = ['jobs', 'workers'];

const atRest = { jobs: JOB_ENDED, workers: ['gone'] }; // states
const byContent = (record) => JSON.stringify(record);
// A job's revision grows with every change, as long as one holder makes them.
const byRevision = { jobs: ({ revision }) => revision, workers: byContent };

/**
 * @typedef {object} Part records that a state names
 * @property {'jobs'|'workers'} list of `state.queue`
 * @property {object[]} records
 */

export class CopySender {
  #versions;
  #sent = { jobs: new Map(), workers: new Map() }; // by id: what tells it from another one

  /** @param {{oneHolder?: boolean}} [options] oneHolder: all states are of the same RoomHost */
  constructor({ oneHolder = false } = {}) {
    this.#versions = oneHolder ? byRevision : { jobs: byContent, workers: byContent };
  }

  /**
   * @param {object} state of `RoomHost.state()`
   * @returns {{parts: Part[], state: object}} parts are to go ahead of the state
   */
  pack(state) {
    const parts = [];
    const packed = mapped(state, (list, records) => {
      const named = new Map();
      const news = [];
      const places = records.map((record) => {
        if (!atRest[list].includes(record?.state)) return record;
        const version = this.#versions[list](record);
        named.set(record.id, version);
        if (this.#sent[list].get(record.id) !== version) news.push(record);
        return record.id;
      });
      this.#sent[list] = named;
      parts.push(...cut(news).map((piece) => ({ list, records: piece })));
      return places;
    });
    return { parts, state: packed };
  }
}

/** The other end of a link. What comes is not trusted: who reads the whole state checks it. */
export class CopyReader {
  #known = { jobs: new Map(), workers: new Map() }; // by id: { record, characters }

  /**
   * @param {Part} part @throws {SnapshotError} for what is none, or more than one room holds; then
   *   this end is of no more use
   */
  add({ list, records }) {
    must(LISTS.includes(list) && Array.isArray(records), 'a part without records');
    for (const record of records) {
      must(typeof record?.id === 'string', 'a record without an id');
      this.#known[list].set(record.id, { record, characters: JSON.stringify(record).length });
    }
    const all = LISTS.flatMap((name) => [...this.#known[name].values()]);
    const held = all.reduce((sum, { characters }) => sum + characters, 0);
    must(held <= MOST_CHARACTERS, 'more than one room holds');
  }

  /**
   * @param {unknown} state as it was packed
   * @returns {unknown} as it was before; records at rest are the same objects each time
   * @throws {SnapshotError} for one that names what has not come
   */
  whole(state) {
    const named = { jobs: new Map(), workers: new Map() };
    const whole = unpacked(state, (list, id) => {
      const known = this.#known[list].get(id);
      named[list].set(id, known);
      return known?.record;
    });
    this.#known = named;
    return whole;
  }

  /** Hold nothing any more: no further state comes. */
  clear() {
    this.#known = { jobs: new Map(), workers: new Map() };
  }
}

/**
 * @param {unknown} state as it was packed
 * @param {(list: 'jobs'|'workers', id: string) => object|undefined} recordOf
 * @returns {unknown} as it was before
 * @throws {SnapshotError} for one that names what is not there
 */
export function unpacked(state, recordOf) {
  return mapped(state, (list, places) => places.map((one) => {
    if (typeof one !== 'string') return one;
    const record = recordOf(list, one);
    must(record, 'a name of no record');
    return record;
  }));
}

/** @param {object} state as it was packed @returns {['jobs'|'workers', string][]} what it names */
export function namesIn(state) {
  const names = [];
  mapped(state, (list, places) => {
    names.push(...places.filter((one) => typeof one === 'string').map((id) => [list, id]));
    return places;
  });
  return names;
}

/** What is no state stays what it is: who reads it says so. */
function mapped(state, change) {
  if (typeof state?.queue !== 'object' || state.queue === null) return state;
  const queue = { ...state.queue };
  for (const list of LISTS) if (Array.isArray(queue[list])) queue[list] = change(list, queue[list]);
  return { ...state, queue };
}

/** In pieces, so that nothing else waits long behind one of them. */
function cut(records) {
  const pieces = [];
  let left = 0;
  for (const record of records) {
    const characters = JSON.stringify(record).length;
    if (left < characters) {
      pieces.push([]);
      left = CHARACTERS_OF_A_PART;
    }
    pieces.at(-1).push(record);
    left -= characters;
  }
  return pieces;
}

function must(holds, what) {
  if (!holds) throw new SnapshotError(`a room's state: ${what}`);
}
