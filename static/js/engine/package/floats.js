// Stored int8 and int4 matrices as numbers, for the little that a host computes itself.

import { GROUP, layoutOf } from './layout.js';

/**
 * @param {Uint8Array} data codes and scales as docs/packages.md describes them
 * @param {'int8'|'int4'} dtype
 * @param {number} rows
 * @param {number} columns
 * @returns {Float32Array} [rows, columns]
 * @throws {RangeError} when `data` has not the bytes of such a matrix
 */
export function floatsOf(data, dtype, rows, columns) {
  const { bytes, groups, rowBytes, scales } = layoutOf(dtype, rows, columns);
  if (data.length !== bytes) throw new RangeError(`${data.length} bytes, not ${bytes}`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const codeOf = dtype === 'int8'
    ? (row, column) => view.getInt8(row * rowBytes + column)
    : (row, column) => {
      const pair = data[row * rowBytes + (column >> 1)];
      return (column % 2 ? pair >> 4 : pair & 15) - 8;
    };
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let group = 0; group < groups; group++) {
      const scale = halfToNumber(view.getUint16(scales + 2 * (row * groups + group), true));
      const last = Math.min((group + 1) * GROUP, columns);
      for (let column = group * GROUP; column < last; column++) {
        values[row * columns + column] = codeOf(row, column) * scale;
      }
    }
  }
  return values;
}

/** A finite IEEE half, from its bits. */
function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}
