// A model in use on a device that may be lost: release, rebuild once, then stay away for a while.
//
// What a device had computed is gone with it, but a run of steps goes on from its last latent.

import { openDevice } from './device.js';
import { EngineError } from './errors.js';
import { openModel } from './model.js';
import { openPackage } from './package.js';
import { shadersAt } from './shaders.js';
import { chooseVariants } from './trial.js';
import { readVariants, tablesAt } from './variants.js';

const ALL = ['encode', 'denoise', 'decode'];
const REST_S = 30; // after a second loss; twice as long after each further one
const LONGEST_REST_S = 15 * 60;
const CALM_S = 5 * 60; // a device that lasted so long is trusted as a new one
const PRELOADED_BYTES = 2 ** 30;

/**
 * @typedef {object} SessionOptions
 * @property {string|URL} wgslUrl of the folder of shaders
 * @property {boolean} [allowSoftware]
 * @property {AbortSignal} [signal] gives up opening
 * @property {(progress: {kind: 'download'|'load'|'compile', done: number, total: number}) => void}
 *   [onProgress] bytes, bytes, pipelines
 * @property {Function} [confirmDownload] see package.js
 * @property {('encode'|'denoise'|'decode')[]} [preload] calls whose weights and pipelines are
 *   loaded at once, unless their weights exceed 1 GiB; all by default
 * @property {GPU} [gpu] @property {boolean} [poison] @property {number} [longestSubmissionMs]
 *   for tests
 */

/**
 * Opens the device and the package, and loads what calls will need.
 * @param {string|URL} packageUrl
 * @param {SessionOptions} options
 * @returns {Promise<Session>}
 * @throws {EngineError} insecure, no-webgpu, no-adapter, software-only, bad-package, bad-plan, and
 *   what `Model.load` throws; PackageError; the signal's reason
 */
export async function openSession(packageUrl, options) {
  const { signal, onProgress, confirmDownload, preload = ALL } = options;
  signal?.throwIfAborted();
  const session = new Session(options);
  try {
    await session.open(() => openPackage(packageUrl, { signal, onProgress, confirmDownload }));
    if (session.model.bytesOf(preload) <= PRELOADED_BYTES) {
      await session.surviving((model) => model.load(preload, { signal }));
    }
  } catch (error) {
    session.close();
    throw error;
  }
  return session;
}

/** Made by `openSession`. One call at a time. */
export class Session {
  #options;
  #reader = null;
  #readShader;
  #readTable;
  #device = null;
  #model = null;
  #openedAt = 0; // ms, of the device
  #losses = 0; // in a row
  #noted = null; // the device whose loss was counted last
  #restUntil = 0; // ms
  #earlierSubmissions = 0; // of devices that are gone
  #closed = false;

  constructor(options) {
    this.#options = options;
    this.#readShader = shadersAt(options.wgslUrl);
    this.#readTable = tablesAt(options.wgslUrl);
  }

  /** The device first: who has none need not load anything. */
  async open(openReader) {
    await this.#openDevice();
    this.#reader = await openReader();
    await this.#openModel();
  }

  get model() {
    return this.#model;
  }

  /** @returns {import('./device.js').Device} as it is now */
  get device() {
    return this.#device;
  }

  /** @returns {import('./package.js').PackageReader} */
  get reader() {
    return this.#reader;
  }

  /** See `Model.encode`. @throws as there, and EngineError device-lost, closed */
  encode(request, options) {
    return this.surviving((model) => model.encode(request, options));
  }

  /** See `Model.denoise`. After a loss it goes on from the last step that came out. */
  denoise(request, options) {
    return this.#steps('denoise', request, options);
  }

  /** See `Model.denoiseHalf`. After a loss as `denoise`. */
  denoiseHalf(request, options) {
    return this.#steps('denoiseHalf', request, options);
  }

  #steps(call, request, { onStep = () => {}, ...options } = {}) {
    let { start, latent } = request;
    return this.surviving((model) => model[call]({ ...request, start, latent }, {
      ...options,
      onStep: (step) => {
        start = step.step;
        latent = step.latent;
        onStep(step);
      },
    }));
  }

  /** See `Model.decode`. */
  decode(request, options) {
    return this.surviving((model) => model.decode(request, options));
  }

  /**
   * See `Model.decodeBands`. After a loss it begins again, with the moments that were exchanged:
   * `exchange` is called once a norm.
   */
  decodeBands(request, { exchange, ...options }) {
    const known = new Map();
    return this.surviving((model) => model.decodeBands(request, {
      ...options,
      exchange: async (mine) => {
        if (!known.has(mine.norm)) known.set(mine.norm, await exchange(mine));
        return known.get(mine.norm);
      },
    }));
  }

  /** See `Model.bandShares`. */
  async bandShares(request) {
    this.#checkOpen();
    return this.#model.bandShares(request);
  }

  /** See `Model.noise`. */
  async noise(request) {
    this.#checkOpen();
    return this.#model.noise(request);
  }

  /** @returns {{submissions: number, bufferBytes: number, weightBytes: number}} */
  stats() {
    return {
      submissions: this.#earlierSubmissions + (this.#device?.submissions ?? 0),
      bufferBytes: this.#device?.bufferBytes ?? 0,
      weightBytes: this.#model?.weightBytes ?? 0,
    };
  }

  /** Let go of all weights, on the device and here; the next calls load them again. */
  free() {
    this.#model?.free();
    this.#reader?.free();
  }

  /** The end of it. */
  close() {
    this.#closed = true;
    this.#device?.destroy();
    this.#reader?.close();
  }

  /**
   * What `work` gives. Where the device is lost meanwhile it is opened anew and `work` done again,
   * once.
   * @template Result
   * @param {(model: import('./model.js').Model) => Promise<Result>} work
   * @returns {Promise<Result>}
   * @throws {EngineError} device-lost when it is lost again, or was lately; closed; what `work`
   *   throws
   */
  async surviving(work) {
    this.#checkOpen();
    this.#checkRested();
    if (this.#device.lost) await this.#rebuild();
    try {
      return await work(this.#model);
    } catch (error) {
      if (error.code !== 'device-lost' || this.#closed) throw error;
      await this.#rebuild();
      try {
        return await work(this.#model);
      } catch (again) {
        if (again.code === 'device-lost') this.#noteLoss();
        throw again;
      }
    }
  }

  async #rebuild() {
    this.#noteLoss();
    this.#checkRested();
    this.#earlierSubmissions += this.#device.submissions;
    await this.#openDevice();
    await this.#openModel();
  }

  /** The first loss is forgiven; from the second in a row on, the device is left alone. */
  #noteLoss() {
    if (this.#noted === this.#device) return;
    this.#noted = this.#device;
    const now = performance.now();
    this.#losses = now - this.#openedAt > CALM_S * 1000 ? 1 : this.#losses + 1;
    if (this.#losses > 1) {
      const rest = Math.min(REST_S * 2 ** (this.#losses - 2), LONGEST_REST_S);
      this.#restUntil = now + rest * 1000;
    }
  }

  #checkRested() {
    const left = Math.ceil((this.#restUntil - performance.now()) / 1000);
    if (left > 0) {
      throw new EngineError('device-lost',
        `The graphics processor was lost again and again. It is left alone for ${left} seconds.`);
    }
  }

  #checkOpen() {
    if (this.#closed) throw new EngineError('closed', 'The engine has been closed.');
  }

  async #openDevice() {
    const { gpu, allowSoftware, longestSubmissionMs } = this.#options;
    const variants = readVariants(await this.#readTable('variants'));
    this.#device = await openDevice(
      { ...(gpu && { gpu }), allowSoftware, longestSubmissionMs, variants });
    await chooseVariants(
      this.#device, variants, () => this.#readTable('trial'), this.#readShader);
    this.#openedAt = performance.now();
  }

  async #openModel() {
    const { onProgress, poison } = this.#options;
    this.#model = await openModel(
      this.#device, this.#reader, this.#readShader, { onProgress, poison });
  }
}
