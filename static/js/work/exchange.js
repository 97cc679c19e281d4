// Tensors that tabs of a room give each other directly: what one has computed and another goes on
// from. docs/api-websocket.md describes how a lease names them.
//
// - Tensors are named by the SHA-256 of their numbers, which the server tells: no other tab can give
//   anything else. One that tries is told so and asked no more.
// - What does not come in time is the server's to send; nothing depends on another tab.
// - Only the newest tensors are kept, as they lie in memory already: nothing is copied.

import { orAborted } from '../engine/package/abort.js';
import { sha256Of } from '../engine/package/sha256.js';
import { Link } from '../room/link.js';

export const CHANNEL = 'tensors';
const WITHIN_MS = 2000; // then the server is quicker
const KEPT_BYTES = 2 ** 26;

/**
 * @typedef {object} Offer of a lease's `direct`
 * @property {string} name of the tensor
 * @property {string} peer id of the tab that has it
 * @property {string} sha256 of its f32 numbers, little-endian
 * @property {number[]} shape
 *
 * @typedef {{tensors: object, missing: string[], why: string}} Taken
 *   tensors: by name, as `fromBytes` gives them; missing: names; why: of each, for the server's log
 *
 * @typedef {object} Counts
 * @property {number} taken tensors that came directly @property {number} takenBytes
 * @property {number} given @property {number} givenBytes
 * @property {number} missed tensors that the server had to send after all
 * @property {number} wrong how often others said that this tab gave something else
 */

export class Exchange {
  #network;
  #withinMs;
  #kept = new Map(); // by digest: Uint8Array over the numbers, the newest last
  #keptBytes = 0;
  #asked = new Map(); // links that this tab has opened, by peer: Promise<Link>
  #visits = new Set(); // links that others have opened
  #distrusted = new Set(); // peers that gave something else than they should
  /** @type {Counts} */
  counts = { taken: 0, takenBytes: 0, given: 0, givenBytes: 0, missed: 0, wrong: 0 };

  /**
   * @param {import('../room/p2p-network.js').P2PNetwork} network
   * @param {{withinMs?: number}} [options] withinMs: for all tensors of one lease
   */
  constructor(network, { withinMs = WITHIN_MS } = {}) {
    this.#network = network;
    this.#withinMs = withinMs;
  }

  /**
   * Have a tensor ready for others.
   * @param {Float32Array} numbers stay as they are
   * @returns {Promise<void>}
   */
  async keep(numbers) {
    if (!numbers.length) return;
    const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
    const name = await sha256Of(bytes);
    if (this.#kept.has(name)) return;
    this.#kept.set(name, bytes);
    this.#keptBytes += bytes.length;
    for (const [oldest, old] of this.#kept) {
      if (this.#keptBytes <= KEPT_BYTES || this.#kept.size === 1) break;
      this.#kept.delete(oldest);
      this.#keptBytes -= old.length;
    }
  }

  /**
   * The tensors of a lease, as far as others give them in time.
   * @param {Offer[]} offers from the server @param {AbortSignal} signal the lease is lost
   * @returns {Promise<Taken>}
   * @throws the signal's reason
   */
  async take(offers, signal) {
    const within = AbortSignal.any([signal, AbortSignal.timeout(this.#withinMs)]);
    const results = await Promise.allSettled(offers.map((offer) => this.#fetch(offer, within)));
    signal.throwIfAborted();
    const tensors = {};
    const missing = [];
    const reasons = [];
    results.forEach(({ value, reason }, at) => {
      const { name, peer } = offers[at];
      if (value) {
        tensors[name] = value;
        this.counts.taken += 1;
        this.counts.takenBytes += value.data.byteLength;
      } else {
        missing.push(name);
        reasons.push(`${codeOf(reason)} of ${peer}`);
      }
    });
    this.counts.missed += missing.length;
    return { tensors, missing, why: reasons.join(', ') };
  }

  /**
   * Another tab opened a channel of this kind.
   * @param {import('../room/peer-channel.js').PeerChannel} channel
   */
  visited(channel) {
    const link = new Link(channel, {
      provide: (name) => this.#give(name),
      receive: ({ type }) => {
        if (type === 'exchange.wrong') this.counts.wrong += 1;
      },
      closed: () => this.#visits.delete(link),
    });
    this.#visits.add(link);
  }

  /** Nobody is given or asked anything any more. */
  close() {
    this.#kept.clear();
    this.#keptBytes = 0;
    for (const link of [...this.#visits]) link.close();
    for (const opening of this.#asked.values()) opening.then((link) => link.close(), () => {});
  }

  async #fetch({ peer, sha256, shape }, signal) {
    if (this.#distrusted.has(peer)) throw new ExchangeError('distrusted');
    const link = await orAborted(this.#linkTo(peer), signal);
    let bytes;
    try {
      bytes = await link.fetchBlob(sha256, { signal });
    } catch (error) {
      if (error.code === 'corrupt') this.#tellOff(peer, link);
      throw error;
    }
    const count = shape.reduce((product, length) => product * length, 1);
    if (bytes.length !== 4 * count) throw new ExchangeError('other-shape');
    return { shape, data: new Float32Array(bytes.buffer, bytes.byteOffset, count) };
  }

  #linkTo(id) {
    if (!this.#asked.has(id)) {
      const opening = this.#open(id);
      this.#asked.set(id, opening);
      opening.catch(() => this.#asked.delete(id));
    }
    return this.#asked.get(id);
  }

  async #open(id) {
    const peer = this.#network.peers.find((other) => other.id === id);
    if (!peer) throw new ExchangeError('not-here');
    const channel = await peer.openChannel(CHANNEL);
    return new Link(channel, { closed: () => this.#asked.delete(id) });
  }

  #give(name) {
    const bytes = this.#kept.get(name) ?? null;
    if (bytes) {
      this.counts.given += 1;
      this.counts.givenBytes += bytes.length;
    }
    return bytes;
  }

  #tellOff(peer, link) {
    this.#distrusted.add(peer);
    link.send({ type: 'exchange.wrong' });
  }
}

class ExchangeError extends Error {
  constructor(code) {
    super(code);
    this.name = 'ExchangeError';
    this.code = code;
  }
}

/** Of a DOMException, such as that of a time that is over, the code is a number. */
const codeOf = ({ code, name }) => (typeof code === 'string' ? code : name);
