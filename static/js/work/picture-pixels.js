// The pixels of a PNG that pictures.js has written: to compare two pictures to the last bit, which a
// canvas does not promise. Other PNGs are refused, whoever sends them.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const CHANNELS = 3;
const TRUECOLOUR = [8, 2, 0, 0, 0]; // of a header: bits, kind, and three that are always so

/** These bytes are no picture of that size. */
export class PictureError extends Error {
  name = 'PictureError';
}

/**
 * @param {Uint8Array} png @param {number} width @param {number} height
 * @returns {Promise<{shape: number[], data: Uint8Array}>} rgb [height, width, 3]
 * @throws {PictureError}
 */
export async function pixelsOf(png, width, height) {
  if (!SIGNATURE.every((byte, at) => png[at] === byte)) throw new PictureError('no PNG');
  const packed = [];
  for (const { kind, data } of chunksOf(png)) {
    if (kind === 'IHDR') checkHeader(data, width, height);
    else if (kind === 'IDAT') packed.push(data);
  }
  const stride = width * CHANNELS;
  const rows = await inflated(packed, (stride + 1) * height);
  return { shape: [height, width, CHANNELS], data: unfiltered(rows, stride, height) };
}

function* chunksOf(png) {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  for (let at = SIGNATURE.length; at < png.length;) {
    const length = at + 12 <= png.length ? view.getUint32(at) : Infinity;
    if (at + 12 + length > png.length) throw new PictureError('it ends too early');
    const kind = String.fromCharCode(...png.subarray(at + 4, at + 8));
    yield { kind, data: png.subarray(at + 8, at + 8 + length) };
    at += 12 + length;
  }
}

function checkHeader(data, width, height) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const right = data.length === 13 && view.getUint32(0) === width && view.getUint32(4) === height
    && TRUECOLOUR.every((byte, at) => data[8 + at] === byte);
  if (!right) throw new PictureError('another kind or size');
}

/** Exactly so many bytes; no more are taken in, whatever was packed. */
async function inflated(packed, length) {
  const out = new Uint8Array(length);
  let at = 0;
  const reader = new Blob(packed).stream().pipeThrough(new DecompressionStream('deflate')).getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      if (at + read.value.length > length) throw new PictureError('more pixels than it has');
      out.set(read.value, at);
      at += read.value.length;
    }
  } catch (error) {
    throw error instanceof PictureError ? error : new PictureError(error.message);
  } finally {
    reader.cancel().catch(() => {});
  }
  if (at !== length) throw new PictureError('fewer pixels than it has');
  return out;
}

/** PNG specification, 9.2: each row is what its filter expects and the difference. */
function unfiltered(rows, stride, height) {
  const rgb = new Uint8Array(stride * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (stride + 1)];
    const row = rgb.subarray(y * stride, (y + 1) * stride);
    const coded = rows.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1));
    for (let x = 0; x < stride; x++) {
      const left = x < CHANNELS ? 0 : row[x - CHANNELS];
      row[x] = coded[x] + guess(filter, left, above[x], x < CHANNELS ? 0 : above[x - CHANNELS]);
    }
    above = row;
  }
  return rgb;
}

function guess(filter, left, up, corner) {
  switch (filter) {
    case 0: return 0;
    case 1: return left;
    case 2: return up;
    case 3: return (left + up) >> 1;
    case 4: return nearest(left, up, corner);
    default: throw new PictureError('a filter that there is not');
  }
}

/** Of the three the one nearest to left + up - corner. */
function nearest(left, up, corner) {
  const [toLeft, toUp] = [Math.abs(up - corner), Math.abs(left - corner)];
  const toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}
