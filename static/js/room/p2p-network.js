// The tabs of a room find each other, without a server of ours.
//
// - Trystero finds them over Nostr relays and connects each with each; it is loaded by `join`.
// - Small messages to one or to all, channels for bulk data, names, what each announces.
// - A tab that leaves is known at once, one that vanished within 10 s, a lost relay is met again.
// - Knows neither work nor pages. What it does not know: whether a peer is who it says it is.

import { NetworkError } from './errors.js';
import { checkPassword } from './invitation.js';
import { patientConnection } from './patient-connection.js';
import { Peer } from './peer.js';
import { checkRelays, rtcConfig } from './settings.js';
import { checkAbout, isPeerId, plainName, writeMessage } from './strangers.js';
import { Supervisor } from './supervisor.js';
import { APP_ID, checkRoom, loadTrystero } from './trystero.js';
import { Unmet } from './unmet.js';

const MOST_PEERS = 64;
const GREETS_WITHIN_S = 10;
const LEAVES_WITHIN_MS = 1000;
const STAYS_AFTER_S = 15;
const BANNED = ['misbehaved', 'other-version'];

const OTHER_VERSION = {
  code: 'other-version',
  message: 'Somebody here has another version of this page: reload it to meet them.',
};
const WRONG_PASSWORD = {
  code: 'wrong-password',
  message: 'Somebody is in this room with another password: its link is needed.',
};
const NO_WAY = {
  code: 'no-way',
  message: 'Somebody is here, but no way through the networks in between was found: a TURN server is '
    + 'needed.',
};
const NO_WAY_HIDDEN = {
  code: 'no-way',
  message: 'Somebody is here, but could not be reached over the TURN server that hides this computer.',
};

let joined = null; // Trystero has one identity and one set of relays a page
const left = new WeakSet(); // rooms of Trystero's, which may still be about to end

/**
 * @typedef {object} JoinOptions
 * @property {string} room its id; whoever knows it and a relay can come in
 * @property {string|null} [password] of a private room: from its link
 * @property {string[]} [relays] addresses; without them five public ones
 * @property {RTCIceServer[]} [iceServers] STUN and TURN; without them public STUN servers
 * @property {boolean} [relayOnly] never show this computer's address to others; needs TURN
 * @property {string} [name] what the others see
 * @property {object} [about] what this tab announces to all
 * @property {(peer: Peer) => void} [onPeer] somebody is here
 * @property {(peer: Peer) => void} [onChange] name or announcement of a peer changed
 * @property {(peer: Peer, why: import('./peer.js').Ending) => void} [onLeave]
 * @property {(peer: Peer, message: object) => void} [onMessage] an object with a `type`, of whose
 *   other members nothing is known
 * @property {(peer: Peer, channel: import('./peer-channel.js').PeerChannel) => void} [onChannel]
 *   a peer opened a channel; without this it is refused
 * @property {(state: import('./supervisor.js').SignallingState) => void} [onState] of the relays
 * @property {(problem: import('./unmet.js').Problem|null) => void} [onProblem] somebody is there who
 *   cannot be met; null: no longer
 */

export class P2PNetwork {
  #options = null;
  #trystero = null;
  #room = null;
  #supervisor = null;
  #ticker = null;
  #listening = null;
  #peers = new Map();
  #ages = new Map(); // seconds, of peers that have not said who they are
  #banned = new Map(); // why
  #over = new WeakSet(); // connections
  #unmet = null;
  #name = '';
  #about = {};
  #left = 0; // seconds to see whether Trystero has left by itself

  /** This tab's own id, once it has joined. */
  get id() {
    return this.#trystero?.nostr.selfId ?? null;
  }

  /** @returns {Peer[]} who is here, first come first */
  get peers() {
    return [...this.#peers.values()].filter((peer) => peer.isHere);
  }

  /** @returns {import('./supervisor.js').SignallingState|null} */
  get state() {
    return this.#supervisor?.state ?? null;
  }

  /**
   * @param {JoinOptions} options
   * @returns {Promise<void>} once it has begun to look for others
   * @throws {NetworkError} bad-room, bad-password, bad-relay, bad-ice-server, bad-message,
   *   relay-only-without-turn, joined-already; nobody was told anything then
   */
  async join(options) {
    if (joined) throw new NetworkError('joined-already', 'This tab is in a room already.');
    const password = options.password ?? null;
    const settings = {
      room: checkRoom(options.room),
      password: password === null ? undefined : checkPassword(password),
      relays: options.relays && checkRelays(options.relays),
      rtcConfig: rtcConfig(options),
    };
    this.#name = plainName(options.name);
    this.#about = checkAbout(options.about ?? {});
    joined = this;
    try {
      this.#trystero = await loadTrystero();
    } catch (error) {
      joined = null;
      throw error;
    }
    this.#options = { ...options, ...settings };
    this.#unmet = new Unmet((problem) => options.onProblem?.(problem));
    this.#supervisor = new Supervisor({
      nostr: this.#trystero.nostr,
      relays: settings.relays ?? this.#trystero.publicRelays(),
      announcement: () => this.#trystero.announcement(settings.room),
      onState: (state) => options.onState?.(state),
      rejoin: () => this.#rejoin(),
    });
    if (!this.#enter()) this.#left = STAYS_AFTER_S;
    this.#ticker = new Worker(new URL('ticker-worker.js', import.meta.url), { type: 'module' });
    this.#ticker.onmessage = () => this.#tick();
    this.#listen();
  }

  /**
   * A small message to everybody who is here.
   * @param {object} message with a `type` that does not begin with `net.`
   * @throws {NetworkError} bad-message
   */
  broadcast(message) {
    writeMessage(message);
    for (const peer of this.peers) peer.send(message);
  }

  /**
   * Say something else of this tab, to those who are here and those who come.
   * @param {{name?: string, about?: object}} news
   * @throws {NetworkError} bad-message
   */
  announce({ name = this.#name, about = this.#about }) {
    this.#about = checkAbout(about);
    this.#name = plainName(name);
    for (const peer of this.peers) peer.sayHello(true);
  }

  /** Leave the room; the others know at once. Everybody is gone when this is done. */
  async leave() {
    if (joined !== this || !this.#listening || this.#listening.signal.aborted) return;
    this.#listening.abort();
    this.#ticker.terminate();
    const room = this.#room;
    this.#room = null;
    if (room) left.add(room);
    for (const peer of this.#peers.values()) peer.sayGoodbye();
    // Trystero waits a moment before it closes, in which the goodbyes are sent.
    await Promise.race([room?.leave(), new Promise((done) => setTimeout(done, LEAVES_WITHIN_MS))]);
    this.#supervisor.stop();
    for (const peer of [...this.#peers.values()]) peer.end('we-left');
    joined = null;
  }

  // Trystero -------------------------------------------------------------------------------------
  #enter() {
    const { room, password, rtcConfig: rtc } = this.#options;
    const entered = this.#trystero.nostr.joinRoom({
      appId: APP_ID,
      password,
      rtcConfig: rtc,
      rtcPolyfill: patientConnection(),
      relayConfig: {
        urls: this.#supervisor.addresses, manualReconnection: true, warnOnRelayFailure: false,
      },
    }, room, { onJoinError: ({ error, peerId }) => this.#failed(error, peerId) });
    // It has not left yet: this is the room of before, with the settings of before.
    if (entered === this.#room || left.has(entered)) return false;
    this.#room = entered;
    entered.onPeerJoin = (id) => this.#met(entered, id);
    entered.onPeerLeave = (id) => this.#missed(id);
    this.#supervisor.tick();
    return true;
  }

  async #rejoin() {
    const room = this.#room;
    this.#room = null;
    if (room) left.add(room);
    await room?.leave();
    if (joined === this && !this.#listening.signal.aborted) this.#enter();
  }

  #met(room, id) {
    if (room !== this.#room || !isPeerId(id)) return;
    const connection = room.getPeers()[id];
    const known = this.#peers.get(id);
    if (!connection || connection.signalingState === 'closed' || this.#over.has(connection)) return;
    if (known?.connection === connection) return; // joined anew, never gone
    known?.end('replaced');
    if (this.#banned.has(id) || this.#peers.size >= MOST_PEERS) {
      if (this.#banned.get(id) === 'other-version') this.#unmet.add(id, OTHER_VERSION);
      connection.close();
      return;
    }
    const { onPeer, onChange, onMessage, onChannel } = this.#options;
    const peer = new Peer({
      id,
      connection,
      selfId: this.id,
      hello: () => ({ name: this.#name, about: this.#about }),
      on: {
        here: (who) => {
          this.#ages.delete(who);
          this.#unmet.met(who.id);
          onPeer?.(who);
        },
        changed: (who) => onChange?.(who),
        message: (who, message) => onMessage?.(who, message),
        channel: onChannel ?? null,
        ended: (who, why) => this.#ended(who, why),
      },
    });
    this.#peers.set(id, peer);
    this.#ages.set(peer, 0);
  }

  /** Trystero has lost somebody: or joined anew, and then the connection is still there. */
  #missed(id) {
    const peer = this.#peers.get(id);
    if (peer && ['closed', 'failed'].includes(peer.connection.connectionState)) peer.end('closed');
  }

  #ended(peer, why) {
    const wasHere = !this.#ages.delete(peer);
    this.#peers.delete(peer.id);
    this.#over.add(peer.connection);
    if (BANNED.includes(why)) this.#banned.set(peer.id, why);
    if (why === 'other-version') this.#unmet.add(peer.id, OTHER_VERSION);
    if (why === 'silent' || why === 'closed') this.#supervisor.announce(); // it may be there yet
    if (wasHere) this.#options.onLeave?.(peer, why);
  }

  #failed(error, id) {
    if (error.startsWith('incorrect')) this.#unmet.add(id, WRONG_PASSWORD);
    else if (error.startsWith('could not connect')) {
      this.#unmet.add(id, this.#options.relayOnly ? NO_WAY_HIDDEN : NO_WAY);
    }
  }

  // Time and the page's life ---------------------------------------------------------------------
  #tick() {
    for (const [peer, age] of this.#ages) {
      if (age >= GREETS_WITHIN_S) peer.end('silent');
      else this.#ages.set(peer, age + 1);
    }
    for (const peer of [...this.#peers.values()]) peer.tick();
    this.#unmet.tick();
    if (this.#room) this.#supervisor.tick();
    if (this.#left > 0) {
      this.#left -= 1;
      if (this.#enter()) this.#left = 0;
    }
  }

  #listen() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const on = (type, run) => addEventListener(type, run, { signal });
    on('pagehide', () => {
      for (const peer of this.#peers.values()) peer.sayGoodbye();
    });
    // A page that stays after all, because the link was a download or somebody changed their mind:
    // Trystero has left the room, and nobody else knows.
    const stays = () => {
      this.#left = STAYS_AFTER_S;
    };
    on('beforeunload', stays);
    on('pageshow', ({ persisted }) => persisted && stays());
    on('online', () => this.#supervisor.hurry());
  }
}
