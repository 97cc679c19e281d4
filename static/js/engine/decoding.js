// From a finished latent to pixels: the whole picture, or bands of it (bands.js says what these are).

import { areMoments, BAND, bandSizes, checkBands, joined } from './bands.js';
import { badRequest } from './requests.js';

/** What runs, for `openRun`. */
export const DECODE_PARTS = { decode: null };
export const BAND_PARTS = { [BAND]: null };

/**
 * @typedef {(sizes: Record<string, number>, parts: import('./run.js').Parts)
 *   => Promise<import('./run.js').PlanRun>} Open
 */

/**
 * @param {Open} open @param {Float32Array} latent @param {number[]} shape [C, h, w]
 * @returns {Promise<import('./preview.js').Pixels>}
 */
export async function decodedWhole(open, latent, [, rows, columns]) {
  const run = await open({ H: rows, W: columns }, DECODE_PARTS);
  try {
    run.write('latent', latent);
    return await pixelsIn(run, ['decode'], 'rgba');
  } finally {
    run.close();
  }
}

/**
 * The whole picture in bands, all of them here.
 * @param {import('./plan.js').Plan} plan @param {Open} open
 * @param {{latent: Float32Array, shape: number[], bands: import('./bands.js').Rows[]}} request
 * @param {AbortSignal} [signal] looked at between norms
 * @returns {Promise<import('./preview.js').Pixels>}
 */
export async function decodedInBands(plan, open, request, signal) {
  const rows = request.bands.map((band) => band.rows);
  const exchange = ({ moments }) => joined(moments, rows);
  return stacked(await decodedBands(plan, open, request, exchange, signal));
}

/**
 * Some bands; see Model.decodeBands.
 * @param {import('./plan.js').Plan} plan @param {Open} open
 * @param {{latent: Float32Array, shape: number[], bands: import('./bands.js').Rows[]}} request
 * @param {import('./bands.js').ExchangeMoments} exchange
 * @param {AbortSignal} [signal] looked at between norms
 * @returns {Promise<import('./preview.js').Pixels[]|null>}
 */
export async function decodedBands(plan, open, { latent, shape, bands }, exchange, signal) {
  checkBands(plan, bands, shape);
  const runs = [];
  try {
    for (const band of bands) runs.push(await open(bandSizes(shape, band), BAND_PARTS));
    if (!await runBands(plan, runs, latent, exchange, signal)) return null;
    const found = [];
    for (const run of runs) found.push(await pixelsIn(run, [], 'band_rgba'));
    return found;
  } finally {
    for (const run of runs) run.close();
  }
}

/**
 * Runs bands side by side, from norm to norm.
 * @param {import('./plan.js').Plan} plan
 * @param {import('./run.js').PlanRun[]} runs of the stage, one a band
 * @param {Float32Array} latent
 * @param {ExchangeMoments} exchange
 * @param {AbortSignal} [signal] looked at between norms
 * @returns {Promise<boolean>} whether they are done: not where `exchange` gave null
 * @throws {import('./errors.js').EngineError} bad-request for moments that are none
 */
async function runBands(plan, runs, latent, exchange, signal) {
  const [middle, ...segments] = plan.stages.get(BAND).segments.map(({ name }) => name);
  const [first, ...others] = runs;
  first.write('latent', latent);
  const [known] = await first.run([BAND], others.length ? ['middle'] : [], [middle]);
  for (const run of others) run.write('middle', known);
  for (const [norm, segment] of segments.entries()) {
    signal?.throwIfAborted();
    const name = `moments.${norm}`;
    const last = norm === segments.length - 1;
    const moments = [];
    for (const run of runs) { // one after the other: a device has one pace
      const [own] = await run.run([BAND], last ? [] : [name], [segment]);
      moments.push(own);
    }
    if (last) break;
    const together = await exchange({ norm, moments });
    if (!together) return false;
    if (!areMoments(together, moments[0].length / 2)) {
      throw badRequest(`No mean and variance of ${moments[0].length / 2} channels.`);
    }
    for (const run of runs) run.write(name, together);
  }
  return true;
}

/** What a tensor of packed pixels holds once stages have run. */
async function pixelsIn(run, stages, name) {
  const [packed] = await run.run(stages, [name]);
  const [height, width] = run.shape(name);
  return { width, height, rgba: new Uint8ClampedArray(packed.buffer, 0, 4 * width * height) };
}

/** Bands, the uppermost first, as one picture. */
function stacked(bands) {
  const [{ width }] = bands;
  const height = bands.reduce((all, band) => all + band.height, 0);
  const rgba = new Uint8ClampedArray(4 * width * height);
  let first = 0;
  for (const band of bands) {
    rgba.set(band.rgba, first);
    first += band.rgba.length;
  }
  return { width, height, rgba };
}
