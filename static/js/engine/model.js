// A model on a device: what a host does besides running dispatches.
//
// It cleans and tokenizes prompts, picks rows of the embedding, makes the schedule and moves
// tensors in and out of runs, as queue/diffusion/backends/plan_backend.py does. One call at a time.

import { BAND, bandChannels, bandShares, bandsThatFit } from './bands.js';
import { cleanPrompt } from './cleaning.js';
import { BAND_PARTS, DECODE_PARTS, decodedBands, decodedInBands, decodedWhole } from './decoding.js';
import { EngineError, PlanError } from './errors.js';
import { exchangedSteps, HALVES, otherHalf } from './halves.js';
import { initialNoise } from './noise.js';
import { floatsOf } from './package/floats.js';
import { readPlan } from './plan.js';
import { Previews, readPreviewMap } from './preview.js';
import { loadParts, openRun, weightsOf } from './run.js';
import {
  badRequest, checkGuidance, checkLatent, checkSteps, checkText, readHost,
} from './requests.js';
import { makeSchedule, readScheduleConfig } from './schedule.js';
import { Shaders } from './shaders.js';
import { typicalSizes } from './sizes.js';
import { encodeTexts } from './tokenizer.js';
import { timeWaves } from './waves.js';
import { Weights } from './weights.js';

const TOKENIZER = 'tokenizer/tokenizer.json';
const TOKENIZER_CONFIG = 'tokenizer/tokenizer_config.json';
const SCHEDULER_CONFIG = 'scheduler/scheduler_config.json';
// Weights of what does not run stay on the device up to so many bytes in all, since the next
// picture needs them again. WebGPU does not tell how much memory there is.
const KEPT_BYTES = 2 ** 30;

/** What stages run together, by the call that runs them. */
const PARTS = {
  encode: { encode: null },
  denoise: { prepare: null, modulation: null, denoise: null, advance: null },
  decode: DECODE_PARTS,
};
const PARTS_OF_A_HALF = { prepare: null, modulation: null, denoise: null };

/**
 * @typedef {object} EncodedText
 * @property {Float32Array} features [tokens, width] @property {number} tokens 0 or more
 * @property {string[]} unsure characters that another Python may clean otherwise, see cleaning.js
 *
 * @typedef {{prompt: EncodedText, negative?: EncodedText}} Conditioning negative: with guidance
 *
 * @typedef {object} Step
 * @property {number} step how many are done, of the whole image
 * @property {Float32Array} latent [C, h, w] @property {import('./preview.js').Pixels} preview
 */

/**
 * @param {import('./device.js').Device} device
 * @param {import('./package.js').PackageReader} reader
 * @param {import('./shaders.js').ReadShader} readShader
 * @param {object} [options]
 * @param {(progress: {kind: 'load'|'compile', done: number, total: number}) => void}
 *   [options.onProgress] of whatever is being loaded, now and later
 * @param {typeof encodeTexts} [options.tokenize] where there is no Worker
 * @param {boolean} [options.poison] buffers begin as NaN, for tests
 * @returns {Promise<Model>}
 * @throws {EngineError} bad-package, bad-plan; PackageError
 */
export async function openModel(device, reader, readShader, options = {}) {
  const { manifest } = reader;
  if (!manifest.plan) {
    throw new EngineError('bad-package',
      'This model has no plan: nobody has written yet how a browser computes it.');
  }
  await reader.prepare([manifest.plan]);
  const plan = readPlan(await reader.file(manifest.plan));
  for (const [name, weight] of plan.weights) {
    const stored = manifest.tensors.get(storedName(name));
    if (stored?.dtype !== weight.type || stored.shape.join() !== weight.shape.join()) {
      throw new EngineError('bad-package',
        `This model's package does not hold ${name} as its plan says. It must be packed again.`);
    }
  }
  const context = {
    device,
    plan,
    weights: new Weights(device, plan, {
      pieces: (name, options) => reader.pieces(storedName(name), options),
      prepare: (names) => reader.prepare(names.map(storedName)),
    }),
    shaders: new Shaders(device, readShader, manifest.wgsl),
  };
  return new Model(context, reader, readHost(plan), options);
}

/** A package names a tensor by component and name, a plan by both with a dot. */
const storedName = (name) => name.replace('.', '/');

/** Made by `openModel`. */
export class Model {
  #context;
  #reader;
  #host;
  #options;
  #scheduleConfig;
  #previewMap;

  constructor(context, reader, host, { onProgress, tokenize = encodeTexts, poison = false }) {
    this.#context = context;
    this.#reader = reader;
    this.#host = host;
    this.#options = { onProgress, tokenize, poison };
    const { configs, preview } = reader.manifest;
    this.#scheduleConfig = readScheduleConfig(configs.get(SCHEDULER_CONFIG) ?? {});
    this.#previewMap = readPreviewMap(preview, host.channels);
  }

  /** Bytes of weights on the device. */
  get weightBytes() {
    return this.#context.weights.bytes;
  }

  /**
   * Bring the weights and pipelines of calls to the device before they are needed.
   * @param {('encode'|'denoise'|'decode')[]} calls
   * @param {{signal?: AbortSignal}} [options]
   * @throws {EngineError} as for `denoise`
   */
  async load(calls, { signal } = {}) {
    const { onProgress = () => {} } = this.#options;
    const { plan } = this.#context;
    const names = calls.flatMap((call) => weightsOf(plan, PARTS[call]));
    const forTexts = calls.includes('encode') ? [TOKENIZER, storedName(this.#host.embedding)] : [];
    await this.#reader.prepare([...forTexts, ...names.map(storedName)]); // one question about all
    const sizes = typicalSizes(plan, this.#reader.manifest.about);
    const banded = calls.includes('decode') && plan.stages.has(BAND) ? [BAND_PARTS] : [];
    for (const parts of [...calls.map((call) => PARTS[call]), ...banded]) {
      this.#makeRoom(parts);
      await loadParts(this.#context, sizes, parts, { signal, onProgress });
    }
    await this.#reader.written();
  }

  /**
   * Bytes of weights that calls need on the device.
   * @param {('encode'|'denoise'|'decode')[]} calls
   * @returns {number}
   */
  bytesOf(calls) {
    const { plan } = this.#context;
    const names = new Set(calls.flatMap((call) => weightsOf(plan, PARTS[call])));
    return [...names].reduce((all, name) => all + plan.weights.get(name).bytes, 0);
  }

  /**
   * Clean, tokenize and encode the texts; with guidance 1 the negative one is left out.
   * @param {{prompt: string, negativePrompt?: string, guidance: number}} request
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Conditioning>}
   * @throws {EngineError} bad-request, too-large, out-of-memory, device-lost, device-error,
   *   bad-shader; TokenizerError; PackageError; the signal's reason
   */
  async encode({ prompt, negativePrompt = '', guidance }, { signal } = {}) {
    checkGuidance(guidance);
    const halves = { prompt, ...(guidance > 1 && { negative: negativePrompt }) };
    for (const text of Object.values(halves)) {
      if (typeof text !== 'string') throw badRequest('A prompt must be a text.');
    }
    const cleaned = Object.values(halves).map(cleanPrompt);
    const ids = await this.#tokenize(cleaned.map(({ text }) => text), signal);
    const encoded = {};
    for (const [index, half] of Object.keys(halves).entries()) {
      signal?.throwIfAborted();
      const features = await this.#features(ids[index], signal);
      encoded[half] = { features, tokens: ids[index].length, unsure: cleaned[index].unsure };
    }
    return encoded;
  }

  /**
   * Steps `start` to `stop` (exclusive) of a run of `steps`.
   * @param {object} request
   * @param {Conditioning} request.conditioning
   * @param {Float32Array} request.latent after step `start`; it is not changed
   * @param {number[]} request.shape [C, h, w]
   * @param {number} request.steps @param {number} request.guidance
   * @param {number} request.start @param {number} request.stop
   * @param {object} [options]
   * @param {AbortSignal} [options.signal] looked at between steps
   * @param {(step: Step) => void} [options.onStep] after every step
   * @returns {Promise<Float32Array>} [C, h, w]
   * @throws {EngineError} bad-request, too-large, out-of-memory, device-lost, device-error,
   *   bad-shader; PackageError; the signal's reason
   */
  async denoise(request, { signal, onStep = () => {} } = {}) {
    checkSteps(request, this.#host.channels);
    const { conditioning, latent, shape, steps, guidance, start, stop } = request;
    const halves = guidance > 1 ? HALVES : ['prompt'];
    const texts = halves.map((half) => checkText(conditioning, half, this.#host.width));
    const schedule = makeSchedule(this.#scheduleConfig, steps);
    const run = await this.#openSteps(texts, shape, schedule, PARTS.denoise, signal);
    try {
      run.write('strides', schedule.strides);
      run.write('guidance', Float32Array.of(guidance));
      run.write('latent', latent);
      await run.run(['prepare', 'modulation']);
      const previews = new Previews(this.#previewMap, schedule.sigmas, latent, shape);
      let current = latent.slice();
      for (let step = start; step < stop; step++) {
        signal?.throwIfAborted();
        run.write('step', Uint32Array.of(step));
        [current] = await run.run(['denoise', 'advance'], ['latent']);
        onStep({ step: step + 1, latent: current, preview: previews.after(step + 1, current) });
      }
      signal?.throwIfAborted();
      return current;
    } finally {
      run.close();
    }
  }

  /**
   * Steps of which one half of guidance is computed here and the other one elsewhere.
   * @param {object} request as for `denoise`, with guidance above 1, and
   * @param {import('./halves.js').Half} request.half that is computed here; `conditioning` needs no
   *   other text
   * @param {number[]} [request.checks] steps for which the other half is computed here as well, for
   *   `exchange` to compare; `conditioning` needs both texts then
   * @param {object} options as for `denoise`, and
   * @param {import('./halves.js').Exchange} options.exchange settles at the latest when `signal`
   *   aborts. It may be called for a step again, where the device was lost meanwhile
   * @returns {Promise<{latent: Float32Array, step: number}>} step: how many are done, of the whole
   *   image; fewer than `stop` where `exchange` gave null. Everything up to there is done
   * @throws {EngineError} as `denoise`
   */
  async denoiseHalf(request, { signal, exchange, onStep = () => {} }) {
    checkSteps(request, this.#host.channels);
    const { conditioning, latent, shape, half, steps, guidance, checks = [] } = request;
    if (!(guidance > 1 && HALVES.includes(half))) {
      throw badRequest('Only with guidance there are two halves, "negative" and "prompt".');
    }
    const schedule = makeSchedule(this.#scheduleConfig, steps);
    const previews = new Previews(this.#previewMap, schedule.sigmas, latent, shape);
    const open = (which) => this.#openHalf(conditioning, which, shape, schedule, signal);
    const mine = await open(half);
    try {
      return await exchangedSteps({
        ...request,
        checks,
        strides: schedule.strides,
        latent: latent.slice(),
        velocity: mine.velocity,
        otherVelocity: async (current, step) => {
          const other = await open(otherHalf(half));
          try {
            return await other.velocity(current, step);
          } finally {
            other.close();
          }
        },
      }, exchange, signal, (step, current) =>
        onStep({ step, latent: current, preview: previews.after(step, current) }));
    } finally {
      mine.close();
    }
  }

  /**
   * The picture of a finished latent; in bands of rows where the device cannot bind the tensors of
   * the whole picture.
   * @param {{latent: Float32Array, shape: number[]}} request [C, h, w]
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<import('./preview.js').Pixels>}
   * @throws {EngineError} as `denoise`
   */
  async decode({ latent, shape }, { signal } = {}) {
    checkLatent(latent, shape, this.#host.channels);
    const { device, plan } = this.#context;
    const open = (sizes, parts) => this.#openRun(sizes, parts, signal);
    try {
      return await decodedWhole(open, latent, shape);
    } catch (error) {
      const bands = error.code === 'too-large'
        ? bandsThatFit(plan, shape, device.largestBinding) : null;
      if (!bands) throw error;
      return decodedInBands(plan, open, { latent, shape, bands }, signal);
    }
  }

  /**
   * Those rows of the picture that come from some rows of the latent; the others are somebody else's.
   * @param {object} request as for `decode`, and
   * @param {import('./bands.js').Rows[]} request.bands that are computed here
   * @param {object} options
   * @param {AbortSignal} [options.signal] looked at between norms
   * @param {import('./bands.js').ExchangeMoments} options.exchange settles at the latest when
   *   `signal` aborts
   * @returns {Promise<import('./preview.js').Pixels[]|null>} of each band; null where `exchange` gave
   *   null
   * @throws {EngineError} as `denoise`; bad-request also for a model without bands
   */
  async decodeBands({ latent, shape, bands }, { signal, exchange }) {
    checkLatent(latent, shape, this.#host.channels);
    const open = (sizes, parts) => this.#openRun(sizes, parts, signal);
    return decodedBands(this.#context.plan, open, { latent, shape, bands }, exchange, signal);
  }

  /** Channels of each norm at which bands exchange moments; none where there are no bands. */
  get bandChannels() {
    return bandChannels(this.#context.plan);
  }

  /**
   * What bands take of the operations of a whole decode.
   * @param {{shape: number[], bands: import('./bands.js').Rows[]}} request
   * @returns {number[]} @throws {EngineError} bad-request
   */
  bandShares({ shape, bands }) {
    return bandShares(this.#context.plan, shape, bands);
  }

  /**
   * The noise a picture starts from.
   * @param {{seed: number, width: number, height: number}} request sides in pixels
   * @returns {{latent: Float32Array, shape: number[]}} [C, h, w]
   * @throws {EngineError} bad-request
   */
  noise({ seed, width, height }) {
    const { channels, scale } = this.#host;
    for (const side of [width, height]) {
      if (!(Number.isInteger(side) && side > 0 && side % scale === 0)) {
        throw badRequest(`A side is a multiple of ${scale} pixels, not ${side}.`);
      }
    }
    const shape = [channels, height / scale, width / scale];
    try {
      return { latent: initialNoise(seed, shape.reduce((all, side) => all * side)), shape };
    } catch (error) {
      throw badRequest(`${error.message}.`);
    }
  }

  /** What check.js needs to run parts of the plan by themselves. */
  forCheck() {
    const { dtypes } = this.#reader.manifest;
    const tokenRows = (ids) => this.#reader.rows(storedName(this.#host.embedding), ids);
    return { ...this.#context, dtypes, tokenRows };
  }

  /** Let go of all weights. The next call loads what it needs. */
  free() {
    this.#context.weights.release();
  }

  /** [tokens, width] of one text */
  async #features(ids, signal) {
    const { embedding, width } = this.#host;
    if (!ids.length) return new Float32Array(0);
    const run = await this.#openRun({ T: ids.length }, PARTS.encode, signal);
    try {
      const stored = await this.#reader.rows(storedName(embedding), ids, { signal });
      const { type, shape: [, columns] } = this.#context.plan.weights.get(embedding);
      if (type === 'f16' || type === 'f32') run.writeBytes('token_rows', stored);
      else run.write('token_rows', floatsOf(stored, type, ids.length, columns));
      const [features] = await run.run(['encode'], ['features']);
      if (features.length !== ids.length * width) {
        throw new PlanError('features have another width');
      }
      return features;
    } finally {
      run.close();
    }
  }

  async #tokenize(texts, signal) {
    const { configs } = this.#reader.manifest;
    const longest = configs.get(TOKENIZER_CONFIG)?.model_max_length;
    const { buffer } = await this.#reader.file(TOKENIZER, { signal });
    return this.#options.tokenize(buffer, texts, longest, { signal });
  }

  /** One half of guidance by itself. */
  async #openHalf(conditioning, half, shape, schedule, signal) {
    const text = checkText(conditioning, half, this.#host.width);
    const run = await this.#openSteps([text], shape, schedule, PARTS_OF_A_HALF, signal);
    const velocity = async (latent, step) => {
      run.write('latent', latent);
      run.write('step', Uint32Array.of(step));
      const [found] = await run.run(['denoise'], ['velocity']);
      return found;
    };
    try {
      await run.run(['prepare', 'modulation']);
    } catch (error) {
      run.close();
      throw error;
    }
    return { velocity, close: () => run.close() };
  }

  /** A run of steps with what is constant over them, of the texts and of the schedule. */
  async #openSteps(texts, [, rows, columns], schedule, parts, signal) {
    const longest = Math.max(...texts.map(({ tokens }) => tokens));
    const sizes = {
      B: texts.length, T: longest, S: schedule.times.length, H: rows, W: columns,
    };
    const run = await this.#openRun(sizes, parts, signal);
    try {
      this.#writeConstants(run, texts, longest, schedule);
    } catch (error) {
      run.close();
      throw error;
    }
    return run;
  }

  #writeConstants(run, texts, longest, schedule) {
    const { width, time } = this.#host;
    const padded = new Float32Array(texts.length * longest * width);
    for (const [index, { features }] of texts.entries()) {
      padded.set(features, index * longest * width);
    }
    run.write('text', padded);
    run.write('text_lengths', Uint32Array.from(texts, ({ tokens }) => tokens));
    run.write('waves', timeWaves(schedule.times, time));
  }

  /** Opens a run; where memory does not suffice, once more without the weights of other runs. */
  async #openRun(sizes, parts, signal) {
    const { weights, plan } = this.#context;
    const { onProgress, poison } = this.#options;
    this.#makeRoom(parts);
    const open = () => openRun(this.#context, sizes, parts, { signal, onProgress, poison });
    try {
      return await open();
    } catch (error) {
      const needed = new Set(weightsOf(plan, parts));
      const others = weights.loaded.some((name) => !needed.has(name));
      if (error.code !== 'out-of-memory' || !others) throw error;
      weights.release(needed);
      return open();
    }
  }

  /** Lets go of weights that `parts` do not need, where all together would be too many. */
  #makeRoom(parts) {
    const { weights, plan } = this.#context;
    const needed = weightsOf(plan, parts);
    if (weights.bytes + weights.missingBytes(needed) > KEPT_BYTES) weights.release(needed);
  }
}
