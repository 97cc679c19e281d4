// The receiving half of a line: what is arriving, and whether it may.
//
// - Nothing is allocated before kind, size, budget and the owner's own question have been passed.
// - Blocks come in order; anything else is an error of the whole line, as on this channel it cannot
//   happen. What has come is checked against its SHA-256 before anybody sees it.
// - A transfer that is refused while its frames are on their way stays known, without its bytes,
//   until the other side's last frame.

import { FrameError, TransferError } from './errors.js';
import * as frames from './frames.js';
import {
  BUDGET_BYTES, COST_OF_A_REFUSAL_BYTES, LARGEST_BLOCK_BYTES, MOST_OVERDRAWN_BYTES,
  MOST_UNFINISHED, STALLED_AFTER_MS,
} from './limits.js';

const ACKNOWLEDGED_AFTER_BYTES = 2 ** 19;
const ACKNOWLEDGED_AFTER_MS = 1000;
const TELLING_BYTES = 2 ** 17; // fewer say little about how fast more would come
const TELLING_MS = 1;

/**
 * @typedef {object} Arrival
 * @property {number} kind
 * @property {number} reference
 * @property {Uint8Array} bytes its own buffer
 * @property {Uint8Array|null} digest SHA-256 of the bytes, checked; null of one in a single frame
 */

export class Inbox {
  #port;
  #lastId = 0;
  #arriving = new Map(); // by id
  #refused = new Map(); // by id: when, ms
  #checking = new Set(); // promises
  #ordered = []; // those of ordered kinds, as they began, until they are delivered
  #held = 0; // transfers that are neither delivered nor dropped
  #heldBytes = 0;
  #overdrawn = 0;
  #came = 0; // bytes of all blocks
  #closed = false;

  /**
   * @param {object} port
   * @param {(frame: ArrayBuffer) => void} port.post
   * @param {(error: TransferError) => void} port.fail the whole line has failed
   * @param {(arrival: Arrival) => void} port.deliver
   * @param {(kind: number, reference: number) => 'unexpected'|null} port.objection whether it is
   *   not wanted
   * @param {(kind: number, reference: number, error: TransferError) => void} port.lost what had
   *   been wanted does not come; of ordered kinds the line fails instead
   * @param {(bytes: number, ms: number) => void} port.measured so many came in that time, while
   *   there was more to send
   * @param {() => number} port.now ms
   * @param {Map<number, import('./limits.js').Kind>} port.kinds
   */
  constructor(port) {
    this.#port = port;
  }

  /** Bytes that are kept for what has not been delivered. */
  get heldBytes() {
    return this.#heldBytes;
  }

  /** How many transfers have not ended. */
  get unfinished() {
    return this.#held + this.#refused.size;
  }

  // Frames ------------------------------------------------------------------------------------
  /** @param {import('./frames.js').Frame} frame @throws {FrameError|TransferError} */
  whole({ id, kind, reference, bytes }) {
    const about = this.#number(id, kind);
    if (!about.short) throw new FrameError('a transfer in one frame that may not be');
    const code = this.#mayNot(about, kind, reference, bytes.length);
    if (code) {
      this.#port.post(frames.refuse(id, code));
      this.#lose(kind, reference, code);
      return;
    }
    const transfer = this.#hold({ id, kind, reference, bytes: bytes.slice(), digest: null });
    this.#ready(transfer);
  }

  /** @param {import('./frames.js').Frame} frame @throws {FrameError|TransferError} */
  open({ id, kind, reference, total, blockBytes }) {
    const about = this.#number(id, kind);
    if (blockBytes < 1 || blockBytes > LARGEST_BLOCK_BYTES) {
      throw new FrameError('blocks of a size that is not allowed');
    }
    const code = this.#mayNot(about, kind, reference, total);
    const bytes = code ? null : allocated(total);
    if (!bytes) {
      this.#refuse(id, kind, reference, code ?? 'over-budget');
      return;
    }
    const now = this.#port.now();
    this.#arriving.set(id, this.#hold({
      id, kind, reference, bytes, blockBytes, digest: null, at: 0, blocks: 0,
      acknowledgedAt: 0, saidAt: now, progressAt: now, since: null,
    }));
  }

  /** @param {import('./frames.js').Frame} frame @throws {FrameError} */
  block({ id, index, bytes }) {
    const transfer = this.#known(id);
    if (!transfer) return;
    const length = Math.min(transfer.blockBytes, transfer.bytes.length - transfer.at);
    if (index !== transfer.blocks || bytes.length !== length || length === 0) {
      throw new FrameError('a block that is not the next one');
    }
    transfer.bytes.set(bytes, transfer.at);
    transfer.at += length;
    transfer.blocks += 1;
    this.#came += length;
    const now = this.#port.now();
    transfer.progressAt = now;
    transfer.since ??= { came: this.#came, at: now };
    if (transfer.at === transfer.bytes.length) this.#measure(transfer.since, now);
    const news = transfer.at - transfer.acknowledgedAt;
    if (news >= ACKNOWLEDGED_AFTER_BYTES || now - transfer.saidAt >= ACKNOWLEDGED_AFTER_MS) {
      transfer.acknowledgedAt = transfer.at;
      transfer.saidAt = now;
      this.#port.post(frames.ack(id, transfer.blocks));
    }
  }

  /** From the first block on, whose own way took as long as waiting for it did. Others came too. */
  #measure({ came, at }, now) {
    const bytes = this.#came - came;
    if (bytes >= TELLING_BYTES && now - at >= TELLING_MS) this.#port.measured(bytes, now - at);
  }

  /** @param {import('./frames.js').Frame} frame @throws {FrameError} */
  end({ id, bytes: expected }) {
    const transfer = this.#known(id);
    if (!transfer) {
      this.#refused.delete(id);
      return;
    }
    if (transfer.at < transfer.bytes.length) throw new FrameError('an end before all blocks');
    this.#arriving.delete(id);
    transfer.digest = expected.slice();
    const checked = this.#check(transfer);
    this.#checking.add(checked);
    checked.then(() => this.#checking.delete(checked));
  }

  /** @param {import('./frames.js').Frame} frame CANCEL @throws {FrameError} */
  cancelled({ id, code }) {
    const transfer = this.#known(id);
    this.#refused.delete(id);
    if (!transfer) return;
    this.#drop(transfer);
    this.#port.post(frames.refuse(id, code));
    this.#lose(transfer.kind, transfer.reference, code);
  }

  /** This side wants a transfer of this kind and reference no more, if it is arriving. */
  refuse(kind, reference) {
    for (const transfer of this.#arriving.values()) {
      if (transfer.kind === kind && transfer.reference === reference) {
        this.#drop(transfer);
        this.#refuse(transfer.id, kind, reference, 'cancelled');
      }
    }
  }

  // Whether it may ----------------------------------------------------------------------------
  #number(id, kind) {
    if (id !== this.#lastId + 1) throw new FrameError('a transfer out of turn');
    this.#lastId = id;
    const about = this.#port.kinds.get(kind);
    if (!about) throw new FrameError('a transfer of no kind that is known here');
    return about;
  }

  /** The code of why not, or null. */
  #mayNot({ most }, kind, reference, total) {
    const overBudget = this.#heldBytes + total > BUDGET_BYTES || this.#held >= MOST_UNFINISHED;
    const code = total > most ? 'too-large'
      : overBudget ? 'over-budget' : this.#port.objection(kind, reference);
    if (code) {
      // An answer that comes late is no crime, whatever its size.
      this.#overdrawn += Math.max(code === 'unexpected' ? 0 : total, COST_OF_A_REFUSAL_BYTES);
      if (this.#overdrawn > MOST_OVERDRAWN_BYTES) throw new TransferError('flood');
    }
    return code;
  }

  #refuse(id, kind, reference, code) {
    this.#refused.set(id, this.#port.now());
    this.#port.post(frames.refuse(id, code));
    this.#lose(kind, reference, code);
  }

  #lose(kind, reference, code) {
    const error = new TransferError(code);
    if (this.#port.kinds.get(kind).ordered) this.#port.fail(error);
    else if (code !== 'unexpected') this.#port.lost(kind, reference, error);
  }

  /** The transfer that is arriving; null for one that was refused while this was on its way. */
  #known(id) {
    const transfer = this.#arriving.get(id);
    if (!transfer && !this.#refused.has(id)) throw new FrameError('part of no open transfer');
    return transfer ?? null;
  }

  #hold(transfer) {
    this.#held += 1;
    this.#heldBytes += transfer.bytes.length;
    // Its place is where it begins: what comes after one that never ends is never delivered.
    if (this.#port.kinds.get(transfer.kind).ordered) this.#ordered.push(transfer);
    return transfer;
  }

  #drop(transfer) {
    this.#arriving.delete(transfer.id);
    this.#held -= 1;
    this.#heldBytes -= transfer.bytes.length;
  }

  // Delivery ----------------------------------------------------------------------------------
  async #check(transfer) {
    const actual = new Uint8Array(await crypto.subtle.digest('SHA-256', transfer.bytes));
    if (this.#closed) return;
    if (actual.every((byte, at) => byte === transfer.digest[at])) {
      this.#ready(transfer);
      return;
    }
    this.#drop(transfer);
    this.#port.post(frames.refuse(transfer.id, 'corrupt'));
    this.#lose(transfer.kind, transfer.reference, 'corrupt');
  }

  #ready(transfer) {
    transfer.ready = true;
    if (!this.#port.kinds.get(transfer.kind).ordered) this.#deliver(transfer);
    while (this.#ordered[0]?.ready) this.#deliver(this.#ordered.shift());
  }

  #deliver(transfer) {
    const { id, kind, reference, bytes, digest } = transfer;
    this.#drop(transfer);
    const worth = Math.max(bytes.length, COST_OF_A_REFUSAL_BYTES);
    this.#overdrawn = Math.max(0, this.#overdrawn - worth);
    this.#port.post(frames.done(id));
    this.#port.deliver({ kind, reference, bytes, digest });
  }

  // Endings -----------------------------------------------------------------------------------
  /** Ends what stands still. */
  check() {
    const late = this.#port.now() - STALLED_AFTER_MS;
    for (const transfer of [...this.#arriving.values()]) {
      if (transfer.progressAt > late) continue;
      this.#drop(transfer);
      this.#refuse(transfer.id, transfer.kind, transfer.reference, 'stalled');
    }
    for (const at of this.#refused.values()) {
      if (at <= late) this.#port.fail(new TransferError('stalled'));
    }
  }

  /** @returns {Promise<unknown>} when what has arrived whole is delivered, or found to be damaged */
  settled() {
    return Promise.all(this.#checking);
  }

  /** The line is closed: nothing more is delivered. */
  close() {
    this.#closed = true;
    this.#arriving.clear();
    this.#refused.clear();
    this.#ordered = [];
    this.#held = 0;
    this.#heldBytes = 0;
  }
}

function allocated(nbytes) {
  try {
    return new Uint8Array(nbytes);
  } catch {
    return null; // the browser has not so much in one piece
  }
}
