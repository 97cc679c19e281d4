// Who holds the room's queue, and this tab's way to it: a room without a server.
//
// - Every tab begins as the holder of its own copy. Tabs that meet agree on one of them (claims.js);
//   the others give it what they have and follow.
// - To its page a coordinator is what the room's socket is where there is a server: messages and
//   bytes, the same ones, wherever the queue lies. It closes and opens when the queue moves.
// - A holder that has gone is followed by the tab with the newest copy (replica.js): what was leased
//   goes on from its checkpoints.
// - When all leave, the room stays in the browsers that had it open, and is there again with them.

import { Link } from '../room/link.js';
import { Blobs } from './blobs.js';
import { readClaim, rightful, successors } from './claims.js';
import { clientLabel } from './clients.js';
import { CopyReader, CopySender } from './copies.js';
import { HostTimers } from './host-timers.js';
import { Keeper } from './keeper.js';
import { loopWire } from './loop-wire.js';
import { Replica } from './replica.js';
import { RoomHost } from './room-host.js';
import { Visitors } from './visitors.js';

const CHANNEL = 'queue';
const SUCCESSION_MS = 2500; // that each successor leaves to the one before it
const AGAIN_AFTER_MS = 1000; // a holder that could not be reached
const COPIES = 2; // tabs that keep all files, not just the pictures they show
const BEAT_MS = 3000;
const MERGED_WITHIN_MS = 60_000; // it fetches what it lacks of the files before it answers

/**
 * @typedef {object} CoordinatorOptions
 * @property {string} room
 * @property {string} client id of this browser, which only holders learn
 * @property {import('./models.js').HostModel[]} models
 * @property {{open(): void, closed(): void, message(message: object): void,
 *   bytes(bytes: ArrayBuffer): void, revision(): number, place?(place: Place): void,
 *   others?(): void, channel?(channel: import('../room/peer-channel.js').PeerChannel): boolean}}
 *   handlers revision: that the page was sent last; place: where the queue is, whenever that changes;
 *   others: who is here, or what they say of themselves; channel: another tab opened one that is not
 *   the queue's: whether anybody here takes it
 * @property {boolean} [alone] `join` will not be called: wait while another tab of this browser keeps
 *   the room
 * @property {AbortSignal} [signal] gives up waiting
 * @property {(error: Error) => void} [onTrouble] message is a sentence for people
 * @property {boolean} [capable] of holding the queue for others (claims.js)
 * @property {boolean} [checks] what tabs compute for others is checked while the queue is here
 *
 * @typedef {{holder: 'here'|'there'|'nowhere', peer: string|null}} Place
 */

export class WorkerCoordinator {
  #options;
  #network = null;
  #handlers;
  #timers = new HostTimers();
  #keeper = null;
  #blobs;
  #replica;
  #term = 0;
  #host = null; // while the queue is held here
  #visitors = null;
  #own = null; // the host's end of this page's wire
  #toHost = null;
  #line = null; // { peer, link, copies }: to the holder, while it is another tab
  #moving = null; // what is being done about the holder
  #vacantSince = null;
  #notBefore = 0;
  #stopped = false;

  /** @param {CoordinatorOptions} options */
  constructor(options) {
    this.#options = {
      onTrouble: () => {}, alone: false, capable: true, checks: true, ...options,
    };
    this.#handlers = options.handlers;
  }

  /** @returns {Promise<void>} the room is open; `handlers.open` has been called */
  async open() {
    this.#keeper = await this.#kept();
    this.#blobs = new Blobs({ keeper: this.#keeper });
    this.#replica = new Replica({
      room: this.#options.room, blobs: this.#blobs, keeper: this.#keeper, timers: this.#timers,
    });
    await this.#hold(this.#keeper?.state ?? null, 0);
    this.#timers.every(1000, () => this.#consider());
    this.#timers.every(BEAT_MS, () => {
      if (this.#line?.open) this.send({ type: 'peer.beat', revision: this.#handlers.revision() });
    });
  }

  /** What this browser keeps of the room; null while another tab of it does, or where nothing is. */
  async #kept() {
    const { room, alone, signal, onTrouble } = this.#options;
    try {
      return await Keeper.open(room);
    } catch (error) {
      if (error.code !== 'held-elsewhere') onTrouble(error);
      else if (alone) {
        this.#handlers.closed();
        return Keeper.open(room, { wait: true, signal });
      }
      return null;
    }
  }

  /**
   * Look for the others of this room, and share one queue with them.
   * @param {import('../room/p2p-network.js').P2PNetwork} network
   * @param {object} options of its `join`: relays, password, name, onState, onProblem
   * @returns {Promise<void>} once it has begun to look
   * @throws {import('../room/errors.js').NetworkError}
   */
  async join(network, options) {
    await network.join({
      ...options,
      room: this.#options.room,
      about: this.#about(),
      onPeer: () => this.#others(),
      onChange: () => this.#others(),
      onLeave: () => this.#others(),
      onChannel: (peer, channel) => this.#visited(peer, channel),
    });
    this.#network = network;
    this.#others();
  }

  /** @returns {Place} */
  get place() {
    if (this.#host) return { holder: 'here', peer: this.#network?.id ?? null };
    return this.#line?.open
      ? { holder: 'there', peer: this.#line.peer.id } : { holder: 'nowhere', peer: null };
  }

  /** @returns {import('../room/peer.js').Peer[]} the other tabs that are connected */
  get peers() {
    return this.#network?.peers ?? [];
  }

  /** Bytes that have not left yet. */
  get buffered() {
    return this.#line?.open ? this.#line.link.buffered : 0;
  }

  // The page's wire -------------------------------------------------------------------------------
  /** @param {object} message to the holder; lost while there is none */
  send(message) {
    if (this.#toHost) this.#toHost.send(message);
    else if (this.#line?.open) this.#line.link.send(message);
  }

  sendBytes(bytes) {
    if (this.#toHost) this.#toHost.sendBytes(bytes);
    else if (this.#line?.open) this.#line.link.sendBytes(bytes);
  }

  /**
   * A picture or preview.
   * @param {string} name @returns {Promise<Uint8Array|null>} null for one that nobody here has
   */
  async blob(name) {
    const known = await this.#blobs.get(name);
    if (known || !this.#line) return known;
    try {
      const bytes = await this.#line.link.fetchBlob(name);
      await this.#blobs.adopt(name, bytes);
      return bytes;
    } catch {
      return null;
    }
  }

  /** Leave the room: the others know at once. */
  async stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#visitors?.copyNow();
    const left = this.#network?.leave();
    if (this.#host) await this.#letGo();
    else await this.#replica.save().catch(() => {});
    this.#leaveHolder();
    await left;
    await this.#keeper?.close();
    this.#timers.close();
  }

  // Who is here -----------------------------------------------------------------------------------
  #about() {
    const { capable } = this.#options;
    const holds = this.#host !== null;
    return { queue: { holds, term: this.#term, copy: this.#replica.term, capable } };
  }

  #announce() {
    if (this.#network?.id) this.#network.announce({ about: this.#about() });
  }

  #claims() {
    const peers = this.#network?.peers ?? [];
    const mine = readClaim(this.#network?.id ?? '', this.#about());
    return [mine, ...peers.map(({ id, about }) => readClaim(id, about))];
  }

  #others() {
    this.#consider();
    this.#handlers.others?.();
  }

  /** Is what is done about the queue still right? Called whenever somebody says something, and once
   * a second. */
  #consider() {
    if (this.#moving || this.#stopped || !this.#network?.id) return;
    const claims = this.#claims();
    const chosen = rightful(claims);
    if (chosen?.id === this.#network.id) return;
    if (!chosen) {
      this.#succeed(claims);
      return;
    }
    this.#vacantSince = null;
    if (this.#line?.peer.id === chosen.id) return;
    if (performance.now() < this.#notBefore) return;
    const peer = this.#network.peers.find(({ id }) => id === chosen.id);
    this.#move(() => this.#follow(peer, chosen.term));
  }

  #move(task) {
    this.#moving = task().catch((error) => {
      this.#notBefore = performance.now() + AGAIN_AFTER_MS;
      if (!EXPECTED.includes(error.code)) reportError(error);
    }).finally(() => {
      this.#moving = null;
      queueMicrotask(() => this.#consider());
    });
  }

  /** Nobody holds the queue. */
  #succeed(claims) {
    this.#vacantSince ??= performance.now();
    const turn = successors(claims).indexOf(this.#network.id);
    if (performance.now() - this.#vacantSince < turn * SUCCESSION_MS) return;
    const { state } = this.#replica;
    const term = Math.max(...claims.map((claim) => claim.term), this.#term) + 1;
    this.#vacantSince = null;
    this.#blobs.expectOthers();
    this.#move(() => this.#hold(state, term));
  }

  // Holding ---------------------------------------------------------------------------------------
  async #hold(state, term) {
    const { room, client, models, onTrouble, checks } = this.#options;
    const owner = await clientLabel(client);
    this.#leaveHolder(); // its channel may be open yet, and must not close what opens here
    this.#term = term;
    this.#replica.forget();
    this.#host = RoomHost.restore(state, {
      room, models, onTrouble, blobs: this.#blobs, keeper: this.#keeper && lent(this.#keeper),
      about: { owner, title: '' }, holder: this.#network?.id ?? '', self: owner, checks,
      onOrdered: () => this.#visitors?.copyNow(),
      onFinished: () => this.#visitors?.finished(),
      share: async (name) => this.#visitors?.share(name),
    });
    this.#visitors = new Visitors({
      host: this.#host, term: () => this.#term, timers: this.#timers, keepers: () => this.#keepers(),
      entered: (fetchBlob) => this.#entered(fetchBlob),
    });
    const page = {
      receive: (message) => {
        if (message.type === 'room.state' || message.type === 'room.changed') {
          this.#visitors?.changed();
        }
        this.#handlers.message(message);
      },
      receiveBytes: (bytes) => this.#handlers.bytes(bytes),
    };
    const peer = this.#network?.id ?? crypto.randomUUID();
    this.#own = this.#host.attach(loopWire(page), { peer, client, here: true });
    this.#toHost = loopWire(this.#own);
    this.#announce();
    this.#handlers.open();
    this.#handlers.place?.(this.place);
  }

  /** The first other tab makes the queue one that is not given up for another new one. */
  #entered(fetchBlob) {
    if (this.#term === 0) {
      this.#term = 1;
      this.#announce();
    }
    this.#gather(fetchBlob);
  }

  /** Files that this tab's copy lacked and the other one's has. */
  async #gather(fetchBlob) {
    for (const name of this.#host.queue.blobs()) {
      try {
        await this.#blobs.bring(name, fetchBlob);
      } catch {
        // It has not got it either, or has gone: another one may.
      }
    }
  }

  async #letGo() {
    const host = this.#host;
    const visitors = this.#visitors;
    this.#host = this.#visitors = this.#toHost = null;
    this.#own.close();
    visitors.close();
    await host.close();
  }

  /** Another tab came over a channel: to enter here. */
  #visited(peer, channel) {
    if (channel.label !== CHANNEL) {
      if (!this.#handlers.channel?.(channel)) channel.close();
      return;
    }
    const theirs = new CopyReader();
    const link = new Link(channel, {
      receive: (message) => this.#visitors?.receive(link, message),
      receiveBytes: (bytes) => this.#visitors?.receiveBytes(link, bytes),
      provide: (name) => this.#blobs.get(name),
      answer: (message) => this.#answer(peer, link, theirs, message),
      closed: () => this.#visitors?.leave(link),
    });
  }

  async #answer(peer, link, theirs, message) {
    if (!this.#host) throw new Refusal('not-holder', 'The queue of this room is not here.');
    switch (message.type) {
      case 'queue.part':
        return granted(() => theirs.add(message));
      case 'queue.merge':
        return granted(() => {
          const state = theirs.whole(message.state);
          theirs.clear();
          return this.#host.merge(state, (name) => link.fetchBlob(name));
        });
      case 'queue.enter':
        this.#visitors.enter(link, {
          peer: peer.id, client: message.client, name: peer.name, copies: message.copies !== false,
        });
        return { term: this.#term };
      default:
        throw new Refusal('unknown-type', 'There is no such question.');
    }
  }

  // Following -------------------------------------------------------------------------------------
  /** Give the queue at hand, if there is one, to this tab's, and become a page of it. */
  async #follow(peer, term) {
    this.#leaveHolder();
    const line = { peer, link: null, copies: new CopyReader(), open: false };
    const channel = await peer.openChannel(CHANNEL);
    const link = new Link(channel, {
      receive: (message) => line === this.#line && this.#heard(line, message),
      receiveBytes: (bytes) => line === this.#line && this.#handlers.bytes(bytes),
      provide: (name) => this.#blobs.get(name),
      answer: (message) => this.#keepFile(link, message),
      closed: () => this.#lost(line),
    });
    line.link = link;
    try {
      if (this.#host) await this.#handOver(link);
      this.#line = line;
      this.#term = term;
      await link.request({ type: 'queue.enter', client: this.#options.client });
    } catch (error) {
      link.close();
      throw error;
    }
    this.#announce();
    line.open = true;
    this.#handlers.open();
    for (const message of line.early ?? []) this.#handlers.message(message);
    this.#handlers.place?.(this.place);
  }

  async #handOver(link) {
    const sender = new CopySender({ oneHolder: true });
    let whole = this.#host.state();
    while (whole.queue.jobs.length) {
      const { parts, state } = sender.pack(whole);
      if (!parts.length) {
        await link.request({ type: 'queue.merge', state }, { timeoutMs: MERGED_WITHIN_MS });
        break;
      }
      for (const part of parts) await link.request({ type: 'queue.part', ...part });
      whole = this.#host.state(); // the work went on meanwhile
    }
    await this.#letGo();
    this.#replica.take(whole, this.#term, null); // until the holder's own copy comes
    this.#handlers.closed();
  }

  #heard(line, message) {
    if (message.type === 'replica.part') this.#ofState(line, () => line.copies.add(message));
    else if (message.type === 'replica.state') this.#ofState(line, () => this.#copied(line, message));
    else if (line.open) this.#handlers.message(message);
    else (line.early ??= []).push(message);
  }

  /** The holder is about to name a file in its state. */
  async #keepFile(link, { type, name }) {
    if (type !== 'replica.file') throw new Refusal('unknown-type', 'There is no such question.');
    try {
      await this.#blobs.bring(String(name), (wanted) => link.fetchBlob(wanted));
    } catch (error) {
      throw new Refusal('not-kept', error.message); // another tab may do better
    }
    return {};
  }

  /** Ids of those that would take over first. */
  #keepers() {
    const others = this.#claims().filter(({ holds }) => !holds);
    return successors(others).slice(0, COPIES);
  }

  /** What a holder sends that is no room, or one of another version: it may do better in a while. */
  #ofState({ link }, take) {
    try {
      take();
    } catch (error) {
      if (!isOfState(error)) throw error;
      this.#notBefore = performance.now() + AGAIN_AFTER_MS;
      link.close();
    }
  }

  #copied({ link, copies }, { state, term }) {
    const keeps = this.#keepers().includes(this.#network.id);
    const before = this.#replica.term;
    this.#replica.take(copies.whole(state), term, keeps ? (name) => link.fetchBlob(name) : null);
    this.#term = this.#replica.term;
    if (this.#replica.term !== before) this.#announce();
  }

  /** The way to the holder has ended, by itself. */
  #lost(line) {
    if (line !== this.#line) return;
    this.#leaveHolder();
    this.#handlers.place?.(this.place);
    queueMicrotask(() => this.#consider());
  }

  #leaveHolder() {
    const line = this.#line;
    if (!line) return;
    this.#line = null;
    line.link.close();
    if (line.open) this.#handlers.closed();
  }
}

// What becomes of a way to a holder that goes, or gives its queue to another one, just then.
const EXPECTED = [
  'closed', 'peer-gone', 'channel-refused', 'not-holder', 'stalled', 'timeout', 'cancelled',
];

/** What is thrown for what is no state of this room. */
const isOfState = (error) => error instanceof TypeError || error instanceof RangeError;

/** The answer to somebody who brings a state. @param {() => void|Promise<void>} take */
async function granted(take) {
  try {
    await take();
  } catch (error) {
    throw isOfState(error) ? new Refusal('bad-state', error.message) : error;
  }
  return {};
}

/** An answer to a question that is not granted; the other side hears code and message. */
class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The keeper for a host that does not own it: what it keeps stays open when that host ends. */
const lent = (keeper) => ({
  has: (name) => keeper.has(name),
  blob: (name) => keeper.blob(name),
  save: (...state) => keeper.save(...state),
  close: async () => {},
});
