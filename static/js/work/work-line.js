// The `work.` messages of the room's socket: text, and the bytes that follow a text.
// docs/api-websocket.md describes them. Knows neither sockets nor what is computed.

import { piecesOf } from './uploads.js';

export class WorkLine {
  #wire;
  #waiting = null; // a message whose bytes are on their way: { message, bytes, at }

  /**
   * @param {{send(message: object): void, sendBytes(bytes: Uint8Array): void, buffered: number}} wire
   *   buffered: bytes that the socket has not sent yet
   */
  constructor(wire) {
    this.#wire = wire;
  }

  /** Whether the network is slower than what is sent. */
  get congested() {
    return this.#wire.buffered > 2 ** 20;
  }

  /**
   * @param {object} message @param {Uint8Array} [bytes] that follow it
   */
  say(message, bytes) {
    if (!bytes) {
      this.#wire.send(message);
      return;
    }
    this.#wire.send({ ...message, bytes: bytes.length });
    for (const piece of piecesOf(bytes)) this.#wire.sendBytes(piece);
  }

  /**
   * A message came.
   * @returns {{message: object, bytes: Uint8Array}|null} null while its bytes are missing
   */
  hear(message) {
    if (!message.bytes) return { message, bytes: new Uint8Array(0) };
    this.#waiting = { message, bytes: new Uint8Array(message.bytes), at: 0 };
    return null;
  }

  /**
   * A binary message came.
   * @param {ArrayBuffer} piece
   * @returns {{message: object, bytes: Uint8Array}|null} when it was the last one
   */
  hearBytes(piece) {
    const waiting = this.#waiting;
    if (!waiting || waiting.at + piece.byteLength > waiting.bytes.length) return null;
    waiting.bytes.set(new Uint8Array(piece), waiting.at);
    waiting.at += piece.byteLength;
    if (waiting.at < waiting.bytes.length) return null;
    this.#waiting = null;
    return waiting;
  }

  /** The socket was closed: nothing more comes of what was on its way. */
  forget() {
    this.#waiting = null;
  }
}
