// A ZIP file of pictures, which are compressed already: stored as they are, names in UTF-8.
// APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3.7, 4.3.12 and 4.3.16.

const VERSION = 20;
const UTF8 = 0x0800;
const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/**
 * @param {{name: string, bytes: Uint8Array, made: Date}[]} files names that differ
 * @returns {Blob}
 */
export function zipOf(files) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const { name, bytes, made } of files) {
    const path = new TextEncoder().encode(name);
    const about = [
      [2, VERSION], [2, UTF8], [2, 0], [2, timeOf(made)], [2, dateOf(made)], [4, crcOf(bytes)],
      [4, bytes.length], [4, bytes.length], [2, path.length], [2, 0],
    ];
    const local = record([4, LOCAL], ...about);
    parts.push(local, path, bytes);
    directory.push(
      record([4, CENTRAL], [2, VERSION], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]), path);
    at += local.length + path.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(
    [4, END], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, at], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: 'application/zip' });
}

/** Numbers of 2 or 4 bytes, little-endian. */
function record(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}

function crcOf(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

const timeOf = (when) =>
  (when.getHours() << 11) | (when.getMinutes() << 5) | (when.getSeconds() >> 1);
const dateOf = (when) =>
  ((when.getFullYear() - 1980) << 9) | ((when.getMonth() + 1) << 5) | when.getDate();
