// How a tensor lies in a package, byte by byte, as queue/diffusion/packaging/storage.py puts it.
// docs/packages.md describes it.

export const DTYPES = ['f32', 'f16', 'int8', 'int4'];
export const GROUP = 32; // columns that share a scale
export const ALIGNMENT = 256; // of scales, and of tensors in shards

/**
 * @typedef {'f32'|'f16'|'int8'|'int4'} DType
 *
 * @typedef {object} Layout
 * @property {number} rows
 * @property {number} columns
 * @property {number} groups a row; 0 without any
 * @property {number} rowBytes from one row of values or codes to the next
 * @property {number|null} scales where the scales begin
 * @property {number} bytes of the whole tensor
 */

/**
 * @param {DType} dtype
 * @param {number} rows
 * @param {number} columns
 * @returns {Layout}
 */
export function layoutOf(dtype, rows, columns) {
  const groups = dtype === 'int8' || dtype === 'int4' ? Math.ceil(columns / GROUP) : 0;
  const rowBytes = {
    f32: 4 * columns, f16: 2 * columns, int8: GROUP * groups, int4: (GROUP / 2) * groups,
  }[dtype];
  const scales = groups ? roundUp(rows * rowBytes, ALIGNMENT) : null;
  const bytes = roundUp(groups ? scales + 2 * rows * groups : rows * rowBytes, 4);
  return { rows, columns, groups, rowBytes, scales, bytes };
}

/**
 * A tensor of any shape as a matrix: its first axis, and all others flattened. A vector is one row.
 * @param {number[]} shape
 * @returns {[number, number]} rows, columns
 */
export function asMatrix(shape) {
  const product = (sides) => sides.reduce((count, side) => count * side, 1);
  return shape.length > 1 ? [shape[0], product(shape.slice(1))] : [1, product(shape)];
}

const roundUp = (number, multiple) => Math.ceil(number / multiple) * multiple;
