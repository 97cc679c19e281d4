// One page at its host: routes its messages, sends it what changed, notices its silence.
// Twin of rooms/consumer.py.
//
// Messages are taken one after the other, each when the one before is done: encoding a picture and
// writing to the disk take their time. How many may come is counted when they come.

import { LONGEST_NAME, plainName } from '../room/strangers.js';
import { Budget } from './budget.js';
import { clientLabel } from './clients.js';
import { answerOrder } from './host-orders.js';
import { HostWork } from './host-work.js';
import { MessageError, text, unknownType, whole } from './problems.js';
import { piecesOf } from './uploads.js';

const MOST_CHARACTERS = 4096; // of a message
const MOST_CHARACTERS_OF_AN_ORDER = 32768; // two prompts, every character escaped
const MESSAGES_A_SECOND = 20; // in the mean; a page sends one every 3 s
const MESSAGES_A_SECOND_OF_A_WORKER = 60; // a fast GPU does several small pictures a second
const MESSAGE_BURST = 60;
const BYTES_A_SECOND = 2 ** 24; // of tabs that compute, and to pages that fetch pictures
const BYTE_BURST = 2 ** 26;
const BYTES_OF_A_PIECE = 2 ** 16; // that each one costs beside its own
const COSTS_AT_WORK = new Map([['hello', 20], ['device', 10]]); // messages
export const CLOSE_GONE = 4000;
export const CLOSE_FLOOD = 4008;

const ORDERS = ['job', 'picture', 'blob'];
const STATUSES = ['loading', 'hidden', 'battery', 'unable', 'helping', 'away'];
const LONGEST_WORKER = 64;
const COST_OF_NEWS = 10; // messages: everybody is sent the list of peers

/** What `RoomHost.attach` gives: the host's end of one wire. */
export class HostPage {
  #host;
  #wire;
  #work;
  #messages;
  #bytes;
  #fetched;
  #sent = null; // the state that this page was sent last
  #chain;
  #hinted = false;
  #onClosed;

  /** See RoomHost.attach. */
  constructor(host, wire, { peer, client, name = '', here = false, onClosed = () => {} }) {
    this.#host = host;
    this.#wire = wire;
    this.#onClosed = onClosed;
    this.peer = peer;
    this.client = client;
    this.name = plainName(name);
    this.here = here;
    /** Why it computes no chunk, as it says itself. */
    this.status = null;
    /** The id of the worker that it is `helping`, as it says. */
    this.helps = null;
    this.label = '';
    this.joined = false;
    this.closed = false;
    this.heardAt = host.now();
    this.#work = new HostWork(host, this);
    this.#messages = new Budget(MESSAGES_A_SECOND, MESSAGE_BURST, host.now);
    this.#bytes = new Budget(BYTES_A_SECOND, BYTE_BURST, host.now);
    this.#fetched = new Budget(BYTES_A_SECOND, BYTE_BURST, host.now);
    this.#chain = this.#join();
  }

  /** @returns {string|null} the id of the worker that this page is */
  get worker() {
    return this.#work.worker;
  }

  /** @returns {Promise<void>} when all that has come so far is done */
  get settled() {
    return this.#chain;
  }

  async #join() {
    this.label = await clientLabel(this.client);
    if (this.closed) return;
    this.joined = true;
    this.#host.joined(this);
    this.#sendAll();
    this.#host.peersChanged();
  }

  // From the wire ---------------------------------------------------------------------------------
  /** @param {object} message that came from the page */
  receive(message) {
    if (this.closed) return;
    this.heardAt = this.#host.now();
    if (this.#spends(this.#messages, 1)) this.#then(() => this.#route(message));
    else this.#flooded();
  }

  /** @param {ArrayBuffer} bytes a binary message */
  receiveBytes(bytes) {
    if (this.closed) return;
    this.heardAt = this.#host.now();
    if (this.#spends(this.#bytes, bytes.byteLength + BYTES_OF_A_PIECE)) {
      this.#then(() => this.#work.piece(bytes));
    } else {
      this.#flooded();
    }
  }

  /**
   * The wire is closed. What the tab held goes back at once.
   * @param {{crashed?: boolean}} [how] crashed: then it counts as a fault of the chunk
   */
  close({ crashed = false } = {}) {
    if (this.closed) return;
    this.closed = true;
    this.#work.leave({ crashed });
    this.#host.left(this);
  }

  /** The host ends it: `code` as the server closes a WebSocket. */
  end(code) {
    if (this.closed) return;
    this.close();
    this.#onClosed(code);
  }

  /** The host's own page floods nobody but itself. */
  #spends(budget, amount) {
    return this.here || budget.spend(amount);
  }

  #flooded() {
    this.end(CLOSE_FLOOD);
  }

  #then(task) {
    this.#chain = this.#chain.then(async () => {
      if (this.closed) return;
      try {
        await task();
      } catch (error) {
        if (!(error instanceof MessageError)) throw error;
        this.say({ type: 'error', code: error.code, detail: error.message });
      }
    }).catch(reportError);
  }

  async #route(message) {
    if (message === null || typeof message !== 'object' || Array.isArray(message)) {
      throw new MessageError('not-an-object', 'Messages are JSON objects as text.');
    }
    const [prefix, command] = parted(message.type);
    const order = ORDERS.includes(prefix)
      || (prefix === 'room' && command !== 'resync');
    const most = order ? MOST_CHARACTERS_OF_AN_ORDER : MOST_CHARACTERS;
    if (JSON.stringify(message).length > most) {
      throw new MessageError('too-long', `A message has at most ${most} characters.`);
    }
    if (order) await answerOrder(this.#host, this, message);
    else if (prefix === 'peer') this.#peer(command, message);
    else if (prefix === 'room') this.#sendAll();
    else if (prefix === 'work') await this.#atWork(command, message);
    else throw unknownType();
  }

  async #atWork(command, message) {
    const more = COSTS_AT_WORK.get(command) ?? 0;
    if (more && !this.#spends(this.#messages, more)) {
      this.#flooded();
      return;
    }
    await this.#work.receive(command, message);
    const works = this.#work.worker !== null;
    this.#messages.aSecond = works ? MESSAGES_A_SECOND_OF_A_WORKER : MESSAGES_A_SECOND;
  }

  #peer(command, message) {
    if (command === 'status') {
      this.#says(message);
      return;
    }
    if (command === 'name') {
      this.#rename(message);
      return;
    }
    if (command !== 'beat') throw unknownType();
    whole(message, 'revision');
    this.#host.read();
    this.hint();
    this.say({ type: 'peer.beat', revision: this.#sent?.revision ?? 0 });
  }

  #says(message) {
    const status = message.status ?? null;
    if (status !== null && !STATUSES.includes(status)) {
      throw new MessageError('bad-message', 'There is no such status.');
    }
    const helps = (message.helps ?? null) && text(message, 'helps', LONGEST_WORKER);
    if (helps && status !== 'helping') {
      throw new MessageError('bad-message', 'helps: of who is helping.');
    }
    const same = status === this.status && (helps || null) === this.helps;
    if (same || !this.#affordsNews()) return;
    this.status = status;
    this.helps = helps || null;
    this.#host.peersChanged();
  }

  #rename(message) {
    const name = plainName(text(message, 'name', 4 * LONGEST_NAME));
    if (!this.#affordsNews()) return;
    this.name = name;
    this.#host.peersChanged();
  }

  #affordsNews() {
    const affords = this.#spends(this.#messages, COST_OF_NEWS);
    if (!affords) this.#flooded();
    return affords;
  }

  // From the host ---------------------------------------------------------------------------------
  /** Something may have changed: look soon, once for all that comes meanwhile. */
  hint() {
    if (this.#hinted || !this.worker) return;
    this.#hinted = true;
    this.#then(() => {
      this.#hinted = false;
      return this.#work.look();
    });
  }

  /** @param {import('./room-host.js').RoomState} now */
  show(now) {
    const before = this.#sent;
    if (!before) return;
    const jobs = [...now.jobs.values()].filter((job) => before.jobs.get(job.id) !== job);
    const gone = [...before.jobs.keys()].filter((id) => !now.jobs.has(id));
    const same = !jobs.length && !gone.length && before.head === now.head
      && before.revision === now.revision;
    if (same) return;
    this.#sent = now;
    this.say({
      type: 'room.changed',
      since: before.revision,
      revision: now.revision,
      room: now.head,
      jobs,
      gone,
      older: now.older,
    });
  }

  showPeers(peers) {
    if (this.#sent) this.say({ type: 'room.peers', peers });
  }

  #sendAll() {
    const now = this.#host.read();
    this.#sent = now;
    this.say({
      type: 'room.state',
      revision: now.revision,
      room: now.head,
      jobs: [...now.jobs.values()],
      older: now.older,
      peers: this.#host.peers(),
      peer: this.peer,
    });
  }

  /** @param {object} message @param {Uint8Array} [bytes] that the message announces */
  say(message, bytes) {
    if (this.closed) return;
    this.#wire.send(message);
    if (!bytes) return;
    for (const piece of piecesOf(bytes)) this.#wire.sendBytes(piece);
  }

  /** Whether so many bytes may be fetched now. */
  mayFetch(bytes) {
    return this.#spends(this.#fetched, bytes + BYTES_OF_A_PIECE);
  }
}

function parted(type) {
  if (typeof type !== 'string') return ['', ''];
  const at = type.indexOf('.');
  return at < 0 ? [type, ''] : [type.slice(0, at), type.slice(at + 1)];
}
