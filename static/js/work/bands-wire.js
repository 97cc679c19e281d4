// What two tabs say to each other that compute bands of one picture. docs/recruiting.md describes the
// messages. Everything is checked here before anybody else sees it.

import { areMoments } from '../engine/bands.js';
import { TensorError, toBytes } from '../engine/safetensors.js';
import { expectedTensors } from './expected.js';
import { isFile, readOffer, readPlace, WireError } from './halves-wire.js';

/**
 * @typedef {import('./halves-wire.js').Offer & {run: number, band: import('../engine/bands.js').Rows,
 *   file: string}} BandTask
 *   file: SHA-256 of the file with `latent`
 */

/**
 * @param {object} message from a stranger @param {import('../engine/engine.js').Engine} engine
 * @returns {import('./halves-wire.js').Offer} of the model that is loaded here, which has bands
 * @throws {WireError} other-model, bad-request
 */
export function readBandOffer(message, engine) {
  const offer = readOffer(message, engine);
  if (!engine.bandChannels.length) throw new WireError('bad-request', 'This model has no bands.');
  return offer;
}

/** @returns {BandTask} @throws {WireError} as `readBandOffer` */
export function readBandTask(message, engine) {
  const offer = readBandOffer(message, engine);
  const { run, first, rows, file } = message;
  const right = [run, first, rows].every(Number.isSafeInteger) && run >= 0 && first >= 0 && rows >= 1
    && first + rows <= offer.shape[1] && isFile(file);
  if (!right) throw new WireError('bad-request', 'That is no band of a picture.');
  return { ...offer, run, band: { first, rows }, file };
}

/** [height, width] in pixels of a band's rows. */
export const sidesOf = ({ rows }, [, , columns], { vae_scale: scale }) =>
  [rows * scale, columns * scale];

/** What a band begins with. */
export const bandTaskBytes = (latent, shape) => toBytes({ latent: { shape, data: latent } });

/** @returns {Float32Array} the latent @throws {TensorError} */
export function readBandTaskBytes(bytes, shape) {
  return expectedTensors(bytes, { latent: { dtype: 'F32', shape } }).latent.data;
}

/** The mean and variance of channels at a norm: a band's own, or those of all bands. */
const momentsBytes = (run, norm, moments) => toBytes(
  { moments: { shape: [2, moments.length / 2], data: moments } }, { run: `${run}`, step: `${norm}` });

/** The rows of the picture, RGB; `norms`: how many there were. */
const bandPictureBytes = (run, norms, rgb, [height, width]) => toBytes(
  { picture: { shape: [height, width, 3], data: rgb } }, { run: `${run}`, step: `${norms}` });

/**
 * How a run crosses: what bands have at each norm, and after the last one a band's picture.
 * @param {object} run
 * @param {number} run.run its number
 * @param {number[]} run.channels of each norm
 * @param {number[]} run.sides [height, width] of the recruit's rows of the picture
 * @param {boolean} run.pictures whether the other side sends its rows
 * @returns {import('./steps-exchange.js').Wire}
 */
export const bandWire = ({ run, channels, sides, pictures }) => ({
  write: (step, value) => (step === channels.length
    ? bandPictureBytes(run, step, value, sides) : momentsBytes(run, step, value)),
  read: (buffer) => readPart(buffer, channels, pictures ? sides : null),
});

/**
 * @param {ArrayBuffer} buffer that came over the wire
 * @param {number[]} channels of each norm
 * @param {number[]|null} sides [height, width] of the rows of the picture; null where none may come
 * @returns {{step: number, data: Float32Array|Uint8Array}} moments of the norm `step`, or after the
 *   last one the picture
 * @throws {TensorError} for anything else
 */
function readPart(buffer, channels, sides) {
  const { step, stop } = readPlace(buffer);
  if (stop !== null || step > channels.length || (step === channels.length && !sides)) {
    throw new TensorError('it is no part of a band');
  }
  const bytes = new Uint8Array(buffer);
  if (step === channels.length) {
    const { picture } = expectedTensors(bytes, { picture: { dtype: 'U8', shape: [...sides, 3] } });
    return { step, data: picture.data };
  }
  const { moments } = expectedTensors(
    bytes, { moments: { dtype: 'F32', shape: [2, channels[step]] } });
  if (!areMoments(moments.data, channels[step])) throw new TensorError('a variance is negative');
  return { step, data: moments.data };
}
