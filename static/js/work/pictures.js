// Pixels as the files that pages show: finished pictures as PNG with their settings inside, previews
// as small WebP.
//
// PNG is written here and not by a canvas: browsers that guard against fingerprints change what is
// read from a canvas, and a picture has to be the model's to the last bit. Twin of
// queue/diffusion/pictures.py.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const KEYWORD = 'p2pweb'; // of the iTXt chunk that holds the settings
const CHANNELS = 3;
const TRUECOLOUR = 2;
const PREVIEW_QUALITY = 0.75;

/**
 * @param {Uint8Array} rgb [height, width, 3]
 * @param {number} width @param {number} height
 * @param {object} [settings] JSON values that are kept inside
 * @returns {Promise<Uint8Array>} a PNG
 * @throws {RangeError} when there are not as many pixels
 */
export async function pngOf(rgb, width, height, settings) {
  if (rgb.length !== width * height * CHANNELS || !rgb.length) {
    throw new RangeError(`${rgb.length} bytes are no picture of ${width} x ${height}`);
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, TRUECOLOUR, 0, 0, 0], 8);
  const chunks = [chunk('IHDR', header)];
  if (settings) chunks.push(chunk('iTXt', internationalText(KEYWORD, pythonJson(settings))));
  chunks.push(chunk('IDAT', await deflated(filtered(rgb, width * CHANNELS, height))));
  chunks.push(chunk('IEND', new Uint8Array(0)));
  return joined([Uint8Array.from(SIGNATURE), ...chunks]);
}

/**
 * A preview as a small file: WebP, or PNG in browsers that write no WebP.
 * @param {Uint8Array} rgb [height, width, 3]
 * @param {number} width @param {number} height
 * @returns {Promise<Uint8Array>}
 */
export async function previewOf(rgb, width, height) {
  if (typeof OffscreenCanvas === 'undefined') return pngOf(rgb, width, height);
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    rgba[to] = rgb[from];
    rgba[to + 1] = rgb[from + 1];
    rgba[to + 2] = rgb[from + 2];
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext('2d').putImageData(new ImageData(rgba, width, height), 0, 0);
  const blob = await canvas.convertToBlob({ type: 'image/webp', quality: PREVIEW_QUALITY });
  return new Uint8Array(await blob.arrayBuffer());
}

/** @param {Uint8Array} bytes of a picture or a preview @returns {string} its media type */
export const pictureType = (bytes) =>
  (SIGNATURE.every((byte, at) => bytes[at] === byte) ? 'image/png' : 'image/webp');

/**
 * JSON exactly as the server writes it: a space behind commas and colons, guidance as a fraction.
 * @param {object} settings strings and numbers
 * @returns {string}
 */
function pythonJson(settings) {
  const entries = Object.entries(settings).map(([name, value]) => {
    const whole = name === 'guidance' && Number.isInteger(value);
    return `${JSON.stringify(name)}: ${whole ? value.toFixed(1) : JSON.stringify(value)}`;
  });
  return `{${entries.join(', ')}}`;
}

/** Uncompressed, in no particular language. */
function internationalText(keyword, text) {
  const utf8 = new TextEncoder();
  return joined([utf8.encode(keyword), new Uint8Array(5), utf8.encode(text)]);
}

/** Each row behind the number of its filter: the one that leaves the smallest differences. */
function filtered(rgb, stride, rows) {
  const out = new Uint8Array((stride + 1) * rows);
  const tries = [1, 2, 4].map((filter) => ({ filter, row: new Uint8Array(stride) }));
  let above = new Uint8Array(stride);
  for (let y = 0; y < rows; y++) {
    const row = rgb.subarray(y * stride, (y + 1) * stride);
    let best = null;
    let least = Infinity;
    for (const one of tries) {
      const sum = differences(one.filter, row, above, one.row);
      if (sum >= least) continue;
      least = sum;
      best = one;
    }
    out[y * (stride + 1)] = best.filter;
    out.set(best.row, y * (stride + 1) + 1);
    above = row;
  }
  return out;
}

/** Writes the row less what the filter expects; returns how large the differences are in all. */
function differences(filter, row, above, out) {
  let sum = 0;
  for (let x = 0; x < row.length; x++) {
    const left = x < CHANNELS ? 0 : row[x - CHANNELS];
    const up = above[x];
    let guess = left;
    if (filter === 2) guess = up;
    else if (filter === 4) guess = paeth(left, up, x < CHANNELS ? 0 : above[x - CHANNELS]);
    const difference = (row[x] - guess) & 0xff;
    out[x] = difference;
    sum += difference < 128 ? difference : 256 - difference;
  }
  return sum;
}

/** PNG specification, 9.4 */
function paeth(left, up, corner) {
  const toLeft = Math.abs(up - corner);
  const toUp = Math.abs(left - corner);
  const toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(type, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
