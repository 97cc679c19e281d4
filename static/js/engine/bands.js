// A picture in bands of rows: how it is cut, and what all bands know of each other.
//
// Group norms are over all pixels, so between two of them bands exchange mean and variance of their
// channels, and nothing else; the picture is that of one piece, but for rounding. The stage `band` of
// a plan says the rest (queue/diffusion/plan/areas.py). Twin of queue/diffusion/bands.py.

import { stageFlops } from './flops.js';
import { badRequest } from './requests.js';
import { stageMemory, symbolValues, tensorShape } from './sizes.js';

/** The stage. */
export const BAND = 'band';

/**
 * @typedef {object} Rows of a latent @property {number} first @property {number} rows how many
 *
 * @typedef {Float32Array} Moments [2, channels]: mean, variance
 *
 * @typedef {(mine: {norm: number, moments: Moments[]}) => Promise<Moments|null>|Moments|null}
 *   ExchangeMoments takes the number of a norm and the moments of each band that is computed here,
 *   and gives those of the whole picture, or null when another one's are not to be had any more
 */

/**
 * All rows in so many bands, or one a row; the first ones are the larger.
 * @param {number} rows @param {number} bands
 * @returns {Rows[]}
 */
export function evenBands(rows, bands) {
  const count = Math.min(bands, rows);
  const each = Math.floor(rows / count);
  return bandsOf(Array.from({ length: count }, (_, number) => each + (number < rows % count)));
}

/** @param {number[]} rows of each band, from the top @returns {Rows[]} */
export function bandsOf(rows) {
  let first = 0;
  return rows.map((count) => {
    first += count;
    return { first: first - count, rows: count };
  });
}

/**
 * The moments of bands together; doubles, rounded at the end. Source: Chan, Golub and LeVeque 1979,
 * "Updating formulae and a pairwise algorithm".
 * @param {Moments[]} parts @param {number[]} rows how many each band has
 * @returns {Moments}
 */
export function joined(parts, rows) {
  const all = rows.reduce((sum, count) => sum + count, 0);
  const channels = parts[0].length / 2;
  const found = new Float32Array(2 * channels);
  for (let channel = 0; channel < channels; channel += 1) {
    let mean = 0;
    for (const [band, part] of parts.entries()) mean += (rows[band] / all) * part[channel];
    let variance = 0;
    for (const [band, part] of parts.entries()) {
      const off = part[channel] - mean;
      variance += (rows[band] / all) * (part[channels + channel] + off * off);
    }
    found[channel] = mean;
    found[channels + channel] = variance;
  }
  return found;
}

/**
 * Channels of each norm between bands.
 * @param {import('./plan.js').Plan} plan
 * @returns {number[]} none where the model has no bands
 */
export function bandChannels(plan) {
  const stage = plan.stages.get(BAND);
  const count = stage ? stage.segments.length - 2 : 0; // the middle and the end leave none
  return Array.from({ length: Math.max(count, 0) }, (_, norm) =>
    tensorShape(stage, `moments.${norm}`, new Map())[1]);
}

/** Whether numbers could be the moments of so many channels. */
export const areMoments = (moments, channels) => moments instanceof Float32Array
  && moments.length === 2 * channels
  && moments.every((value, index) => Number.isFinite(value) && (index < channels || value >= 0));

/**
 * @param {import('./plan.js').Plan} plan @param {Rows[]} bands
 * @param {number[]} shape [C, h, w] of the latent
 * @throws {import('./errors.js').EngineError} bad-request
 */
export function checkBands(plan, bands, [, rows]) {
  if (!plan.stages.has(BAND)) throw badRequest('The plan of this model has no bands.');
  const right = Array.isArray(bands) && bands.length > 0 && bands.every(
    ({ first, rows: count }) => Number.isInteger(first) && Number.isInteger(count)
      && first >= 0 && count >= 1 && first + count <= rows);
  if (!right) throw badRequest(`Those are no bands of ${rows} rows.`);
}

/** The sizes of a band for the plan. */
export const bandSizes = ([, H, W], { first, rows }) => ({ H, W, A: first, O: rows });

/**
 * The fewest even bands of which the device can bind each.
 * @param {import('./plan.js').Plan} plan @param {number[]} shape of the latent
 * @param {number} largestBinding bytes
 * @returns {Rows[]|null} null where none would fit, or the model has no bands
 */
export function bandsThatFit(plan, shape, largestBinding) {
  if (!plan.stages.has(BAND)) return null;
  const fits = (band) => stageMemory(
    plan, BAND, symbolValues(plan, bandSizes(shape, band))).binding <= largestBinding;
  for (let count = 2; count <= shape[1]; count += 1) {
    const bands = evenBands(shape[1], count);
    if (bands.every(fits)) return bands;
  }
  return null;
}

/**
 * What bands take of the operations of a whole decode.
 * @param {import('./plan.js').Plan} plan @param {number[]} shape @param {Rows[]} bands
 * @returns {number[]} 0 to about 1 each; more than 1 together, because of margins
 */
export function bandShares(plan, shape, bands) {
  checkBands(plan, bands, shape);
  const [, H, W] = shape;
  const whole = stageFlops(plan, 'decode', symbolValues(plan, { H, W }));
  return bands.map((band) =>
    stageFlops(plan, BAND, symbolValues(plan, bandSizes(shape, band))) / whole);
}
