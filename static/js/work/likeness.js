// How alike two computations of the same thing are, and how alike honest ones have to be.
// Twin of queue/diffusion/likeness.py, which says why and where the numbers come from; a test
// compares both.

import { dtypesOf } from '../engine/manifest.js';

/** Of the computed latent's length: the least that counts as what a range has changed. */
export const SMALLEST_CHANGE = 0.01;

const COMPONENT_OF = { encode: 'text_encoder', denoise: 'transformer', decode: 'vae' };

const HALF = 'half'; // weights as exact as in f16, but multiplied in f16 too
const HALF_KERNELS = /f16,?$/; // how the names of variants of kernels end that do so

/** Relative L2, by how the coarser of both workers stores the weights. */
export const LIMITS = {
  encode: { f32: 2.5e-3, f16: 2.5e-3, half: 5e-3, bf16: 0.04, int8: 0.06, int4: 0.6 },
  denoise: { f32: 2.5e-3, f16: 2.5e-3, half: 0.02, bf16: 0.12, int8: 0.06, int4: 0.6 },
  decode: { f32: 3e-3, f16: 3e-3, half: 6e-3, bf16: 0.02, int8: 0.02, int4: 0.15 },
};

/**
 * What `limit` must know of a worker.
 * @param {string} variant how it stores weights
 * @param {string} kernels what it says of its WebGPU kernels, such as "many 128x128x16f16"
 * @returns {string}
 */
export function precision(variant, kernels) {
  const names = kernels.split(/\s+/).filter((_, at) => at % 2);
  return names.some((name) => HALF_KERNELS.test(name)) ? `${variant} ${HALF}`.trim() : variant;
}

/**
 * The largest distance of honest workers of these precisions.
 * @param {'encode'|'denoise'|'decode'} stage
 * @param {...string} variants names as packages have them ("f16", "int4-f16-f16"), several of one
 *   worker after each other; "" is as good as f16
 * @returns {number}
 * @throws {import('../engine/manifest.js').ManifestError} for a variant that nobody has
 */
export function limit(stage, ...variants) {
  const names = variants.flatMap((variant) => (variant || 'f16').split(' '));
  return Math.max(...names.map((name) => LIMITS[stage][stored(stage, name)]));
}

/** bf16 is torch's; packages have neither. */
const stored = (stage, variant) => (
  ['bf16', HALF].includes(variant) ? variant : dtypesOf(variant)[COMPONENT_OF[stage]]);

/** @param {string} variant @returns {boolean} whether somebody may store weights so */
export function isVariant(variant) {
  try {
    return typeof variant === 'string' && variant !== HALF && LIMITS.denoise[stored('denoise', variant)] !== undefined;
  } catch {
    return false;
  }
}

/**
 * Of two latents after the same steps: how far they are apart, relative to what the steps have
 * changed.
 * @param {Float32Array} given before the steps @param {Float32Array} claimed
 * @param {Float32Array} computed as many numbers
 * @returns {number}
 */
export function distanceOfSteps(given, claimed, computed) {
  const changed = Math.max(apart(computed, given), SMALLEST_CHANGE * lengthOf(computed));
  return ratio(apart(claimed, computed), changed);
}

/**
 * The worst of the texts; infinite where they have not the same tokens.
 * @param {Record<string, Tensor>} claimed by name @param {Record<string, Tensor>} computed
 * @returns {number}
 *
 * @typedef {{shape: number[], data: Float32Array|Uint8Array}} Tensor
 */
export function distanceOfTexts(claimed, computed) {
  const names = Object.keys(computed);
  if (names.length !== Object.keys(claimed).length
    || !names.every((name) => Object.hasOwn(claimed, name))) return Infinity;
  return Math.max(...names.map((name) => distance(claimed[name], computed[name])));
}

/** Of pixels [H, W, 3]. @param {Tensor} claimed @param {Tensor} computed @returns {number} */
export const distanceOfPictures = (claimed, computed) => distance(claimed, computed);

function distance(claimed, computed) {
  if (claimed.shape.join() !== computed.shape.join()) return Infinity;
  return ratio(apart(claimed.data, computed.data), lengthOf(computed.data));
}

const lengthOf = (numbers) => {
  let sum = 0;
  for (const one of numbers) sum += one * one;
  return Math.sqrt(sum);
};

/** L2. Python subtracts in f32; the difference of that is far below every limit. */
function apart(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += (one[i] - other[i]) ** 2;
  return Math.sqrt(sum);
}

const ratio = (off, whole) => (off === 0 ? 0 : off / whole);
