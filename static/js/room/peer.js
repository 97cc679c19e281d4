// One other tab: who it is, messages to and from it, whether it is still there.
//
// All of it goes over a channel of our own on the connection that Trystero made. Of what Trystero
// says nothing but the connection is used: it takes a tab that joins anew for one that has left.

import { Channels, CONTROL_NUMBER } from './channels.js';
import { Heartbeat } from './heartbeat.js';
import { Allowance, plainName, readAbout, readMessage, writeMessage } from './strangers.js';

export const PROTOCOL = 2;
const LEAVING_TAKES_MS = 1000; // and hearing a last word

/**
 * @typedef {'left'|'silent'|'closed'|'replaced'|'misbehaved'|'other-version'|'we-left'} Ending
 *   left: it said so.  silent: not heard of for 9 s.  closed: the connection broke.  replaced: it
 *   came by another connection.  misbehaved: what it sent was no message, or too much of it
 */

export class Peer {
  #control;
  #channels;
  #heartbeat;
  #allowance = new Allowance();
  #hello;
  #on;
  #state = 'new'; // then 'here', when it has said who it is, then 'gone'

  /**
   * @param {object} options
   * @param {string} options.id checked
   * @param {string} options.selfId
   * @param {RTCPeerConnection} options.connection
   * @param {() => {name: string, about: object}} options.hello what this tab says of itself
   * @param {{here(peer: Peer): void, changed(peer: Peer): void, message(peer: Peer, message: object): void,
   *   channel: ((peer: Peer, channel: object) => void)|null, ended(peer: Peer, why: Ending): void}} options.on
   */
  constructor({ id, selfId, connection, hello, on }) {
    /** 20 letters and digits. Nobody has proved that it is theirs. */
    this.id = id;
    /** What they call themselves: plain text, may be empty. */
    this.name = '';
    /** What they announced: an object from a stranger. */
    this.about = {};
    /** How fast bytes came from there, megabits a second, the newest measured, or null. */
    this.mbitPerS = null;
    this.connection = connection;
    this.#hello = hello;
    this.#on = on;
    this.#heartbeat = new Heartbeat((number) => this.#say({ type: 'net.beat', number }));
    this.#channels = new Channels(connection, {
      even: selfId < id,
      say: (message) => this.#say(message),
      heard: () => this.#heartbeat.heard(),
      measured: (bytes, ms) => {
        this.mbitPerS = (8 * bytes) / ms / 1000;
      },
    });
    this.#control = connection.createDataChannel(
      'room', { negotiated: true, id: CONTROL_NUMBER, priority: 'high' });
    this.#control.onopen = () => this.sayHello();
    this.#control.onmessage = ({ data }) => this.#receive(data);
    this.#control.onclose = () => this.end('closed');
  }

  /** Whether it has said who it is and has not gone. */
  get isHere() {
    return this.#state === 'here';
  }

  /** Milliseconds there and back, the newest measured, or null. */
  get roundTripMs() {
    return this.#heartbeat.roundTripMs;
  }

  /**
   * A small message. Lost when the peer is gone.
   * @param {object} message with a `type` that does not begin with `net.`
   * @throws {import('./errors.js').NetworkError} bad-message
   */
  send(message) {
    this.#write(writeMessage(message));
  }

  /**
   * A channel for bulk data; the other end is given it by its onChannel.
   * @param {string} label a word, or words with dots
   * @returns {Promise<import('./peer-channel.js').PeerChannel>}
   * @throws {import('./errors.js').NetworkError} channel-refused, peer-gone
   */
  openChannel(label) {
    return this.#channels.open(label);
  }

  // For the network ------------------------------------------------------------------------------
  /** Says who this tab is, now or anew. */
  sayHello(heard = this.#state === 'here') {
    this.#say({ type: 'net.hello', protocol: PROTOCOL, heard, ...this.#hello() });
  }

  /** Called every second. */
  tick() {
    if (!this.#heartbeat.tick()) this.end('silent');
  }

  /** This tab leaves. */
  sayGoodbye() {
    this.#say({ type: 'net.leave' });
  }

  /** @param {Ending} why */
  end(why) {
    if (this.#state === 'gone') return;
    this.#state = 'gone';
    this.#control.onclose = null;
    this.#channels.end();
    // Who leaves is in the room for a moment more, and would try to connect anew.
    if (why === 'left' || why === 'other-version') setTimeout(() => this.#close(), LEAVING_TAKES_MS);
    else this.#close();
    this.#on.ended(this, why);
  }

  /** Of what this end closes a browser says nothing, and Trystero would take it for connected. */
  #close() {
    this.connection.close();
    this.connection.dispatchEvent(new Event('connectionstatechange'));
  }

  #say(message) {
    this.#write(JSON.stringify(message));
  }

  #write(text) {
    if (this.#control.readyState === 'open' && this.#state !== 'gone') this.#control.send(text);
  }

  #receive(data) {
    if (this.#state === 'gone') return;
    this.#heartbeat.heard();
    const message = this.#allowance.spend() ? readMessage(data) : null;
    if (!message) this.end('misbehaved');
    else if (message.type.startsWith('net.')) this.#hear(message);
    else if (this.#state === 'here') this.#on.message(this, message);
  }

  #hear(message) {
    switch (message.type) {
      case 'net.hello':
        this.#greeted(message);
        break;
      case 'net.beat':
        this.#say({ type: 'net.heard', number: message.number });
        break;
      case 'net.heard':
        this.#heartbeat.answered(message.number);
        break;
      case 'net.open':
        this.#openTheirs(message);
        break;
      case 'net.opened':
        this.#channels.opened(message);
        break;
      case 'net.refused':
        this.#channels.refused({ number: message.number });
        break;
      case 'net.leave':
        this.end('left');
        break;
    }
  }

  /** What comes before this end has made its channel is lost, so a hello is answered with one. */
  #greeted({ protocol, heard, name, about }) {
    if (protocol !== PROTOCOL) {
      this.#refuse();
      return;
    }
    const wasHere = this.#state === 'here';
    const known = JSON.stringify([this.name, this.about]);
    this.#state = 'here';
    this.name = plainName(name);
    this.about = readAbout(about);
    if (heard !== true) this.sayHello(true);
    if (!wasHere) this.#on.here(this);
    else if (JSON.stringify([this.name, this.about]) !== known) this.#on.changed(this);
  }

  /** The other end is to know it, too. A hello may come before this end's channel says it is open. */
  #refuse() {
    this.#control.onopen = () => {
      this.sayHello();
      this.end('other-version');
    };
    if (this.#control.readyState === 'open') this.#control.onopen();
  }

  async #openTheirs(message) {
    const { channel: take } = this.#on;
    try {
      await this.#channels.asked(message, take && ((channel) => take(this, channel)));
    } catch {
      // Gone meanwhile: the end of the connection is told by the control channel.
    }
  }
}
