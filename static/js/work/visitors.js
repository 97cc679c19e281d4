// The other tabs of a room at the tab that holds its queue: each comes over a link of its own, enters
// with its client id, and is then a page of the host like any other. Copies of the room go to them
// whenever it changes, most often to those that would take over.

import { orAborted } from '../engine/package/abort.js';
import { CopySender } from './copies.js';

const COPY_EVERY_MS = 500; // to those that would take over
const COPY_PICTURES_EVERY_MS = 100; // those of a batch end together, and each copy is work
const COPY_TO_ALL_EVERY_MS = 2000; // the others have no latents to go on from
const MOST_BYTES_OF_A_CLIENT = 64;
const SHARED_WITHIN_MS = 3000;
const SHARED_SLOWLY_MS = 300; // then another tab is asked as well

export class Visitors {
  #host;
  #term;
  #timers;
  #keepers;
  #entered;
  #links = new Map(); // by link: HostPage
  #copied = new Map(); // by link of those who want copies of the room: CopySender
  #copiedAt = -Infinity;
  #copiedToAllAt = -Infinity;
  #copyDue = null; // { at, callOff }
  #copyToAllDue = null; // calls it off
  #closed = false;

  /**
   * @param {object} options
   * @param {import('./room-host.js').RoomHost} options.host
   * @param {() => number} options.term of this queue, as it is now
   * @param {{after(ms: number, run: () => void): () => void}} options.timers
   * @param {() => string[]} options.keepers ids of the peers that would take over, and fetch every file
   * @param {(fetchBlob: (name: string) => Promise<Uint8Array>) => void} options.entered somebody has
   *   come, who may have files that are missing here
   */
  constructor({ host, term, timers, keepers, entered }) {
    this.#host = host;
    this.#term = term;
    this.#timers = timers;
    this.#keepers = keepers;
    this.#entered = entered;
  }

  /** @returns {number} how many tabs have entered */
  get count() {
    return this.#links.size;
  }

  /**
   * Somebody enters over this link.
   * @param {import('../room/link.js').Link} link
   * @param {{peer: string, client: unknown, name: string, copies: boolean}} who copies: it would
   *   take the room over; a tab of the site only works here
   * @throws {TypeError} for a client that is none
   */
  enter(link, { peer, client, name, copies }) {
    if (typeof client !== 'string' || client.length > MOST_BYTES_OF_A_CLIENT) {
      throw new TypeError('A client is 32 hex digits.');
    }
    this.#links.get(link)?.close();
    const wire = {
      send: (message) => link.send(message),
      sendBytes: (bytes) => link.sendBytes(bytes),
      get buffered() {
        return link.buffered;
      },
    };
    const page = this.#host.attach(wire, { peer, client, name, onClosed: () => link.close() });
    this.#links.set(link, page);
    if (!copies) return;
    this.#copied.set(link, new CopySender({ oneHolder: true }));
    this.#copy([link]);
    this.#entered((blob) => link.fetchBlob(blob));
  }

  receive(link, message) {
    this.#links.get(link)?.receive(message);
  }

  receiveBytes(link, bytes) {
    this.#links.get(link)?.receiveBytes(bytes);
  }

  /** The link has ended. */
  leave(link) {
    this.#links.get(link)?.close();
    this.#links.delete(link);
    this.#copied.delete(link);
  }

  /** The room has changed: at once for the first change, then twice a second to those that would take
   * over, and every two seconds to all. What somebody asked for goes to all at once (`copyNow`). */
  changed() {
    this.#copyEvery(COPY_EVERY_MS);
  }

  /** A picture is done. */
  finished() {
    this.#copyEvery(COPY_PICTURES_EVERY_MS);
  }

  #copyEvery(everyMs) {
    if (this.#closed) return;
    const at = this.#copiedAt + everyMs;
    if (this.#copyDue?.at <= at) return;
    const ms = at - performance.now();
    if (ms <= 0) {
      this.#copyToKeepers();
    } else {
      this.#copyDue?.callOff();
      this.#copyDue = { at, callOff: this.#timers.after(ms, () => this.#copyToKeepers()) };
    }
  }

  #copyToKeepers() {
    const links = this.#toKeepers();
    const ms = this.#copiedToAllAt + COPY_TO_ALL_EVERY_MS - performance.now();
    if (ms <= 0 || links.length === this.#copied.size) {
      this.copyNow();
      return;
    }
    this.#callOff();
    this.#copyToAllDue = this.#timers.after(ms, () => this.copyNow());
    this.#copiedAt = performance.now();
    this.#copy(links);
  }

  /** Send everybody the room as it is. */
  copyNow() {
    this.#callOff();
    this.#copiedAt = this.#copiedToAllAt = performance.now();
    this.#copy([...this.#copied.keys()]);
  }

  /** @returns {import('../room/link.js').Link[]} */
  #toKeepers() {
    const keepers = this.#keepers();
    return [...this.#copied.keys()].filter((link) => keepers.includes(this.#links.get(link).peer));
  }

  #callOff() {
    this.#copyDue?.callOff();
    this.#copyToAllDue?.();
    this.#copyDue = this.#copyToAllDue = null;
  }

  /**
   * Have another tab keep a file, before anybody is told that it is there.
   * @param {string} name
   * @returns {Promise<void>} when one has it; when none can take it, too: then it is here alone
   */
  async share(name) {
    // First who will fetch it anyway
    const [one, another] = new Set([...this.#toKeepers(), ...this.#copied.keys()]);
    if (!one) return;
    const ask = (link) =>
      link.request({ type: 'replica.file', name }, { timeoutMs: SHARED_WITHIN_MS });
    const first = ask(one);
    const slow = new AbortController();
    const callOff = this.#timers.after(SHARED_SLOWLY_MS, () => slow.abort());
    try {
      await orAborted(first, slow.signal);
    } catch { // it is slow, or has refused
      await Promise.any(another ? [first, ask(another)] : [first]).catch(() => {});
    } finally {
      callOff();
    }
  }

  /** The queue is held elsewhere from now on: they are told by that tab. */
  close() {
    this.#closed = true;
    this.#callOff();
    for (const link of [...this.#links.keys()]) {
      this.leave(link);
      link.close();
    }
  }

  #copy(links) {
    if (!links.length) return;
    const whole = this.#host.state();
    for (const link of links) {
      const { parts, state } = this.#copied.get(link).pack(whole);
      try {
        for (const part of parts) link.send({ type: 'replica.part', ...part });
        link.send({ type: 'replica.state', term: this.#term(), state });
      } catch {
        link.close(); // a room too large to be sent, or a link that has ended
      }
    }
  }
}
