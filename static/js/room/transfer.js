// Moves short and long pieces of bytes over a data channel, both ways at once. docs/transfers.md
// describes frames, endings and limits.
//
// - Every transfer ends: acknowledged, when the other side has checked its SHA-256, or as an error
//   with a code, at the latest after 15 seconds without progress. Both sides hear of it.
// - What the other side sends is not trusted: sizes are checked before memory is taken, and whatever
//   cannot be ends the line.
// - Knows neither messages nor what the bytes are; `link.js` does.

import { FrameError, TransferError } from './transfer/errors.js';
import * as frames from './transfer/frames.js';
import { Inbox } from './transfer/inbox.js';
import { Outbox } from './transfer/outbox.js';
import { Pace } from './transfer/pace.js';

export { TransferError };

const CHECKED_EVERY_MS = 1000;
// One message of the channel: 64 KiB at most go through every browser, and of several transfers that
// take turns each gets one.
const FRAME_BYTES = 2 ** 16;

const CLOCK = {
  now: () => performance.now(),
  every(ms, run) {
    const timer = setInterval(run, ms);
    return () => clearInterval(timer);
  },
};

/**
 * @typedef {object} Channel ordered and reliable; an RTCDataChannel is one
 * @property {(frame: ArrayBuffer) => void} send
 * @property {() => void} close
 * @property {number} bufferedAmount
 * @property {number} bufferedAmountLowThreshold
 * @property {string} [readyState] 'open' when absent
 * @property {number} [maxMessageBytes] 65,536 when absent
 * @property {(bytes: number, ms: number) => void} [measured] told how fast bytes come
 * @property {(event: {data: ArrayBuffer}) => void} onmessage set here, as onbufferedamountlow, onopen
 *   and onclose are
 *
 * @typedef {object} LineOptions
 * @property {Map<number, import('./transfer/limits.js').Kind>} kinds the same at both ends; 0 to 255
 * @property {(arrival: import('./transfer/inbox.js').Arrival) => void} deliver
 * @property {(error: TransferError) => void} closed once, however it came
 * @property {(kind: number, reference: number) => 'unexpected'|null} [objection] asked before a
 *   transfer is let in
 * @property {(kind: number, reference: number, error: TransferError) => void} [lost] a transfer that
 *   is not ordered has begun to arrive, and ended as an error
 * @property {{now: () => number, every: (ms: number, run: () => void) => () => void}} [clock]
 */

export class TransferLine {
  #channel;
  #options;
  #clock;
  #inbox;
  #outbox;
  #pace = new Pace();
  #heardAt; // when the other side last answered something, ms
  #closed = false;
  #stopChecking;

  /**
   * Listens from the end of this task on: make it in the task in which the channel came.
   * @param {Channel} channel @param {LineOptions} options
   * @throws {TransferError} where the browser has no SHA-256
   */
  constructor(channel, options) {
    if (!globalThis.crypto?.subtle) {
      throw new TransferError('insecure', 'Transfers need a page of https or of this very machine.');
    }
    this.#channel = channel;
    this.#options = { objection: () => null, lost: () => {}, ...options };
    this.#clock = options.clock ?? CLOCK;
    this.#heardAt = this.#clock.now();
    const port = {
      kinds: options.kinds,
      blockBytes: Math.min(FRAME_BYTES, channel.maxMessageBytes ?? FRAME_BYTES) - frames.HEAD_BYTES,
      now: () => this.#clock.now(),
      post: (frame) => this.#post(frame),
      takesMore: () => this.#takesMore(),
      fail: (error) => this.#close(error),
      deliver: (arrival) => guarded(() => this.#options.deliver(arrival)),
      objection: (kind, reference) => this.#options.objection(kind, reference),
      lost: (kind, reference, error) => this.#options.lost(kind, reference, error),
      measured: (bytes, ms) => channel.measured?.(bytes, ms),
    };
    this.#inbox = new Inbox(port);
    this.#outbox = new Outbox(port);
    this.#stopChecking = this.#clock.every(CHECKED_EVERY_MS, () => this.#check());
    // A channel may hand over what it has kept at once, and the owner has no line to answer on yet.
    queueMicrotask(() => this.#listen());
  }

  /** Bytes that were handed in and have not left yet. */
  get buffered() {
    return this.#closed ? 0 : this.#outbox.queuedBytes + this.#channel.bufferedAmount;
  }

  /** What is not over: transfers of both directions, and the bytes that they keep here. */
  get unfinished() {
    return {
      sending: this.#outbox.unfinished,
      receiving: this.#inbox.unfinished,
      heldBytes: this.#outbox.queuedBytes + this.#inbox.heldBytes,
    };
  }

  /**
   * @param {number} kind
   * @param {Uint8Array} bytes must stay as they are until the promise is settled
   * @param {{reference?: number, digest?: Uint8Array, signal?: AbortSignal}} [options]
   *   reference: 32 bits that come along. digest: SHA-256, where it is known already. signal: gives
   *   up; not for ordered kinds
   * @returns {Promise<void>} settled when the other side has it, or as a TransferError or with the
   *   signal's reason
   * @throws {TransferError} too-large, busy
   */
  send(kind, bytes, options) {
    if (this.#closed) return Promise.reject(new TransferError('closed'));
    return this.#outbox.send(kind, bytes, options);
  }

  /** Wants a transfer of this kind and reference no more. Whoever sends it hears `cancelled`. */
  refuse(kind, reference) {
    this.#inbox.refuse(kind, reference);
  }

  /**
   * Ends the line and everything on it.
   * @param {TransferError} [error] what those who wait are told
   */
  close(error = new TransferError('closed', 'The connection was closed on this side.')) {
    this.#close(error);
  }

  #listen() {
    const channel = this.#channel;
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = this.#pace.lowBytes;
    channel.onopen = () => this.#outbox.pump();
    channel.onbufferedamountlow = () => this.#drained();
    channel.onclose = () => this.#leftAlone();
    channel.onmessage = ({ data }) => this.#hear(data);
    if (channel.readyState === 'closed') this.#leftAlone();
  }

  #hear(data) {
    if (this.#closed) return;
    try {
      this.#take(frames.parse(data));
    } catch (error) {
      if (!(error instanceof TransferError)) reportError(error);
      this.#close(error instanceof TransferError ? error : new TransferError('failed'));
    }
  }

  #take(frame) {
    switch (frame.type) {
      case frames.WHOLE: return this.#inbox.whole(frame);
      case frames.OPEN: return this.#inbox.open(frame);
      case frames.BLOCK: return this.#inbox.block(frame);
      case frames.END: return this.#inbox.end(frame);
      case frames.CANCEL: return this.#inbox.cancelled(frame);
    }
    this.#heardAt = this.#clock.now();
    switch (frame.type) {
      case frames.ACK: return this.#outbox.acknowledged(frame);
      case frames.DONE: return this.#outbox.done(frame);
      case frames.REFUSE: return this.#outbox.refused(frame);
    }
    throw new FrameError('a frame of no type that is known here');
  }

  get #isOpen() {
    return !this.#closed && (this.#channel.readyState ?? 'open') === 'open';
  }

  #takesMore() {
    return this.#isOpen && this.#pace.takesMore(this.#channel.bufferedAmount, this.#clock.now());
  }

  #drained() {
    this.#pace.low(this.#channel.bufferedAmount, this.#clock.now());
    this.#channel.bufferedAmountLowThreshold = this.#pace.lowBytes;
    this.#outbox.pump();
  }

  #post(frame) {
    if (!this.#isOpen) return;
    try {
      this.#channel.send(frame);
    } catch (error) {
      this.#close(new TransferError('closed', undefined, { cause: error }));
    }
  }

  #check() {
    this.#inbox.check();
    this.#outbox.check(this.#heardAt);
    this.#outbox.pump();
  }

  /** The channel is closed; what has come whole is still delivered. */
  async #leftAlone() {
    await this.#inbox.settled();
    this.#close(new TransferError('closed'));
  }

  #close(error) {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopChecking();
    this.#inbox.close();
    this.#outbox.close(error);
    this.#channel.close();
    guarded(() => this.#options.closed(error));
  }
}

/** An error of whoever is called is reported, and is none of the line's. */
function guarded(call) {
  try {
    call();
  } catch (error) {
    reportError(error);
  }
}
