// The queue that exported pages of this room share, as a tab of the site comes to it: one of them
// holds it (worker-coordinator.js), and this tab enters there as one that works and shows nothing.
//
// - Follows the holder that all of them follow, whenever it changes.
// - What comes from there is a stranger's: Link and the worker check it as they do everywhere.

import { Link } from '../room/link.js';
import { readClaim, rightful } from './claims.js';
import { Unfinished } from './unfinished.js';

const CHANNEL = 'queue';
const BEAT_EVERY_MS = 3000;
const AGAIN_AFTER_MS = 5000; // a holder that could not be reached, or did not let this tab in

/**
 * @typedef {object} ElsewhereOptions
 * @property {import('../room/p2p-network.js').P2PNetwork} network joined
 * @property {string} client id of this browser, which the holder learns
 * @property {{every(ms: number, run: () => void): () => void}} timers
 * @property {(message: object) => void} receive what the holder says
 * @property {(bytes: ArrayBuffer) => void} receiveBytes
 * @property {() => void} changed it is open or closed, or there is work or none any more
 */

export class Elsewhere {
  #options;
  #unfinished = new Unfinished();
  #link = null;
  #holder = null; // id of the tab that is or gets entered
  #open = false;
  #notBefore = 0;
  #stops;

  /** @param {ElsewhereOptions} options */
  constructor(options) {
    this.#options = options;
    this.#stops = [
      options.timers.every(1000, () => this.consider()),
      options.timers.every(BEAT_EVERY_MS, () => {
        this.send({ type: 'peer.beat', revision: this.#unfinished.revision });
      }),
    ];
  }

  /** Whether there is something to compute. */
  get hasWork() {
    return this.#open && this.#unfinished.some;
  }

  /** @returns {string|null} id of the tab that holds the queue, while this one has entered there */
  get holder() {
    return this.#open ? this.#holder : null;
  }

  // As any wire
  send(message) {
    if (this.#open) this.#link.send(message);
  }

  sendBytes(bytes) {
    if (this.#open) this.#link.sendBytes(bytes);
  }

  get buffered() {
    return this.#open ? this.#link.buffered : 0;
  }

  /** Who is here has changed, or what they say of themselves. */
  consider() {
    const { peers } = this.#options.network;
    const chosen = rightful(peers.map(({ id, about }) => readClaim(id, about)));
    if (!chosen || chosen.id === this.#holder || performance.now() < this.#notBefore) return;
    this.#leave();
    this.#enter(peers.find(({ id }) => id === chosen.id));
  }

  close() {
    for (const stop of this.#stops) stop();
    this.#leave();
    this.#notBefore = Infinity;
  }

  async #enter(peer) {
    this.#holder = peer.id;
    const isMine = (link) => link === this.#link;
    try {
      const channel = await peer.openChannel(CHANNEL);
      const link = new Link(channel, {
        receive: (message) => isMine(link) && this.#hear(message),
        receiveBytes: (bytes) => isMine(link) && this.#open && this.#options.receiveBytes(bytes),
        closed: () => isMine(link) && this.#lost(),
      });
      if (this.#holder !== peer.id) {
        link.close();
        return;
      }
      this.#link = link;
      await link.request({ type: 'queue.enter', client: this.#options.client, copies: false });
      if (!isMine(link)) return;
      this.#open = true;
      this.#options.changed();
    } catch {
      if (this.#holder === peer.id) this.#lost(); // gone, or holds no queue any more
    }
  }

  #hear(message) {
    if (!this.#unfinished.hear(message)) this.send({ type: 'room.resync' });
    if (message.type.startsWith('work.')) {
      if (this.#open) this.#options.receive(message);
    } else {
      this.#options.changed();
    }
  }

  #lost() {
    this.#notBefore = performance.now() + AGAIN_AFTER_MS;
    this.#leave();
  }

  #leave() {
    const link = this.#link;
    this.#link = this.#holder = null;
    this.#open = false;
    this.#unfinished = new Unfinished();
    link?.close();
    this.#options.changed();
  }
}
