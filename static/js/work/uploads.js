// Bytes that follow a message, in pieces. A message with `bytes: n` is followed by n bytes in binary
// messages of PIECE_BYTES each, the last one shorter. Twin of rooms/uploads.py.

export const PIECE_BYTES = 2 ** 18; // a WebSocket message may have 1 MiB at most

/** The bytes that follow one message. */
export class Upload {
  #missing;
  #bytes;
  #then;

  /**
   * @param {number} bytes that will come
   * @param {((bytes: Uint8Array) => Promise<void>)|null} then called with all of them; null where
   *   nobody wants them any more, but they are on their way
   */
  constructor(bytes, then) {
    this.#missing = bytes;
    this.#then = then;
    this.#bytes = then ? new Uint8Array(bytes) : null;
  }

  /** @returns {boolean} */
  get complete() {
    return this.#missing === 0;
  }

  /** @param {ArrayBuffer} piece @returns {boolean} false for one that has not its length */
  add(piece) {
    if (piece.byteLength !== Math.min(PIECE_BYTES, this.#missing)) return false;
    this.#bytes?.set(new Uint8Array(piece), this.#bytes.length - this.#missing);
    this.#missing -= piece.byteLength;
    return true;
  }

  async finish() {
    await this.#then?.(this.#bytes);
  }
}

/** @param {Uint8Array} bytes what is sent after the message that announced them */
export function* piecesOf(bytes) {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}
