// What two tabs say to each other that compute the halves of one chunk. docs/recruiting.md describes
// the messages. Everything is checked here before anybody else sees it.

import { HALVES } from '../engine/halves.js';
import { MOST_GUIDANCE, MOST_STEPS } from '../engine/requests.js';
import { metadataIn, TensorError, toBytes } from '../engine/safetensors.js';
import { expectedTensors } from './expected.js';

/** The label of the channel. */
export const LABEL = 'halves';

const MOST_TOKENS = 4096;
const MOST_SIDE = 512; // of a latent, where the model does not say
const LONGEST_NAME = 100;
const SHA256 = /^[0-9a-f]{64}$/;
const WHOLE = /^\d{1,9}$/;
// Packings whose results are near enough that guidance, which multiplies what differs between the
// halves, does not make it visible. Others go with their own kind alone.
const FINE = ['f32', 'f16'];

/** What the other side asked for, or sent, is none; `code` goes to it as the answer. */
export class WireError extends Error {
  name = 'WireError';

  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Whether somebody names a file by its SHA-256. */
export const isFile = (name) => typeof name === 'string' && SHA256.test(name);

/**
 * @typedef {object} Offer
 * @property {string} model its model_id @property {string} variant @property {number[]} shape
 *
 * @typedef {Offer & {half: import('../engine/halves.js').Half, steps: number, guidance: number,
 *   tokens: number, file: string}} Task
 *   file: SHA-256 of the file with `text` [tokens, text_dim] and `latent`
 */

/** @param {string} one @param {string} other variants of a model's packages */
export const goTogether = (one, other) =>
  one === other || (FINE.includes(one) && FINE.includes(other));

/**
 * @param {object} message from a stranger @param {import('../engine/engine.js').Engine} engine
 * @returns {Offer} of the model that is loaded here
 * @throws {WireError} other-model, bad-request
 */
export function readOffer({ model, variant, shape }, engine) {
  const text = (value) => typeof value === 'string' && value.length <= LONGEST_NAME;
  if (!text(model) || !text(variant)) throw new WireError('bad-request', 'No model is named.');
  if (model !== engine.modelId || !goTogether(variant, engine.variant)) {
    throw new WireError('other-model', 'Another model is loaded here.');
  }
  const { latent_channels: channels, max_side: side, vae_scale: scale } = engine.about;
  const most = side && scale ? side / scale : MOST_SIDE;
  const right = Array.isArray(shape) && shape.length === 3
    && shape.every((axis) => Number.isSafeInteger(axis) && axis > 0)
    && shape[0] === channels && shape[1] <= most && shape[2] <= most;
  if (!right) throw new WireError('bad-request', 'No latent of this model has such a shape.');
  return { model, variant, shape };
}

/** @returns {Task} @throws {WireError} as `readOffer` */
export function readTask(message, engine) {
  const { half, steps, guidance, tokens, file } = message;
  const offer = readOffer(message, engine);
  const right = HALVES.includes(half) && within(steps, 1, MOST_STEPS)
    && Number.isFinite(guidance) && guidance > 1 && guidance <= MOST_GUIDANCE
    && within(tokens, 0, MOST_TOKENS) && isFile(file);
  if (!right) throw new WireError('bad-request', 'That is no half of a picture.');
  return { ...offer, half, steps, guidance, tokens, file };
}

const within = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;

/** @returns {number|null} seconds that somebody says of itself @throws {WireError} bad-request */
export function readSeconds(value) {
  if (value === null) return null;
  if (Number.isFinite(value) && value >= 0) return value;
  throw new WireError('bad-request', 'Those are no seconds.');
}

/** @returns {string|null} id of the worker that somebody says to be, or to ask for; null: of none, or
 *   of an earlier version that does not say @throws {WireError} bad-request */
export function readWorker(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === 'string' && value && value.length <= LONGEST_NAME) return value;
  throw new WireError('bad-request', 'That is no worker.');
}

/**
 * What a half begins with.
 * @param {{features: Float32Array, tokens: number}} text
 * @param {Float32Array} latent @param {number[]} shape @param {number} width features a token
 */
export const taskBytes = ({ features, tokens }, latent, shape, width) => toBytes({
  text: { shape: [tokens, width], data: features }, latent: { shape, data: latent },
});

/** @throws {TensorError} */
export function readTaskBytes(bytes, { tokens, shape }, width) {
  const { text, latent } = expectedTensors(bytes, {
    text: { dtype: 'F32', shape: [tokens, width] }, latent: { dtype: 'F32', shape },
  });
  return { text: { features: text.data, tokens, unsure: [] }, latent: latent.data };
}

/** The latent that a run begins with: of step `step`, up to step `stop`. */
export const latentBytes = (run, step, stop, latent, shape) => toBytes(
  { latent: { shape, data: latent } }, { run: `${run}`, step: `${step}`, stop: `${stop}` });

/** One half's velocity of a step. */
export const velocityBytes = (run, step, velocity, shape) => toBytes(
  { velocity: { shape, data: velocity } }, { run: `${run}`, step: `${step}` });

/**
 * What numbers that came over the wire say of themselves.
 * @param {ArrayBuffer} buffer
 * @returns {{run: number, step: number, stop: number|null}} a latent where `stop` is a number, else a
 *   velocity
 * @throws {TensorError}
 */
export function readPlace(buffer) {
  const { run, step, stop } = metadataIn(new Uint8Array(buffer));
  const numbers = stop === undefined ? [run, step] : [run, step, stop];
  if (!numbers.every((text) => typeof text === 'string' && WHOLE.test(text))) {
    throw new TensorError('it does not say which step it is of');
  }
  return { run: Number(run), step: Number(step), stop: stop === undefined ? null : Number(stop) };
}

/**
 * @param {ArrayBuffer} buffer that came over the wire
 * @param {number[]} shape of latents and velocities
 * @returns {{run: number, step: number, stop: number|null, data: Float32Array}} as `readPlace`
 * @throws {TensorError} for anything else
 */
export function readNumbers(buffer, shape) {
  const place = readPlace(buffer);
  const name = place.stop === null ? 'velocity' : 'latent';
  const { [name]: tensor } = expectedTensors(
    new Uint8Array(buffer), { [name]: { dtype: 'F32', shape } });
  return { ...place, data: tensor.data };
}

/**
 * How the velocities of a run cross.
 * @param {number} run @param {number[]} shape @returns {import('./steps-exchange.js').Wire}
 */
export const velocityWire = (run, shape) => ({
  write: (step, velocity) => velocityBytes(run, step, velocity, shape),
  read: (buffer) => {
    const numbers = readNumbers(buffer, shape);
    if (numbers.stop !== null) throw new WireError('nonsense', 'A latent came within a run.');
    return numbers;
  },
});
