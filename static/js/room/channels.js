// The data channels of one connection beside Trystero's own.
//
// Both ends make a channel under a number they agreed on ("negotiated"): one that only one end makes
// would be announced to the other by an event that Trystero takes for its own channel. What comes for
// a number that an end has not made yet is lost, so a channel is used when both have said it is there.

import { NetworkError } from './errors.js';
import { PeerChannel } from './peer-channel.js';
import { isLabel } from './strangers.js';

export const CONTROL_NUMBER = 10; // Trystero's has 0 or 1
const FIRST_NUMBER = 12;
const LAST_NUMBER = 249; // Firefox begins with 256 streams
const MOST_OPEN = 16; // of each end
const OPENS_WITHIN_MS = 10_000;

export class Channels {
  #connection;
  #parity;
  #say;
  #heard;
  #measured;
  #open = new Map(); // number -> RTCDataChannel
  #opening = new Map(); // number -> { resolve, reject }
  #next;

  /**
   * @param {RTCPeerConnection} connection
   * @param {object} options
   * @param {boolean} options.even which of the numbers are this end's
   * @param {(message: object) => void} options.say sends a message over the control channel
   * @param {() => void} options.heard something came over a channel
   * @param {(bytes: number, ms: number) => void} options.measured how fast it came
   */
  constructor(connection, { even, say, heard, measured }) {
    this.#connection = connection;
    this.#parity = even ? 0 : 1;
    this.#next = FIRST_NUMBER + this.#parity;
    this.#say = say;
    this.#heard = heard;
    this.#measured = measured;
  }

  /**
   * @param {string} label a word, or words with dots
   * @returns {Promise<PeerChannel>} when both ends have it
   * @throws {NetworkError} channel-refused, peer-gone
   */
  async open(label) {
    if (!isLabel(label)) throw new NetworkError('channel-refused', 'A label is a word.');
    const number = this.#freeNumber();
    const channel = await this.#make(number, label);
    const answered = new Promise((resolve, reject) => this.#opening.set(number, { resolve, reject }));
    const timer = setTimeout(
      () => this.refused({ number, detail: 'did not answer' }), OPENS_WITHIN_MS);
    this.#say({ type: 'net.open', number, label });
    try {
      await answered;
      return channel;
    } catch (error) {
      channel.close();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#opening.delete(number);
    }
  }

  /**
   * The other end asks for a channel.
   * @param {object} message @param {((channel: PeerChannel) => void)|null} take
   */
  async asked({ number, label }, take) {
    const theirs = Number.isInteger(number) && number >= FIRST_NUMBER && number <= LAST_NUMBER
      && number % 2 !== this.#parity;
    if (!take || !theirs || !isLabel(label) || this.#open.has(number) || !this.#room(number)) {
      this.#say({ type: 'net.refused', number: theirs ? number : null });
      return;
    }
    const channel = await this.#make(number, label);
    this.#say({ type: 'net.opened', number });
    take(channel);
  }

  opened({ number }) {
    this.#opening.get(number)?.resolve();
  }

  refused({ number, detail = 'refused' }) {
    this.#opening.get(number)?.reject(
      new NetworkError('channel-refused', `The other tab ${detail} a channel.`));
  }

  /** The connection has ended. */
  end() {
    for (const { reject } of this.#opening.values()) {
      reject(new NetworkError('peer-gone', 'The other tab is gone.'));
    }
    this.#opening.clear();
    for (const channel of this.#open.values()) channel.close();
  }

  /** Whether the end that a number belongs to may have one more. */
  #room(number) {
    const same = [...this.#open.keys()].filter((other) => other % 2 === number % 2);
    return same.length < MOST_OPEN;
  }

  #freeNumber() {
    if (!this.#room(this.#parity)) {
      throw new NetworkError('channel-refused', `Only ${MOST_OPEN} channels are open at a time.`);
    }
    while (this.#open.has(this.#next)) this.#advance();
    const number = this.#next;
    this.#advance(); // the number of a closed one is used again as late as possible
    return number;
  }

  #advance() {
    this.#next = this.#next + 2 > LAST_NUMBER ? FIRST_NUMBER + this.#parity : this.#next + 2;
  }

  async #make(number, label) {
    const channel = this.#connection.createDataChannel(label, { negotiated: true, id: number });
    this.#open.set(number, channel);
    channel.addEventListener('close', () => this.#open.delete(number));
    const wrapped = new PeerChannel(channel, {
      label,
      maxMessageSize: this.#connection.sctp?.maxMessageSize,
      heard: this.#heard,
      measured: this.#measured,
    });
    if (channel.readyState === 'connecting') {
      await new Promise((resolve, reject) => {
        channel.addEventListener('open', resolve, { once: true });
        channel.addEventListener('close', () => reject(
          new NetworkError('peer-gone', 'The other tab is gone.')), { once: true });
      });
    }
    return wrapped;
  }
}
