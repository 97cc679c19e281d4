// The settings inside a PNG that was made here, or anywhere like here: one iTXt chunk before the
// pixels, keyword "p2pweb", uncompressed JSON. Twin of settings_from_png in diffusion/pictures.py.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const HEAD_BYTES = 8; // of a chunk: length, type
const CHECKSUM_BYTES = 4;
const KEYWORD = 'p2pweb';
const UNCOMPRESSED = '\0\0\0'; // after the keyword: its end, and no compression of method 0

/**
 * @param {Uint8Array} bytes a stranger's
 * @returns {object|null} the settings, unchecked; null when there are none
 * @throws {Error} for what is no PNG, or settings that are no JSON object
 */
export function settingsIn(bytes) {
  if (!SIGNATURE.every((byte, at) => bytes[at] === byte)) throw new Error('not a PNG');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = SIGNATURE.length; at + HEAD_BYTES <= bytes.length;) {
    const length = view.getUint32(at);
    const body = bytes.subarray(at + HEAD_BYTES, at + HEAD_BYTES + length);
    if (ascii(bytes.subarray(at + 4, at + 8)) === 'iTXt') {
      const head = KEYWORD + UNCOMPRESSED;
      if (ascii(body.subarray(0, head.length)) === head) return parsed(body.subarray(head.length));
    }
    at += HEAD_BYTES + length + CHECKSUM_BYTES;
  }
  return null;
}

/** @param {Uint8Array} rest language, translated keyword and text, each ended by NUL but the text */
function parsed(rest) {
  const language = rest.indexOf(0);
  const text = rest.subarray(rest.indexOf(0, language + 1) + 1);
  const settings = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  if (settings === null || typeof settings !== 'object' || Array.isArray(settings)) {
    throw new Error('not an object');
  }
  return settings;
}

const ascii = (bytes) => String.fromCharCode(...bytes);
