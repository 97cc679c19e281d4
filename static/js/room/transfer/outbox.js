// The sending half of a line: what waits, what is on its way, and what the other side said of it.
//
// - Ordered kinds go one after the other. Short ones of other kinds have a queue of their own, and
//   up to ACTIVE long ones take turns with both, one frame each: nobody waits for a long transfer.
// - A transfer ends with one frame of each side: END or CANCEL, DONE or REFUSE. Only then is its
//   number forgotten; its bytes are let go with the promise.

import { TransferError, FrameError } from './errors.js';
import * as frames from './frames.js';
import { BUDGET_BYTES, MOST_UNFINISHED, STALLED_AFTER_MS } from './limits.js';

const ACTIVE = 4; // long transfers that take turns
const WINDOW_BYTES = 2 ** 22; // of one transfer, sent and not acknowledged
const LEFT_TO_OTHERS_BYTES = 2 ** 24; // of the budget, by long ones that are not ordered
const DIGESTED_AHEAD_BYTES = 2 ** 22; // of what waits in order, each as a copy of its own
const MOST_WAITING = 10_000;

/**
 * @typedef {object} Outgoing
 * @property {number} kind
 * @property {number} reference
 * @property {Uint8Array|null} bytes null once it has ended here
 * @property {number} total bytes
 * @property {number} left bytes that have not gone to the channel
 * @property {number} id 0 before its first frame
 * @property {number} sent blocks
 * @property {number} acknowledged blocks
 * @property {Uint8Array|null} digest once it is known
 * @property {boolean} digesting it is being computed
 * @property {boolean} ended END, CANCEL or all of it was sent
 * @property {boolean} settled the promise is
 * @property {number} progressAt ms
 */

export class Outbox {
  #port;
  #lastId = 0;
  #open = new Map(); // by id: begun, and the other side's last frame is still to come
  #openBytes = 0;
  #ordered = [];
  #short = [];
  #long = []; // waiting for a turn
  #active = [];
  #waiting = new Set(); // of all four: those that have not begun
  #turn = 0;
  #queuedBytes = 0;

  /**
   * @param {object} port
   * @param {(frame: ArrayBuffer) => void} port.post
   * @param {() => boolean} port.takesMore whether the channel does
   * @param {(error: TransferError) => void} port.fail the whole line has failed
   * @param {() => number} port.now ms
   * @param {Map<number, import('./limits.js').Kind>} port.kinds
   * @param {number} port.blockBytes
   */
  constructor(port) {
    this.#port = port;
  }

  /** Bytes that were handed in and have not gone to the channel. */
  get queuedBytes() {
    return this.#queuedBytes;
  }

  /** How many transfers have not ended. */
  get unfinished() {
    return this.#open.size + this.#waiting.size;
  }

  /**
   * @param {number} kind @param {Uint8Array} bytes stay as they are until the promise is settled
   * @param {{reference?: number, digest?: Uint8Array, signal?: AbortSignal}} [options]
   *   digest: SHA-256 where it is known. signal: not for ordered kinds
   * @returns {Promise<void>} settled when the other side has it, whole and checked
   * @throws {TransferError} at once, for what may not be sent
   */
  send(kind, bytes, { reference = 0, digest = null, signal } = {}) {
    const { most, ordered, short } = this.#port.kinds.get(kind);
    if (bytes.length > most) throw new TransferError('too-large');
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#waiting.size >= MOST_WAITING) throw new TransferError('busy');
    const transfer = {
      kind, reference, bytes, digest, digesting: false, total: bytes.length, left: bytes.length,
      id: 0, sent: 0, acknowledged: 0, ended: false, settled: false, progressAt: this.#port.now(),
      short: short && bytes.length <= this.#port.blockBytes, ordered,
    };
    const promise = new Promise((resolve, reject) => Object.assign(transfer, { resolve, reject }));
    if (signal) this.#heed(signal, transfer);
    if (ordered) this.#ordered.push(transfer);
    else (transfer.short ? this.#short : this.#long).push(transfer);
    this.#waiting.add(transfer);
    this.#queuedBytes += bytes.length;
    // Pieces that follow each other closely would otherwise wait for a digest each.
    if (ordered && this.#queuedBytes <= DIGESTED_AHEAD_BYTES) this.#makeDigest(transfer);
    this.pump();
    return promise;
  }

  #heed(signal, transfer) {
    const stop = () => this.#giveUp(transfer, signal.reason, 'cancelled');
    signal.addEventListener('abort', stop);
    transfer.unheed = () => signal.removeEventListener('abort', stop);
  }

  /** Send what the channel takes now. */
  pump() {
    while (this.#port.takesMore()) {
      const frame = this.#next();
      if (!frame) return;
      this.#port.post(frame);
    }
  }

  /** The next frame by turns, or null when nobody has one. */
  #next() {
    while (this.#active.length < ACTIVE && this.#long.length
      && this.#affords(this.#long[0], LEFT_TO_OTHERS_BYTES)) {
      this.#active.push(this.#long.shift());
    }
    const streams = 2 + this.#active.length;
    for (let tried = 0; tried < streams; tried += 1) {
      const turn = this.#turn % streams;
      this.#turn = turn + 1;
      const list = [this.#short, this.#ordered][turn];
      const transfer = list ? list[0] : this.#active[turn - 2];
      const frame = transfer && this.#frameOf(transfer);
      if (frame) {
        if (transfer.ended) this.#unlist(transfer);
        return frame;
      }
    }
    return null;
  }

  /** Whether the other side would take it now, by the budget that both know. */
  #affords({ total }, leaveBytes = 0) {
    return this.#openBytes + total + leaveBytes <= BUDGET_BYTES
      && this.#open.size < MOST_UNFINISHED;
  }

  #frameOf(transfer) {
    if (!transfer.id) return this.#affords(transfer) ? this.#begin(transfer) : null;
    return transfer.left ? this.#block(transfer) : this.#end(transfer);
  }

  #begin(transfer) {
    this.#lastId += 1;
    transfer.id = this.#lastId;
    transfer.progressAt = this.#port.now();
    this.#waiting.delete(transfer);
    this.#open.set(transfer.id, transfer);
    this.#openBytes += transfer.total;
    const { id, kind, reference, bytes, total } = transfer;
    if (transfer.short) {
      transfer.ended = true;
      this.#went(transfer, total);
      return frames.whole(id, kind, reference, bytes);
    }
    this.#makeDigest(transfer);
    return frames.open(id, kind, reference, total, this.#port.blockBytes);
  }

  #block(transfer) {
    const { id, sent, acknowledged, bytes } = transfer;
    const { blockBytes } = this.#port;
    if ((sent - acknowledged + 1) * blockBytes > WINDOW_BYTES) return null;
    const block = bytes.subarray(sent * blockBytes, (sent + 1) * blockBytes);
    transfer.sent += 1;
    this.#went(transfer, block.length);
    return frames.block(id, sent, block);
  }

  #went(transfer, nbytes) {
    transfer.left -= nbytes;
    this.#queuedBytes -= nbytes;
  }

  #end(transfer) {
    if (!transfer.digest) return null;
    transfer.ended = true;
    return frames.end(transfer.id, transfer.digest);
  }

  async #makeDigest(transfer) {
    if (transfer.short || transfer.digest || transfer.digesting) return;
    transfer.digesting = true;
    try {
      transfer.digest = new Uint8Array(await crypto.subtle.digest('SHA-256', transfer.bytes));
      this.pump();
    } catch (error) {
      this.#giveUp(transfer, error, 'cancelled'); // bytes that are not here any more
    }
  }

  // From the other side -----------------------------------------------------------------------
  /** @param {import('./frames.js').Frame} frame ACK @throws {FrameError} */
  acknowledged({ id, blocks }) {
    const transfer = this.#known(id);
    if (blocks <= transfer.acknowledged || blocks > transfer.sent) {
      throw new FrameError('an acknowledgement of what was not sent, or that was known');
    }
    transfer.acknowledged = blocks;
    transfer.progressAt = this.#port.now();
    this.pump();
  }

  /** @param {import('./frames.js').Frame} frame DONE @throws {FrameError} */
  done({ id }) {
    const transfer = this.#known(id);
    if (!transfer.ended) throw new FrameError('thanks for what it does not have yet');
    this.#forget(transfer);
    this.#settle(transfer, null);
    this.pump();
  }

  /** @param {import('./frames.js').Frame} frame REFUSE @throws {FrameError} */
  refused({ id, code }) {
    const transfer = this.#known(id);
    if (!transfer.ended) {
      transfer.ended = true;
      this.#unlist(transfer);
      this.#port.post(frames.cancel(id, code));
    }
    this.#forget(transfer);
    this.#settle(transfer, new TransferError(code));
    this.pump();
  }

  #known(id) {
    const transfer = this.#open.get(id);
    if (!transfer) throw new FrameError('an answer to a transfer that is not open');
    return transfer;
  }

  // Endings -----------------------------------------------------------------------------------
  /**
   * Ends what stands still.
   * @param {number} heardAt when the other side last answered anything, ms
   */
  check(heardAt) {
    const late = this.#port.now() - STALLED_AFTER_MS;
    const error = () => new TransferError('stalled');
    for (const transfer of [...this.#open.values()]) {
      if (transfer.progressAt > late) continue;
      if (transfer.settled) this.#port.fail(error()); // the other side does not even say so
      else this.#giveUp(transfer, error(), 'stalled');
    }
    if (heardAt > late) return; // those that wait have others before them, who get on
    for (const transfer of [...this.#waiting]) {
      if (transfer.progressAt <= late) this.#giveUp(transfer, error(), 'stalled');
    }
  }

  /** The line is closed: nothing more goes or comes. */
  close(error) {
    const all = [...this.#open.values(), ...this.#waiting];
    for (const list of this.#lists) list.length = 0;
    this.#open.clear();
    this.#openBytes = 0;
    for (const transfer of all) this.#settle(transfer, error);
  }

  /** This side wants it no more. */
  #giveUp(transfer, error, code) {
    if (transfer.settled) return;
    this.#settle(transfer, error);
    if (transfer.id && !transfer.ended) {
      transfer.ended = true;
      this.#port.post(frames.cancel(transfer.id, code));
    }
    this.#unlist(transfer);
    // Those that are open stay until the other side's last frame, for which it has its time.
    transfer.progressAt = this.#port.now();
    this.pump();
  }

  get #lists() {
    return [this.#short, this.#ordered, this.#long, this.#active];
  }

  #unlist(transfer) {
    for (const list of this.#lists) {
      const at = list.indexOf(transfer);
      if (at >= 0) list.splice(at, 1);
    }
  }

  #forget(transfer) {
    if (this.#open.delete(transfer.id)) this.#openBytes -= transfer.total;
  }

  #settle(transfer, error) {
    if (transfer.settled) return;
    transfer.settled = true;
    transfer.unheed?.();
    this.#waiting.delete(transfer);
    this.#went(transfer, transfer.left);
    transfer.bytes = null;
    if (!error) {
      transfer.resolve();
      return;
    }
    transfer.reject(error);
    // What was to come after it could not be understood without it.
    if (transfer.ordered) this.#port.fail(error);
  }
}
