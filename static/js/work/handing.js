// What crosses the wire for one chunk: what its worker needs, and what it hands in.
// Twin of queue/genqueue/handing.py.
//
// What comes in is checked before anybody else sees it. Pictures are encoded here, from pixels, so
// that no file of a stranger is kept.

import { TensorError, toBytes } from '../engine/safetensors.js';
import { expectedTensors, mostBytes } from './expected.js';

const MOST_BYTES = 2 ** 25; // of one file that comes in: a picture of 2048 x 2048
const FIELDS = ['prompt', 'model', 'width', 'height', 'steps', 'guidance', 'seed',
  'negative_prompt', 'num_images'];

/**
 * @typedef {import('./queue/room-queue.js').Lease} Lease
 * @typedef {import('./models.js').HostModel} HostModel
 *
 * @typedef {object} AtHand what a worker has and need not be sent
 * @property {Set<string>} conditionings ids of jobs
 * @property {Set<string>} latents as `latentKey` writes them
 */

/** @param {string} job @param {number} image @param {number} step */
export const latentKey = (job, image, step) => `${job} ${image} ${step}`;

/** A blob that the queue names is not here any more, or is none of what it should be. */
export class BlobLostError extends Error {
  name = 'BlobLostError';

  /** @param {string|null} blob its name @param {string} message */
  constructor(blob, message) {
    super(message);
    this.blob = blob;
  }
}

/**
 * The tensors that a chunk starts from, less what its worker has; none when that is nothing.
 * `prompt` and, with guidance, `negative` f32 [tokens, features] for steps; `latent` f32 [C, h, w]
 * for steps after the first and for decoding.
 * @param {Lease} lease @param {AtHand} atHand @param {HostModel} model
 * @param {import('./blobs.js').Blobs} blobs
 * @returns {Promise<Uint8Array>}
 * @throws {BlobLostError}
 */
export async function needed(lease, atHand, model, blobs) {
  const tensors = {};
  if (lease.kind === 'denoise' && !atHand.conditionings.has(lease.job)) {
    Object.assign(tensors, await found(blobs, lease.conditioning, conditioning(lease, model)));
  }
  const step = lease.kind === 'denoise' ? lease.start : lease.settings.steps;
  if (lease.latent && !atHand.latents.has(latentKey(lease.job, lease.image, step))) {
    Object.assign(tensors, await found(blobs, lease.latent, latent(lease, model)));
  }
  return Object.keys(tensors).length ? toBytes(tensors) : new Uint8Array(0);
}

async function found(blobs, name, expected) {
  const bytes = name && await blobs.get(name);
  if (!bytes) throw new BlobLostError(name, `The file ${name} is not here any more.`);
  try {
    return expectedTensors(bytes, expected);
  } catch (error) {
    if (!(error instanceof TensorError)) throw error;
    throw new BlobLostError(name, `The file ${name}: ${error.message}`);
  }
}

/** @returns {import('./expected.js').Expected} the tensors of a finished chunk */
export function expectedResult(lease, model) {
  if (lease.kind === 'encode') return conditioning(lease, model);
  if (lease.kind === 'denoise') return latent(lease, model);
  return { picture: { dtype: 'U8', shape: [lease.settings.height, lease.settings.width, 3] } };
}

/** @returns {import('./expected.js').Expected} the tensors that may come with a step */
export function expectedStep(lease, model, { latent: withLatent, preview: withPreview }) {
  const [, rows, columns] = latentShape(lease, model);
  return {
    ...(withLatent ? latent(lease, model) : {}),
    ...(withPreview ? { preview: { dtype: 'U8', shape: [rows, columns, 3] } } : {}),
  };
}

/** Whether so many bytes may be these tensors: asked before any of them is taken. */
export const fits = (expected, bytes) =>
  bytes > 0 && bytes <= Math.min(MOST_BYTES, mostBytes(expected));

/**
 * What the queue keeps of a finished chunk.
 * @param {{picture: Function}} encode
 * @returns {Promise<Uint8Array>} safetensors, or the file of a picture
 * @throws {import('../engine/safetensors.js').TensorError}
 */
export async function resultOf(lease, expected, bytes, encode) {
  const tensors = expectedTensors(bytes, expected);
  if (lease.kind !== 'decode') return toBytes(tensors);
  const { width, height } = lease.settings;
  return encode.picture(tensors.picture.data, width, height, insidePicture(lease));
}

/**
 * @param {{preview: Function}} encode
 * @returns {Promise<{latent: Uint8Array|null, preview: Uint8Array|null}>} latent as safetensors
 * @throws {import('../engine/safetensors.js').TensorError}
 */
export async function stepOf(expected, bytes, encode) {
  const tensors = Object.keys(expected).length ? expectedTensors(bytes, expected) : {};
  const pixels = tensors.preview;
  return {
    latent: tensors.latent ? toBytes({ latent: tensors.latent }) : null,
    preview: pixels ? await encode.preview(pixels.data, pixels.shape[1], pixels.shape[0]) : null,
  };
}

/** Seconds of computing as a worker said them, where that is a time that has passed. */
export const secondsOf = (said, passed) =>
  (Number.isFinite(said) && said >= 0 && said <= passed ? said : passed);

/** The settings of a job in the order in which the server writes them. */
export const settingsOf = (settings) =>
  Object.fromEntries(FIELDS.map((name) => [name, settings[name]]));

/** The settings that make this one picture again: its own seed, one image. */
const insidePicture = ({ settings, seed }) =>
  ({ ...settingsOf(settings), seed: seed ?? 0, num_images: 1 });

/** @returns {number[]} [C, h, w] */
export const latentShape = ({ settings: { width, height } }, { latent_channels: channels, vae_scale: cell }) =>
  [channels, Math.floor(height / cell), Math.floor(width / cell)];

const latent = (lease, model) => ({ latent: { dtype: 'F32', shape: latentShape(lease, model) } });

function conditioning({ settings }, model) {
  const form = { dtype: 'F32', shape: [{ most: model.max_tokens }, model.text_dim] };
  return settings.guidance > 1 ? { negative: form, prompt: form } : { prompt: form };
}
