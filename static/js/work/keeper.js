// What this browser keeps of rooms without a server: the state of a room and the blobs that it
// names, in IndexedDB, so that closing the last tab loses nothing.
//
// - One tab of a browser keeps a room, under a Web Lock, however many have it open.
// - A state and the blobs that it names are written in one transaction: either both are there, or
//   what was there before. Blobs that are named no more go in the same one.
// - Jobs that have ended and workers that are gone are entries of their own: they are not written
//   again with every state.
// - `Saver` writes together what comes together, and at once what somebody waits for.

import { isClientId, newClientId } from './clients.js';
import { CopySender, namesIn, unpacked } from './copies.js';

const DATABASE = 'p2pweb-rooms';
const VERSION = 1;
const ROOMS = 'rooms'; // by room: { state, savedAt }; by [room, list, id]: a record that it names
const BLOBS = 'blobs'; // by [room, name]: Uint8Array
const BROWSER = 'browser'; // 'client': its id
const SAVE_EVERY_MS = 1000;

/** What this browser does not keep; message is a sentence for people. */
export class KeeperError extends Error {
  name = 'KeeperError';

  /** @param {'held-elsewhere'|'insecure'|'no-room'|'not-kept'} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** One room of this browser. */
export class Keeper {
  #database;
  #room;
  #stored; // names of the blobs that are there
  #records; // keys of the records that are there, by their JSON
  #copier = new CopySender();
  #saving = Promise.resolve();
  #letGo;

  constructor(database, room, { state, stored, records, letGo }) {
    this.#database = database;
    this.#room = room;
    this.#stored = stored;
    this.#records = records;
    this.#letGo = letGo;
    /** @type {object|null} the room as it was kept last, before this tab */
    this.state = state;
    if (state) this.#startFrom(state);
  }

  /** What is there is not written again; but rooms lay there as a whole once. */
  #startFrom(state) {
    const keys = keysOf(this.#room, this.#copier.pack(state).state);
    if ([...keys.keys()].some((name) => !this.#records.has(name))) this.#copier = new CopySender();
  }

  /**
   * @param {string} room
   * @param {object} [options]
   * @param {boolean} [options.wait] until no other tab of this browser keeps the room
   * @param {AbortSignal} [options.signal] gives up waiting
   * @returns {Promise<Keeper>} `close` it
   * @throws {KeeperError} held-elsewhere, insecure, not-kept @throws the signal's reason
   */
  static async open(room, { wait = false, signal } = {}) {
    const letGo = await locked(`p2pweb.room ${room}`, wait, signal);
    let database = null;
    try {
      database = await opened();
      const [blobs, ...entries] = await transact(database, [ROOMS, BLOBS], 'readonly', (stores) => [
        stores[BLOBS].getAllKeys(ofRoom(room)), ...asked(stores[ROOMS], room),
      ]);
      const stored = new Set(blobs.map(([, name]) => name));
      const records = new Map(entries[1].map((key) => [JSON.stringify(key), key]));
      const state = kept(entries)?.state ?? null;
      return new Keeper(database, room, { state, stored, records, letGo });
    } catch (error) {
      database?.close();
      await letGo();
      throw asKeeperError(error);
    }
  }

  /** @returns {boolean} whether the blob is kept */
  has(name) {
    return this.#stored.has(name);
  }

  /** @returns {Promise<Uint8Array|null>} */
  async blob(name) {
    if (!this.has(name)) return null;
    const [bytes] = await transact(this.#database, [BLOBS], 'readonly', (stores) => [
      stores[BLOBS].get([this.#room, name]),
    ]);
    return bytes ?? null;
  }

  /**
   * Keep this state and exactly the named blobs.
   * @param {object} state JSON
   * @param {Set<string>} names of blobs
   * @param {(name: string) => Uint8Array|null} bytesOf those that are not kept yet; null for lost ones
   * @returns {Promise<void>} when it is on the disk
   * @throws {KeeperError} no-room, not-kept: then nothing has changed
   */
  async save(state, names, bytesOf) {
    const added = [...names].filter((name) => !this.#stored.has(name))
      .map((name) => [name, bytesOf(name)]).filter(([, bytes]) => bytes);
    const saved = this.#saving.then(() => this.#write(state, names, added));
    this.#saving = saved.catch(() => {});
    await saved;
  }

  async #write(state, names, added) {
    const gone = [...this.#stored].filter((name) => !names.has(name));
    const { parts, state: packed } = this.#copier.pack(state);
    const records = keysOf(this.#room, packed);
    const over = [...this.#records].filter(([name]) => !records.has(name));
    try {
      await transact(this.#database, [ROOMS, BLOBS], 'readwrite', (stores) => [
        stores[ROOMS].put({ state: packed, savedAt: Date.now() }, this.#room),
        ...parts.flatMap(({ list, records: news }) => news.map(
          (record) => stores[ROOMS].put(record, [this.#room, list, record.id]))),
        ...over.map(([, key]) => stores[ROOMS].delete(key)),
        // A copy of a view would hold all that lies behind it.
        ...added.map(([name, bytes]) => stores[BLOBS].put(
          bytes.length === bytes.buffer?.byteLength ? bytes : bytes.slice(), [this.#room, name])),
        ...gone.map((name) => stores[BLOBS].delete([this.#room, name])),
      ]);
    } catch (error) {
      this.#copier = new CopySender(); // nothing of it is there
      throw error;
    }
    this.#records = records;
    for (const [name] of added) this.#stored.add(name);
    for (const name of gone) this.#stored.delete(name);
  }

  /** @returns {Promise<void>} when another tab may keep the room */
  async close() {
    await this.#saving;
    this.#database.close();
    await this.#letGo();
  }
}

/**
 * The id of this browser as a client, the same in all rooms; made when first asked for.
 * @returns {Promise<string>} 32 hex digits
 * @throws {KeeperError} not-kept
 */
export async function ownClientId() {
  const database = await opened();
  try {
    const fresh = newClientId();
    // One transaction, so that two tabs that ask at once are one client.
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(BROWSER, 'readwrite', { durability: 'strict' });
      const store = transaction.objectStore(BROWSER);
      let id = fresh;
      store.get('client').onsuccess = ({ target: { result } }) => {
        if (isClientId(result)) id = result;
        else store.put(fresh, 'client');
      };
      transaction.oncomplete = () => resolve(id);
      transaction.onabort = () => reject(asKeeperError(transaction.error));
    });
  } finally {
    database.close();
  }
}

/**
 * Whether this browser has kept a room, without taking it.
 * @param {string} room
 * @returns {Promise<{state: object, savedAt: number}|null>} savedAt: milliseconds since the epoch
 * @throws {KeeperError} not-kept
 */
export async function keptRoom(room) {
  const database = await opened();
  try {
    return kept(await transact(
      database, [ROOMS], 'readonly', (stores) => asked(stores[ROOMS], room)));
  } finally {
    database.close();
  }
}

/** Writes a room as it changes: soon, or at once for somebody who waits. */
export class Saver {
  #keeper;
  #room;
  #timers;
  #onTrouble;
  #timer = null;
  #writing = Promise.resolve(true);
  #waiting = null; // the writing that will begin when the present one ends
  #closed = false;
  #trouble = null; // the code that was said last

  /**
   * @param {Keeper|null} keeper null: nothing is kept
   * @param {object} options
   * @param {{state(): object, names(): Set<string>, blobs: import('./blobs.js').Blobs}} options.room
   * @param {import('./host-timers.js').HostTimers} options.timers
   * @param {(error: KeeperError) => void} options.onTrouble said once, until something was written;
   *   what could not be written is tried again with the next change
   */
  constructor(keeper, { room, timers, onTrouble }) {
    this.#keeper = keeper;
    this.#room = room;
    this.#timers = timers;
    this.#onTrouble = onTrouble;
  }

  /** Within a second. */
  soon() {
    if (this.#closed) return;
    this.#timer ??= this.#timers.after(SAVE_EVERY_MS, () => this.now());
  }

  /** @returns {Promise<boolean>} when it is written: whether it was */
  now() {
    this.#timer?.();
    this.#timer = null;
    this.#waiting ??= this.#writing.then(() => {
      this.#waiting = null;
      this.#writing = this.#write();
      return this.#writing;
    });
    return this.#waiting;
  }

  /** Write once more, and let the room go. */
  async close() {
    await this.now();
    this.#closed = true;
    await this.#keeper?.close();
  }

  async #write() {
    const { blobs } = this.#room;
    const names = this.#room.names();
    let kept = false;
    if (this.#keeper && !this.#closed) {
      try {
        await this.#keeper.save(this.#room.state(), names, (name) => blobs.inMemory(name));
        kept = true;
        this.#trouble = null;
      } catch (error) {
        const trouble = asKeeperError(error);
        if (trouble.code !== this.#trouble) this.#onTrouble(trouble);
        this.#trouble = trouble.code;
      }
    }
    blobs.keep(this.#room.names());
    return kept;
  }
}

// IndexedDB ---------------------------------------------------------------------------------------
const ofRoom = (room) => IDBKeyRange.bound([room], [room, []]);

/** Of the records that a packed state names, by their JSON. */
const keysOf = (room, packed) => new Map(namesIn(packed).map((name) => {
  const key = [room, ...name];
  return [JSON.stringify(key), key];
}));

/** Everything that is there of a room, for `kept`. */
const asked = (rooms, room) => [
  rooms.get(room), rooms.getAllKeys(ofRoom(room)), rooms.getAll(ofRoom(room)),
];

/** @returns {{state: object, savedAt: number}|null} */
function kept([entry, keys, records]) {
  if (!entry) return null;
  const known = new Map(keys.map(([, ...name], number) => [name.join(' '), records[number]]));
  return { ...entry, state: unpacked(entry.state, (...name) => known.get(name.join(' '))) };
}

function opened() {
  return new Promise((resolve, reject) => {
    let request;
    try {
      request = indexedDB.open(DATABASE, VERSION);
    } catch (error) {
      reject(asKeeperError(error));
      return;
    }
    request.onupgradeneeded = () => {
      for (const name of [ROOMS, BLOBS, BROWSER]) request.result.createObjectStore(name);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(asKeeperError(request.error));
  });
}

/** The results of the requests that `ask` makes, when the transaction is complete. */
function transact(database, names, mode, ask) {
  return new Promise((resolve, reject) => {
    let transaction = null;
    try {
      transaction = database.transaction(names, mode, { durability: 'strict' });
      const stores = Object.fromEntries(
        names.map((name) => [name, transaction.objectStore(name)]));
      const requests = ask(stores);
      transaction.oncomplete = () => resolve(requests.map(({ result }) => result));
      transaction.onabort = () => reject(asKeeperError(transaction.error));
    } catch (error) {
      transaction?.abort(); // what was asked before would be done
      reject(asKeeperError(error));
    }
  });
}

function asKeeperError(error) {
  if (error instanceof KeeperError) return error;
  if (error?.name === 'QuotaExceededError') {
    return new KeeperError('no-room',
      'This browser has no more room to keep pictures: save those you want and delete some.'
      + ' What is new is lost when the last tab of this room closes.');
  }
  return new KeeperError('not-kept',
    'This browser keeps nothing of this room, so it is lost when its last tab closes'
    + ` (${error?.message ?? 'its storage does not answer'}).`);
}

/** A lock until the function that comes back is called; what it promises is that others have it. */
function locked(name, wait, signal) {
  if (!globalThis.navigator?.locks) {
    throw new KeeperError('insecure',
      'Browsers keep things only for pages that came by https or from this computer.');
  }
  return new Promise((resolve, reject) => {
    const options = wait ? { signal } : { ifAvailable: true };
    const held = navigator.locks.request(name, options, (lock) => {
      if (lock) {
        return new Promise((letGo) => resolve(() => {
          letGo();
          return held;
        }));
      }
      reject(new KeeperError('held-elsewhere',
        'Another tab of this browser keeps this room already.'));
      return null;
    });
    held.catch(reject);
  });
}
