// What a tab keeps of a room whose queue another tab holds, so that nothing is lost with that one.
//
// - The holder sends the room's state whenever it changes; here it stays, with its term, and is
//   written to this browser's storage: at once what has been asked for and made, soon how far the
//   work has come.
// - Of the files that the state names, those that are missing are fetched while the holder is there:
//   pictures and all by the tabs that would take over, pictures by whoever shows them.

import { isTerm } from './claims.js';
import { SnapshotError } from './queue/snapshot-check.js';
import { snapshotAgain } from './queue/snapshot-shape.js';
import { readState } from './room-state.js';

const SAVE_EVERY_MS = 2000;
const FETCHED_AT_ONCE = 4;

export class Replica {
  #room;
  #blobs;
  #keeper;
  #timers;
  #fetching = false;
  #source = null; // name => Promise<bytes>
  #names = new Set();
  #pictures = new Set();
  #essence = '';
  #shape = snapshotAgain(); // history comes with every state
  #saveDue = false;
  #saving = false;
  #saveAgain = false;
  /** @type {object|null} of RoomHost.state() */
  state = null;
  /** Term of the holder whose room it is; -1 without one. */
  term = -1;

  /**
   * @param {object} options
   * @param {string} options.room
   * @param {import('./blobs.js').Blobs} options.blobs
   * @param {import('./keeper.js').Keeper|null} options.keeper
   * @param {{after(ms: number, run: () => void): () => void}} options.timers
   */
  constructor({ room, blobs, keeper, timers }) {
    this.#room = room;
    this.#blobs = blobs;
    this.#keeper = keeper;
    this.#timers = timers;
  }

  /**
   * The room as its holder has it now.
   * @param {object} state @param {number} term
   * @param {((name: string) => Promise<Uint8Array>)|null} source of the files that are missing;
   *   null: others keep them
   * @throws {RangeError} for a state of another version
   * @throws {SnapshotError} for what is no state of this room; nothing has changed then
   */
  take(state, term, source) {
    const { records } = readState(state, this.#room, this.#shape);
    if (!isTerm(term)) throw new SnapshotError('a room without a term');
    const names = records.blobs();
    const essence = essenceOf(records);
    const isNews = essence !== this.#essence;
    this.#essence = essence;
    this.#names = names;
    this.#pictures = records.pictures();
    this.state = state;
    this.term = term;
    this.#source = source;
    this.#blobs.keep(names);
    this.#fetch();
    if (isNews) this.#saveNow();
    else this.#saveSoon();
  }

  /** Another tab's room no more: it is held here, or nothing is known of it. */
  forget() {
    this.state = null;
    this.term = -1;
    this.#source = null;
    this.#names = new Set();
    this.#pictures = new Set();
    this.#essence = '';
  }

  /** @returns {Promise<void>} when it is written down */
  async save() {
    if (!this.state || !this.#keeper) return;
    await this.#keeper.save(this.state, this.#names, (name) => this.#blobs.inMemory(name));
  }

  async #fetch() {
    if (this.#fetching) return;
    this.#fetching = true;
    try {
      for (let missing = this.#missing(); missing.length; missing = this.#missing()) {
        const source = this.#source;
        const some = missing.slice(0, FETCHED_AT_ONCE);
        const got = await Promise.allSettled(some.map(async (name) =>
          this.#blobs.adopt(name, await source(name))));
        if (some.some((name) => this.#pictures.has(name))) this.#saveNow();
        else this.#saveSoon();
        // What the holder has replaced meanwhile is not there any more; the next state says so.
        if (got.some(({ status }) => status === 'rejected') && source === this.#source) break;
      }
    } finally {
      this.#fetching = false;
    }
  }

  #missing() {
    return this.#source ? [...this.#names].filter((name) => !this.#blobs.has(name)) : [];
  }

  #saveSoon() {
    if (this.#saveDue) return;
    this.#saveDue = true;
    this.#timers.after(SAVE_EVERY_MS, () => {
      this.#saveDue = false;
      this.#saveNow();
    });
  }

  async #saveNow() {
    this.#saveAgain = this.#saving;
    if (this.#saving) return;
    this.#saving = true;
    try {
      await this.save();
    } catch {
      // It is a copy; who takes over says what this browser does not keep.
    } finally {
      this.#saving = false;
    }
    if (this.#saveAgain) this.#saveNow();
  }
}

/** All but how far the work has come. */
function essenceOf(records) {
  return JSON.stringify([...records.jobs.values()].map(
    ({ id, state, images }) => [id, state, images.map(({ picture }) => picture)]));
}
