// The server's end of a room in a tab: a room without a server is served by one of its tabs, with
// the very same messages (docs/api-websocket.md, docs/api-serverless.md).
//
//   const host = await RoomHost.open({ room: 'kitchen', client, models });
//   const end = host.attach(wire, { peer, client, name });   // for every page, this tab's too
//   end.receive(message); end.receiveBytes(buffer); end.close();
//   await host.close();
//
// - host-page.js is one page's messages, host-work.js those of a tab that computes, host-orders.js
//   what pages ask for.
// - Here is what they share: the room as everybody sees it, read once for all who look, and when it
//   is written down (keeper.js).
// - Knows neither how wires are made nor who may be the host: that is worker-coordinator.js.

import { admit } from './admission.js';
import { Blobs } from './blobs.js';
import { clientLabel, isClientId } from './clients.js';
import { CLOSE_GONE, HostPage } from './host-page.js';
import { HostTimers } from './host-timers.js';
import { Keeper, Saver } from './keeper.js';
import { pngOf, previewOf } from './pictures.js';
import { Problem } from './problems.js';
import { RoomQueue } from './queue/room-queue.js';
import { readState, STATE_VERSION } from './room-state.js';

const BETWEEN_READINGS_MS = 40;
const TICK_MS = 1000;
const SWEEP_EVERY_TICKS = 5;
const GONE_AFTER_MS = 10000;
const SLEPT_MS = 3000; // a tick that is so late: the machine slept, or the tab was frozen
const SHOWN_ENDED_JOBS = 200; // older ones come when asked for
const OLDER_JOBS_A_PAGE = 100;
const ENDED = ['done', 'failed', 'cancelled'];

/**
 * @typedef {object} RoomState
 * @property {number} revision @property {object} head all about the room but its jobs
 * @property {Map<string, object>} jobs by id, oldest first @property {string|null} older
 *
 * @typedef {object} HostOptions
 * @property {string} room
 * @property {RoomQueue} queue
 * @property {import('./blobs.js').Blobs} blobs
 * @property {import('./models.js').HostModel[]} models
 * @property {{picture: typeof pngOf, preview: typeof previewOf}} [encode]
 * @property {import('./keeper.js').Keeper|null} [keeper] null: nothing outlives this tab
 * @property {() => number} [now] milliseconds since the epoch
 * @property {{after: Function, every: Function, close(): void}} [timers]
 * @property {{owner: string|null, title: string, revision?: number}} [about] owner: a label;
 *   revision: how often this was changed
 * @property {(now: RoomState) => void} [onRead] the room has changed, and was read
 * @property {() => void} [onOrdered] something was done that somebody asked for: who has copies gets
 *   it before they hear that it is done
 * @property {() => void} [onFinished] a picture is done: who has copies gets it in a moment
 * @property {(name: string) => Promise<void>} [share] of a finished picture: when another tab, where
 *   there is one, has the file too
 * @property {(error: Error) => void} [onTrouble] what people should know: message is a sentence
 * @property {boolean} [checks] what tabs compute for others is checked now and then
 */

export class RoomHost {
  #room;
  #timers;
  #saver;
  #about;
  #pages = new Set();
  #state = null; // as it was read last
  #readAt = -Infinity;
  #reading = null; // calls off the reading that is due
  #peersDue = false;
  #ticks = 0;
  #tickedAt;
  #onRead;
  #onOrdered;
  #onFinished;
  #shutOut = new Set(); // ids of peers

  /**
   * The room as this browser has kept it, or a new one that `client` owns. What was leased goes on
   * from its checkpoints.
   * @param {{room: string, client: string, models: import('./models.js').HostModel[],
   *   keep?: boolean, wait?: boolean, signal?: AbortSignal} & Partial<HostOptions>} options
   *   client: the id of who opens it; keep: false keeps nothing; wait, signal: of Keeper.open
   * @returns {Promise<RoomHost>}
   * @throws {import('./keeper.js').KeeperError}
   */
  static async open({ room, client, models, keep = true, wait, signal, now = Date.now, ...more }) {
    const keeper = keep ? await Keeper.open(room, { wait, signal }) : null;
    try {
      const blobs = new Blobs({ keeper, now });
      const owner = await clientLabel(client);
      return RoomHost.restore(keeper?.state ?? null, {
        room, models, now, keeper, blobs, about: { owner, title: '' }, self: owner, ...more,
      });
    } catch (error) {
      await keeper?.close();
      throw error;
    }
  }

  /**
   * @param {object|null} state of `state()`, here or in another tab; null for a new room
   * @param {Omit<HostOptions, 'queue'> & {holder?: string, self?: string}} options holder: id of
   *   this peer; self: the label of its client, where `checks`
   * @returns {RoomHost}
   * @throws {RangeError} for a state of another version
   * @throws {import('./queue/snapshot-check.js').SnapshotError} for what is none of this room
   */
  static restore(state, options) {
    const { room, holder, self, checks: checked = false, now = Date.now } = options;
    const checks = checked ? { trusted: self, random } : null;
    if (!state) {
      return new RoomHost({ ...options, queue: new RoomQueue({ room, holder, now, checks }) });
    }
    const { about, records } = readState(state, room);
    const queue = RoomQueue.resume(records, { holder, now, checks });
    return new RoomHost({ ...options, queue, about });
  }

  /** @param {HostOptions} options */
  constructor({
    room, queue, blobs, models, keeper = null, now = Date.now, timers = new HostTimers(),
    encode = { picture: pngOf, preview: previewOf },
    about = { owner: null, title: '' }, onRead = () => {}, onOrdered = () => {},
    onFinished = () => {},
    onTrouble = () => {}, share = async () => {},
  }) {
    this.#room = room;
    this.#timers = timers;
    this.#about = { revision: 0, ...about };
    this.#onRead = onRead;
    this.#onOrdered = onOrdered;
    this.#onFinished = onFinished;
    this.queue = queue;
    this.blobs = blobs;
    this.models = models;
    this.encode = encode;
    this.now = now;
    this.share = share;
    this.#saver = new Saver(keeper, {
      room: { blobs, state: () => this.state(), names: () => queue.blobs() }, timers, onTrouble,
    });
    this.#tickedAt = now();
    timers.every(TICK_MS, () => this.#tick());
    if (keeper) this.#saver.soon();
  }

  /** @returns {string|null} the label of who owns the room */
  get owner() {
    return this.#about.owner;
  }

  /** @returns {boolean} */
  get paused() {
    return this.queue.paused;
  }

  /**
   * A page, or a tab that computes, is there.
   * @param {{send(message: object): void, sendBytes(bytes: Uint8Array): void, buffered: number}} wire
   *   towards it
   * @param {object} who
   * @param {string} who.peer id of the tab
   * @param {string} who.client id of the client, which others do not learn
   * @param {string} [who.name] as they call themselves
   * @param {boolean} [who.here] this very tab: it is there as long as its host
   * @param {(code: number) => void} [who.onClosed] the host has ended it: 4000 for silence of 10 s,
   *   4008 for a flood
   * @returns {HostPage} the other end calls its `receive`, `receiveBytes` and `close`
   * @throws {TypeError} for a client or peer that is none
   */
  attach(wire, who) {
    if (!isClientId(who.client)) throw new TypeError('A client is 32 hex digits.');
    if (typeof who.peer !== 'string' || !who.peer || who.peer.length > 64) {
      throw new TypeError('A peer has an id of 1 to 64 characters.');
    }
    return new HostPage(this, wire, who);
  }

  /**
   * A file that the queue names: a picture, a preview, or what whoever takes the queue over needs.
   * @param {string} name @returns {Promise<Uint8Array|null>} null for any other
   */
  async blob(name) {
    return this.queue.blobs().has(name) ? this.blobs.get(name) : null;
  }

  /** @returns {object} JSON: all that another host needs to go on, besides the blobs */
  state() {
    return { version: STATE_VERSION, about: { ...this.#about }, queue: this.queue.snapshot() };
  }

  /**
   * Take over what another tab's queue of this room has, which ends with this.
   * @param {object} state of its `state()`
   * @param {(name: string) => Promise<Uint8Array>} fetchBlob from there
   * @returns {Promise<void>} when the files are here that are needed to go on; pictures follow
   * @throws {RangeError} for a state of another version
   * @throws {import('./queue/snapshot-check.js').SnapshotError} for what is none of this room, or
   *   does not fit in
   */
  async merge(state, fetchBlob) {
    const { about, records } = readState(state, this.#room);
    const pictures = records.pictures();
    const others = [...records.blobs()].filter((name) => !pictures.has(name));
    const empty = this.queue.jobs().length === 0;
    await this.#fetch(others, fetchBlob);
    this.queue.mergeRecords(records);
    if (empty && this.#about.revision === 0) this.#about = about;
    this.#fetch([...pictures], fetchBlob).then(() => this.changed());
    this.changed();
  }

  /** Those that are missing here, as far as they can be had. */
  async #fetch(names, fetchBlob) {
    await Promise.allSettled(names.map((name) => this.blobs.bring(name, fetchBlob)));
  }

  /** End all pages, write everything down and stop. */
  async close() {
    for (const page of [...this.#pages]) page.close();
    await this.#saver.close();
    this.#timers.close();
  }

  // For pages, their work and their orders --------------------------------------------------------
  /** @param {string} name @returns {import('./models.js').HostModel|undefined} */
  model(name) {
    return this.models.find((model) => model.name === name);
  }

  joined(page) {
    for (const other of [...this.#pages]) {
      if (other.peer === page.peer) other.close(); // its wire broke, and nobody has noticed yet
    }
    this.#pages.add(page);
  }

  left(page) {
    if (this.#pages.delete(page)) this.peersChanged();
  }

  /** The queue has changed: tell everybody soon, once for all changes that come together. */
  changed() {
    this.#saver.soon();
    for (const page of this.#pages) page.hint();
    if (this.#reading) return;
    // At most: somebody may have put the clock back.
    const ms = Math.min(BETWEEN_READINGS_MS, this.#readAt + BETWEEN_READINGS_MS - this.now());
    if (ms > 0) {
      this.#reading = this.#timers.after(ms, () => this.read());
    } else {
      this.#reading = () => {};
      queueMicrotask(() => this.#reading && this.read());
    }
  }

  /**
   * After an order: it outlives this tab from now on.
   * @returns {Promise<boolean>} when all that was changed is on the disk; false when it is not
   */
  kept() {
    this.#onOrdered();
    return this.#saver.now();
  }

  /** The same after a picture, of which several may be done together. */
  keptPicture() {
    this.#onFinished();
    return this.#saver.now();
  }

  setTitle(title) {
    this.#about = { ...this.#about, title, revision: this.#about.revision + 1 };
    this.changed();
  }

  /** Later, also in a hidden tab. @returns {() => void} calls it off */
  after(ms, run) {
    return this.#timers.after(ms, run);
  }

  /** Its client's work was found wrong: nor does it come in as another client over this connection.
   * @param {HostPage} page */
  shutOut({ peer }) {
    this.#shutOut.add(peer);
  }

  /** A tab becomes a worker of the room; see admission.js. */
  async admit(hello, page) {
    const { models, queue } = this;
    if (this.#shutOut.has(page.peer)) {
      throw new Problem('shut-out',
        'What was computed here over this connection was found wrong, so it computes no more.');
    }
    return admit(hello, page, { id: this.#room, models, queue, pages: this.#pages });
  }

  // The room as everybody sees it -------------------------------------------------------------------
  /** @returns {RoomState} as it is now; every page is shown what is news to it */
  read() {
    this.#reading?.();
    this.#reading = null;
    this.#readAt = this.now();
    const known = this.#state;
    const head = same(known?.head, this.#head());
    const revision = this.queue.revision + this.#about.revision;
    const { shown, older } = this.#shown();
    const jobs = new Map(shown.map((job) => [job.id, same(known?.jobs.get(job.id), job)]));
    this.#state = { revision, head, jobs, older };
    for (const page of this.#pages) page.show(this.#state);
    if (!known || known.revision !== revision) this.#onRead(this.#state);
    return this.#state;
  }

  /** @returns {object[]} the tabs that are here, first come first */
  peers() {
    return [...this.#pages].map(({ peer, label, name, worker, status, helps }) => ({
      id: peer,
      client: label,
      owner: label === this.owner,
      worker,
      status,
      ...(name ? { name } : {}),
      ...(helps ? { helps } : {}),
    }));
  }

  peersChanged() {
    if (this.#peersDue) return;
    this.#peersDue = true;
    queueMicrotask(() => {
      this.#peersDue = false;
      const peers = this.peers();
      for (const page of this.#pages) page.showPeers(peers);
    });
  }

  /**
   * @param {string} before `older` of a state or of another answer
   * @returns {{jobs: object[], older: string|null}|null} null for what is no such place
   */
  olderJobs(before) {
    const ended = this.queue.jobs().filter(hasEnded).filter(hasPictures);
    const at = ended.findIndex((job) => cursor(job) === before);
    if (at < 0) return null;
    const from = Math.max(0, at - OLDER_JOBS_A_PAGE);
    return { jobs: ended.slice(from, at), older: from ? cursor(ended[from]) : null };
  }

  #head() {
    const { title, owner } = this.#about;
    const { paused } = this.queue;
    const workers = this.queue.workers();
    return { room: this.#room, title, owner, paused, tabs_help: true, workers, shut_out: this.queue.shutOut() };
  }

  /** Oldest first: unfinished jobs, and the newest that ended with pictures or failed. */
  #shown() {
    const all = this.queue.jobs(SHOWN_ENDED_JOBS + 1);
    const ended = all.filter(hasEnded);
    const surplus = new Set(ended.slice(0, -SHOWN_ENDED_JOBS));
    if (!surplus.size) return { shown: all, older: null };
    const older = ended.slice(-SHOWN_ENDED_JOBS).find(hasPictures);
    return { shown: all.filter((job) => !surplus.has(job)), older: older ? cursor(older) : null };
  }

  #tick() {
    const now = this.now();
    const slept = now - this.#tickedAt - TICK_MS;
    this.#tickedAt = now;
    if (slept > SLEPT_MS) { // nobody could be heard meanwhile
      for (const page of this.#pages) page.heardAt += slept;
      this.queue.awoke();
    }
    for (const page of [...this.#pages]) {
      if (!page.here && now - page.heardAt > GONE_AFTER_MS) page.end(CLOSE_GONE);
    }
    this.#ticks += 1;
    if (this.#ticks % SWEEP_EVERY_TICKS) return;
    const { revision } = this.queue;
    this.queue.sweep();
    if (this.queue.revision !== revision) this.changed();
  }
}

/** Nobody foresees what will be checked. */
const random = () => crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32;

const hasEnded = ({ state }) => ENDED.includes(state);

const hasPictures = ({ images }) => images.some(({ url }) => url);

const cursor = ({ created_at: at, id }) => `${at} ${id}`;

/** The known value where the new one is the same: pages are sent what is another object. */
const same = (known, now) =>
  (known && JSON.stringify(known) === JSON.stringify(now) ? known : now);
