// What a model is asked for, and what its plan says of its host, checked before anything is done.

import { EngineError, PlanError } from './errors.js';

export const MOST_STEPS = 100;
export const MOST_GUIDANCE = 20;

/** @param {string} message @returns {EngineError} */
export const badRequest = (message) => new EngineError('bad-request', message);

/** @param {number} guidance @throws {EngineError} bad-request */
export function checkGuidance(guidance) {
  if (!(guidance >= 1 && guidance <= MOST_GUIDANCE)) {
    throw badRequest(`Guidance is 1 to ${MOST_GUIDANCE}, not ${guidance}.`);
  }
}

/**
 * @param {{latent: Float32Array, shape: number[], steps: number, guidance: number, start: number,
 *   stop: number}} request @param {number} channels of the model's latents
 * @throws {EngineError} bad-request
 */
export function checkSteps({ latent, shape, steps, guidance, start, stop }, channels) {
  checkLatent(latent, shape, channels);
  checkGuidance(guidance);
  if (!(Number.isInteger(steps) && steps >= 1 && steps <= MOST_STEPS)) {
    throw badRequest(`A picture takes 1 to ${MOST_STEPS} steps, not ${steps}.`);
  }
  const whole = Number.isInteger(start) && Number.isInteger(stop);
  if (!(whole && start >= 0 && start <= stop && stop <= steps)) {
    throw badRequest(`Steps ${start} to ${stop} are no part of ${steps}.`);
  }
}

/**
 * @param {Float32Array} latent @param {number[]} shape [C, h, w] @param {number} channels
 * @throws {EngineError} bad-request
 */
export function checkLatent(latent, shape, channels) {
  const sides = Array.isArray(shape) && shape.length === 3 && shape.every(Number.isInteger);
  const count = sides && shape.reduce((all, side) => all * side);
  const right = sides && shape[0] === channels
    && latent instanceof Float32Array && latent.length === count;
  if (!right) throw badRequest(`A latent has ${channels} channels, not [${shape}].`);
}

/**
 * @param {import('./model.js').Conditioning} conditioning @param {import('./halves.js').Half} half
 * @param {number} width features a token
 * @returns {import('./model.js').EncodedText} that half's
 * @throws {EngineError} bad-request
 */
export function checkText(conditioning, half, width) {
  const text = conditioning?.[half];
  const right = text?.features instanceof Float32Array && Number.isInteger(text.tokens)
    && text.features.length === text.tokens * width;
  if (!right) throw badRequest(`The text "${half}" is missing or of another model.`);
  return text;
}

/**
 * What the plan's "host" says.
 * @param {import('./plan.js').Plan} plan
 * @returns {{embedding: string, width: number, channels: number, scale: number, time: object}}
 *   embedding: a weight; width: features a token; scale: pixels a cell of the latent
 * @throws {PlanError}
 */
export function readHost({ host, weights }) {
  const { text_encoder: text, transformer, vae } = host;
  const { time } = transformer ?? {};
  const whole = (value) => Number.isInteger(value) && value > 0 && value < 2 ** 16;
  const right = weights.get(text?.embedding)?.use === 'rows' && whole(transformer?.channels)
    && whole(transformer.text_width) && whole(vae?.scale) && whole(time?.features)
    && time.features % 2 === 0 && Number.isFinite(time.factor) && time.max_period > 1;
  if (!right) throw new PlanError('its host lacks what a PRX model has');
  return {
    embedding: text.embedding,
    width: transformer.text_width,
    channels: transformer.channels,
    scale: vae.scale,
    time,
  };
}
