// Small pictures of a latent that is still being made, one pixel a cell of the latent.
//
// What is shown is not the noisy latent but where it is heading, through the model's linear map
// from channels to colours, or without one in grey: as queue/diffusion/preview.py does it.

/**
 * @typedef {{width: number, height: number, rgba: Uint8ClampedArray}} Pixels
 * @typedef {{matrix: number[][], bias: number[]}} PreviewMap channels x 3, and 3
 */

const MOST_TURNS = 200; // of the power iteration

/** The previews of one run of steps on one image, one after the other. */
export class Previews {
  #map;
  #levels;
  #before;
  #shape;

  /**
   * @param {PreviewMap|null} map the manifest's `preview`
   * @param {Float32Array} levels the schedule's sigmas, of the whole image
   * @param {Float32Array} latent [C, h, w] before the first of these steps
   * @param {number[]} shape [C, h, w]
   */
  constructor(map, levels, latent, shape) {
    this.#map = map;
    this.#levels = levels;
    this.#before = latent;
    this.#shape = shape;
  }

  /**
   * @param {number} step from 1
   * @param {Float32Array} latent after it; it is kept until the next step
   * @returns {Pixels}
   */
  after(step, latent) {
    const heading = headingFor(
      this.#before, latent, this.#levels[step - 1], this.#levels[step]);
    this.#before = latent;
    return this.#map ? mapped(heading, this.#shape, this.#map) : grey(heading, this.#shape);
  }
}

/**
 * @param {object|null} preview of a manifest: unchecked
 * @param {number} channels of the latent
 * @returns {PreviewMap|null} null also for a map that is none
 */
export function readPreviewMap(preview, channels) {
  const { matrix, bias } = preview ?? {};
  const colour = (row) => Array.isArray(row) && row.length === 3 && row.every(Number.isFinite);
  const whole = Array.isArray(matrix) && matrix.length === channels && matrix.every(colour);
  return whole && colour(bias) ? { matrix, bias } : null;
}

/**
 * The clean latent that one Euler step between two noise levels was aimed at: it moves along a line
 * that reaches it at level 0.
 */
function headingFor(before, after, fromLevel, toLevel) {
  const further = toLevel / (fromLevel - toLevel);
  return after.map((value, index) => value + (value - before[index]) * further);
}

function mapped(latent, [channels, height, width], { matrix, bias }) {
  const cells = height * width;
  return pixels(width, height, (cell, colour) => {
    let value = bias[colour];
    for (let c = 0; c < channels; c++) value += latent[c * cells + cell] * matrix[c][colour];
    return value;
  });
}

/** The channels' strongest principal component: it shows shapes and says nothing of colours. */
function grey(latent, [channels, height, width]) {
  const cells = height * width;
  const centred = Float64Array.from(latent);
  for (let c = 0; c < channels; c++) {
    const channel = centred.subarray(c * cells, (c + 1) * cells);
    const mean = channel.reduce((all, value) => all + value, 0) / cells;
    for (let i = 0; i < cells; i++) channel[i] -= mean;
  }
  const component = strongest(centred, channels, cells);
  const values = new Float64Array(cells);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < cells; i++) values[i] += component[c] * centred[c * cells + i];
  }
  const spread = Math.sqrt(values.reduce((all, value) => all + value * value, 0) / cells);
  const scale = 1 / (4 * spread + 1e-12); // two standard deviations to either side
  return pixels(width, height, (cell) => 0.5 + values[cell] * scale);
}

/** The unit vector that the channels vary most along; its largest number is positive. */
function strongest(centred, channels, cells) {
  const covariance = Array.from({ length: channels }, (_, a) =>
    Float64Array.from({ length: channels }, (_, b) => {
      let sum = 0;
      for (let i = 0; i < cells; i++) sum += centred[a * cells + i] * centred[b * cells + i];
      return sum;
    }));
  // From the row of the largest variance, which is not at right angles to the answer
  const start = covariance.reduce(
    (best, row, c) => (row[c] > covariance[best][best] ? c : best), 0);
  let vector = unit(covariance[start]);
  for (let turn = 0; turn < MOST_TURNS; turn++) {
    vector = unit(covariance.map((row) =>
      row.reduce((sum, value, b) => sum + value * vector[b], 0)));
  }
  const largest = vector.reduce((most, value) =>
    (Math.abs(value) > Math.abs(most) ? value : most), 0);
  return largest < 0 ? vector.map((value) => -value) : vector;
}

function unit(vector) {
  const length = Math.hypot(...vector);
  return length ? Array.from(vector, (value) => value / length) : Array.from(vector);
}

function pixels(width, height, colourOf) {
  const rgba = new Uint8ClampedArray(4 * width * height); // it rounds and clamps as numpy does
  for (let cell = 0; cell < width * height; cell++) {
    for (let colour = 0; colour < 3; colour++) {
      rgba[4 * cell + colour] = 255 * colourOf(cell, colour);
    }
    rgba[4 * cell + 3] = 255;
  }
  return { width, height, rgba };
}
