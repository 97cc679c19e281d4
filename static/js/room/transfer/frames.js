// The bytes of frames. docs/transfers.md shows them. Pure: neither channels nor transfers.

import { FrameError, REASONS } from './errors.js';

export const WHOLE = 1; // a short transfer, all of it
export const OPEN = 2; // a transfer begins
export const BLOCK = 3;
export const END = 4; // all blocks were sent; SHA-256
export const CANCEL = 5; // instead of END
export const ACK = 6; // so many blocks have arrived
export const DONE = 7; // arrived, checked and delivered
export const REFUSE = 8; // instead of DONE

export const HEAD_BYTES = 20;
export const DIGEST_BYTES = 32;
const MAGIC = 0x5754; // "TW"
const CRC_AT = 16;
// How many bytes follow the head; of the others as many as it says.
const FOLLOWING = new Map([
  [OPEN, 4], [END, DIGEST_BYTES], [CANCEL, 0], [ACK, 0], [DONE, 0], [REFUSE, 0],
]);

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** CRC-32 (IEEE 802.3) of some bytes, continuing from that of those before them. */
export function crc32(bytes, before = 0) {
  let crc = ~before;
  for (let at = 0; at < bytes.length; at += 1) {
    crc = CRC_TABLE[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}

function frame(type, id, { detail = 0, number = 0, size = 0, following = null } = {}) {
  const bytes = new Uint8Array(HEAD_BYTES + (following?.length ?? 0));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, MAGIC, true);
  view.setUint8(2, type);
  view.setUint8(3, detail);
  view.setUint32(4, id, true);
  view.setUint32(8, number, true);
  view.setUint32(12, size, true);
  if (following) bytes.set(following, HEAD_BYTES);
  view.setUint32(CRC_AT, crcOf(bytes, type), true);
  return bytes.buffer;
}

/** Of the head and, because SHA-256 covers blocks, of what follows anything else. */
function crcOf(bytes, type) {
  const head = crc32(bytes.subarray(0, CRC_AT));
  return type === BLOCK ? head : crc32(bytes.subarray(HEAD_BYTES), head);
}

/** @returns {ArrayBuffer} */
export const whole = (id, kind, reference, bytes) =>
  frame(WHOLE, id, { detail: kind, number: reference, size: bytes.length, following: bytes });

/** @param {number} total bytes @param {number} blockBytes of every block but the last */
export function open(id, kind, reference, total, blockBytes) {
  const following = new Uint8Array(4);
  new DataView(following.buffer).setUint32(0, blockBytes, true);
  return frame(OPEN, id, { detail: kind, number: reference, size: total, following });
}

export const block = (id, index, bytes) =>
  frame(BLOCK, id, { number: index, size: bytes.length, following: bytes });

/** @param {Uint8Array} digest SHA-256 of all bytes */
export const end = (id, digest) => frame(END, id, { following: digest });
export const cancel = (id, code) => frame(CANCEL, id, { detail: reason(code) });
/** @param {number} blocks that have arrived */
export const ack = (id, blocks) => frame(ACK, id, { number: blocks });
export const done = (id) => frame(DONE, id);
export const refuse = (id, code) => frame(REFUSE, id, { detail: reason(code) });

const reason = (code) => REASONS.indexOf(code) + 1;

/**
 * @typedef {object} Frame
 * @property {number} type
 * @property {number} id of the transfer
 * @property {number} [kind] of WHOLE and OPEN
 * @property {number} [reference] of WHOLE and OPEN
 * @property {number} [total] of OPEN: bytes
 * @property {number} [blockBytes] of OPEN
 * @property {number} [index] of BLOCK
 * @property {number} [blocks] of ACK
 * @property {string} [code] of CANCEL and REFUSE, one of REASONS
 * @property {Uint8Array} [bytes] of WHOLE and BLOCK, and the digest of END: a view
 */

/**
 * @param {ArrayBuffer} buffer one message of the channel
 * @returns {Frame}
 * @throws {FrameError}
 */
export function parse(buffer) {
  if (!(buffer instanceof ArrayBuffer)) throw new FrameError('a message that is not of bytes');
  if (buffer.byteLength < HEAD_BYTES) throw new FrameError('a frame that ends in its head');
  const view = new DataView(buffer);
  const bytes = new Uint8Array(buffer);
  const type = view.getUint8(2);
  if (view.getUint16(0, true) !== MAGIC || type < WHOLE || type > REFUSE) {
    throw new FrameError('a frame of no type that is known here');
  }
  if (view.getUint32(CRC_AT, true) !== crcOf(bytes, type)) {
    throw new FrameError('a damaged frame');
  }
  const [detail, id, number, size] = [
    view.getUint8(3), view.getUint32(4, true), view.getUint32(8, true), view.getUint32(12, true),
  ];
  const following = bytes.subarray(HEAD_BYTES);
  if (following.length !== (FOLLOWING.get(type) ?? size)) {
    throw new FrameError('a frame of another length than it says');
  }
  switch (type) {
    case WHOLE:
      return { type, id, kind: detail, reference: number, bytes: following };
    case OPEN: {
      const blockBytes = view.getUint32(HEAD_BYTES, true);
      return { type, id, kind: detail, reference: number, total: size, blockBytes };
    }
    case BLOCK:
      return { type, id, index: number, bytes: following };
    case END:
      return { type, id, bytes: following };
    case ACK:
      return { type, id, blocks: number };
    case DONE:
      return { type, id };
    default: {
      const code = REASONS[detail - 1];
      if (!code) throw new FrameError('an ending without a reason');
      return { type, id, code };
    }
  }
}
