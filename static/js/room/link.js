// A peer to talk to over a data channel, as one talks to the site over the room's socket.
//
// - Messages and bytes arrive in the order in which they were sent: the `wire` of
//   `work/tab-worker.js` and its like.
// - Questions with answers, and blobs by the SHA-256 of their bytes, go beside them and wait for
//   neither.
// - What comes is not trusted: a message that is none, an answer nobody asked for, a blob of another
//   name are errors with a code, and most of them end the link.

import { TransferError, TransferLine } from './transfer.js';
import { Places } from './transfer/places.js';

export { TransferError };

const [MESSAGE, BYTES, REQUEST, ANSWER, FAILURE, WANTED, BLOB] = [1, 2, 3, 4, 5, 6, 7];
const LONGEST_MESSAGE = 2 ** 23;
const LONGEST_BYTES = 2 ** 26;
const LONGEST_FAILURE = 4096;
const NAME_BYTES = 32;
const KINDS = new Map([
  [MESSAGE, { most: LONGEST_MESSAGE, ordered: true, short: true }],
  [BYTES, { most: LONGEST_BYTES, ordered: true }],
  [REQUEST, { most: LONGEST_MESSAGE, short: true }],
  [ANSWER, { most: LONGEST_MESSAGE, short: true }],
  [FAILURE, { most: LONGEST_FAILURE, short: true }],
  [WANTED, { most: NAME_BYTES, short: true }],
  [BLOB, { most: LONGEST_BYTES }],
]);
const ANSWERED_WITHIN_MS = 15_000;
const BLOBS_AT_ONCE = 4; // in each direction; more wait
const MOST_QUESTIONS = 256; // of the other side, unanswered
const ANSWERS = [ANSWER, FAILURE, BLOB];
const isCode = (code) => typeof code === 'string' && /^[a-z][a-z-]{0,39}$/.test(code);
const LONGEST_DETAIL = 500;

/**
 * @typedef {object} LinkOptions
 * @property {(message: object) => void} [receive] a message of the other side's wire
 * @property {(bytes: ArrayBuffer) => void} [receiveBytes] bytes of the other side's wire
 * @property {(message: object) => Promise<object>|object} [answer] a question of the other side.
 *   What it throws reaches the other side as `code` and message
 * @property {(name: string) => Promise<Uint8Array|null>|Uint8Array|null} [provide] the bytes whose
 *   SHA-256 is the name, in hexadecimal; null where they are not here
 * @property {(error: TransferError) => void} [closed] once; nothing follows
 * @property {import('./transfer.js').LineOptions['clock']} [clock]
 */

export class Link {
  #line;
  #options;
  #lastQuestion = 0;
  #questions = new Map(); // asked of the other side, by number: { answers, settle(error, arrival) }
  #fetching = new Places(BLOBS_AT_ONCE);
  #providing = new Places(BLOBS_AT_ONCE);
  #asked = 0; // by the other side, unanswered
  #gone = false;

  /**
   * Listens from the end of this task on: make it in the task in which the channel came.
   * @param {import('./transfer.js').Channel} channel @param {LinkOptions} options
   */
  constructor(channel, options) {
    this.#options = options;
    this.#line = new TransferLine(channel, {
      kinds: KINDS,
      clock: options.clock,
      deliver: (arrival) => this.#take(arrival),
      objection: (kind, number) => this.#objection(kind, number),
      lost: (kind, number, error) => {
        if (ANSWERS.includes(kind)) this.#questions.get(number)?.settle(error);
      },
      closed: (error) => this.#closed(error),
    });
  }

  // The wire ----------------------------------------------------------------------------------
  /** @param {object} message JSON @throws {TransferError} when it is too large */
  send(message) {
    this.#quietly(this.#line.send(MESSAGE, encoded(message)));
  }

  /** @param {Uint8Array} bytes stay as they are @throws {TransferError} when they are too many */
  sendBytes(bytes) {
    this.#quietly(this.#line.send(BYTES, bytes));
  }

  /** Bytes that have not left yet. */
  get buffered() {
    return this.#line.buffered;
  }

  /** What is not over: `{ sending, receiving, heldBytes }`. */
  get unfinished() {
    return this.#line.unfinished;
  }

  /** Ends everything; `closed` is called. */
  close() {
    this.#line.close();
  }

  #closed(error) {
    this.#gone = true;
    for (const question of [...this.#questions.values()]) question.settle(error);
    this.#options.closed?.(error);
  }

  /** When these fail, the link has; `closed` says why. */
  #quietly(sent) {
    sent.catch(() => {});
  }

  // Asking ------------------------------------------------------------------------------------
  /**
   * @param {object} message JSON
   * @param {{timeoutMs?: number, signal?: AbortSignal}} [options] timeoutMs: until the answer begins
   *   to arrive, 15,000 when absent
   * @returns {Promise<object>} what the other side's `answer` gave
   * @throws {TransferError} also with the code that the other side's `answer` threw
   */
  async request(message, options = {}) {
    const { bytes } = await this.#ask(REQUEST, encoded(message), ANSWER, options);
    return decoded(bytes);
  }

  /**
   * @param {string} name SHA-256 of the bytes, in hexadecimal
   * @param {{timeoutMs?: number, signal?: AbortSignal}} [options]
   * @returns {Promise<Uint8Array>} its own buffer, checked
   * @throws {TransferError} not-found when the other side does not have it
   */
  async fetchBlob(name, options = {}) {
    if (!/^[0-9a-f]{64}$/.test(name)) throw new TypeError(`${name} is no SHA-256 in hexadecimal`);
    const leave = await this.#fetching.enter(options.signal);
    try {
      const { bytes, digest } = await this.#ask(WANTED, bytesOf(name), BLOB, options);
      if (hex(digest) !== name) throw new TransferError('corrupt');
      return bytes;
    } finally {
      leave();
    }
  }

  async #ask(kind, bytes, answers, { timeoutMs = ANSWERED_WITHIN_MS, signal }) {
    signal?.throwIfAborted();
    this.#lastQuestion += 1;
    const number = this.#lastQuestion;
    const asking = new AbortController();
    const question = { answers, arriving: false, settle: null };
    const answered = new Promise((resolve, reject) => {
      question.settle = (error, arrival) => {
        this.#questions.delete(number);
        if (error) reject(error);
        else resolve(arrival);
      };
    });
    this.#questions.set(number, question);
    const stop = (error) => {
      question.settle(error);
      this.#line.refuse(answers, number);
    };
    const expire = () => {
      if (question.arriving) return; // the line sees to it that it gets on
      // Large blobs come one after the other.
      if (answers === BLOB && this.#isArriving(BLOB)) timer = setTimeout(expire, timeoutMs);
      else stop(new TransferError('timeout'));
    };
    let timer = setTimeout(expire, timeoutMs);
    signal?.addEventListener('abort', () => stop(signal.reason), { signal: asking.signal });
    try {
      this.#line.send(kind, bytes, { reference: number, signal: asking.signal })
        .catch((error) => question.settle(error));
      return await answered;
    } finally {
      clearTimeout(timer);
      asking.abort();
      this.#questions.delete(number);
    }
  }

  #isArriving(kind) {
    return [...this.#questions.values()].some(
      ({ answers, arriving }) => arriving && answers === kind);
  }

  /** Whether a transfer that begins now is not wanted. */
  #objection(kind, number) {
    if (!ANSWERS.includes(kind)) return null;
    const question = this.#questions.get(number);
    const fits = question && !question.arriving && (kind === FAILURE || kind === question.answers);
    if (!fits) return 'unexpected';
    question.arriving = true;
    return null;
  }

  // What has come -----------------------------------------------------------------------------
  #take({ kind, reference, bytes, digest }) {
    try {
      this.#sort(kind, reference, bytes, digest);
    } catch (error) {
      if (!(error instanceof TransferError)) throw error;
      this.#line.close(error);
    }
  }

  #sort(kind, number, bytes, digest) {
    switch (kind) {
      case MESSAGE:
        this.#options.receive?.(withType(decoded(bytes)));
        break;
      case BYTES:
        this.#options.receiveBytes?.(bytes.buffer);
        break;
      case REQUEST:
        this.#answer(number, decoded(bytes));
        break;
      case WANTED:
        if (bytes.length !== NAME_BYTES) throw new TransferError('bad-message', 'No name of a blob.');
        this.#serve(number, bytes);
        break;
      case FAILURE:
        this.#questions.get(number)?.settle(failureIn(decoded(bytes)));
        break;
      default:
        this.#questions.get(number)?.settle(null, { bytes, digest });
    }
  }

  // Answering ---------------------------------------------------------------------------------
  #answer(number, message) {
    return this.#reply(number, async () => {
      const { answer } = this.#options;
      if (!answer) throw new TransferError('not-served');
      return this.#line.send(ANSWER, encoded(await answer(message)), { reference: number });
    });
  }

  #serve(number, digest) {
    return this.#reply(number, async () => {
      const { provide } = this.#options;
      if (!provide) throw new TransferError('not-served');
      const leave = await this.#providing.enter();
      try {
        if (this.#gone) return;
        const bytes = await provide(hex(digest));
        if (!bytes) throw new TransferError('not-found');
        await this.#line.send(BLOB, bytes, { reference: number, digest });
      } finally {
        leave();
      }
    });
  }

  /** Whatever happens in `reply`, the other side hears of it. */
  async #reply(number, reply) {
    this.#asked += 1;
    try {
      if (this.#asked > MOST_QUESTIONS) throw new TransferError('busy');
      await reply();
    } catch (error) {
      if (!isCode(error?.code)) reportError(error); // an error of this side, and not an answer
      const code = isCode(error?.code) ? error.code : 'failed';
      const detail = `${error?.message ?? error}`.slice(0, LONGEST_DETAIL);
      // It may have gone wrong because nobody waits for the answer any more.
      this.#quietly(this.#line.send(FAILURE, encoded({ code, detail }), { reference: number }));
    } finally {
      this.#asked -= 1;
    }
  }
}

const encoded = (message) => new TextEncoder().encode(JSON.stringify(message));

/** @throws {TransferError} for what is no object of JSON */
function decoded(bytes) {
  let message = null;
  try {
    message = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    // told below
  }
  if (message === null || typeof message !== 'object' || Array.isArray(message)) {
    throw new TransferError('bad-message', 'The other side sent a message that is no JSON object.');
  }
  return message;
}

function withType(message) {
  if (typeof message.type === 'string') return message;
  throw new TransferError('bad-message', 'The other side sent a message without a type.');
}

function failureIn({ code, detail }) {
  const told = typeof detail === 'string' && detail ? detail.slice(0, LONGEST_DETAIL) : undefined;
  return new TransferError(isCode(code) ? code : 'failed', told);
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

const bytesOf = (name) => Uint8Array.from(name.match(/../g), (pair) => parseInt(pair, 16));
