// Encodings that mojibake comes from. Bytes are texts of U+0000-U+00FF, so that expressions work.

import { CESU8, CHARMAPS, UTF8_VARIANTS } from './tables.js';
import { pythonRegExp } from './python.js';

const ASCII = Array.from({ length: 0x80 }, (_, code) => String.fromCharCode(code));
const SUBSTITUTE = 0x1a; // stands for U+FFFD in the sloppy encodings

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const variants = pythonRegExp(UTF8_VARIANTS, '');
const cesu8 = pythonRegExp(`^${CESU8}`, '');
const encoders = new Map(Object.entries(CHARMAPS).map(([name, upper]) => {
  const characters = [...ASCII, ...upper];
  if (isSloppy(name)) characters[SUBSTITUTE] = '\ufffd';
  return [name, new Map(characters.map((one, code) => [one, String.fromCharCode(code)]))];
}));

/** The names of the encodings, in the order in which ftfy tries them. */
export const encodings = [...encoders.keys()];

/**
 * Whether an encoding reads bytes that mean nothing in it as Latin-1.
 * @param {string} encoding
 */
export function isSloppy(encoding) {
  return encoding.startsWith('sloppy-');
}

/**
 * The bytes of `text`, or null where `text` cannot come from that encoding.
 * @param {string} text @param {string} encoding one of `encodings`
 * @returns {string|null}
 */
export function encode(text, encoding) {
  const encoder = encoders.get(encoding);
  const bytes = Array.from(text, (character) => encoder.get(character));
  return bytes.includes(undefined) ? null : bytes.join('');
}

/**
 * One byte above 0x7F as Windows-1252, or as Latin-1 where it means nothing there.
 * @param {string} byte
 * @returns {string}
 */
export const windows1252 = (byte) => CHARMAPS['sloppy-windows-1252'][byte.charCodeAt(0) - 0x80];

/**
 * @param {string} bytes
 * @returns {string|null} null where they are no UTF-8
 */
export function decodeUtf8(bytes) {
  try {
    return strictUtf8.decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
  } catch {
    return null;
  }
}

/**
 * ftfy's utf-8-variants: also CESU-8 and Java's NUL of two bytes.
 * @param {string} bytes
 * @returns {string|null} null where they are neither
 */
export function decodeUtf8Variants(bytes) {
  let decoded = '';
  for (let rest = bytes; rest; ) {
    const [text, consumed] = nextPart(rest);
    if (text === null) return null;
    decoded += text;
    rest = rest.slice(consumed);
  }
  return decoded;
}

/** The text of the first bytes, as many as are of one kind, and their number. */
function nextPart(bytes) {
  const start = bytes.search(variants);
  if (start === -1) return [decodeUtf8(bytes), bytes.length];
  if (start > 0) return [decodeUtf8(bytes.slice(0, start)), start];
  if (bytes[0] === '\xc0') return bytes.length > 1 ? ['\0', 2] : [null, 1];
  if (bytes.length < 6 || !cesu8.test(bytes)) return [null, 3]; // half a surrogate pair
  const bits = (index, mask) => bytes.charCodeAt(index) & mask;
  const high = (bits(1, 0x0f) << 16) + (bits(2, 0x3f) << 10);
  return [String.fromCodePoint(0x10000 + high + (bits(4, 0x0f) << 6) + bits(5, 0x3f)), 6];
}
