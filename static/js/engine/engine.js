// Pictures from a model package on this browser's GPU. The work is done in a Worker of its own.
//
//   const engine = await openEngine('/api/packages/v1/prx-emoji/f16/');
//   const { latent, shape } = await engine.noise({ seed: 1, width: 256, height: 256 });
//   const conditioning = await engine.encode({ prompt: 'a red apple', guidance: 4 });
//   const done = await engine.denoise(
//     { conditioning, latent, shape, steps: 20, guidance: 4, start: 0, stop: 20 });
//   const { width, height, rgba } = await engine.decode({ latent: done, shape });
//   engine.close();
//
// Knows no page. Calls are done one after the other, in the order in which they were made.

import { EngineError } from './errors.js';

/**
 * @typedef {object} EngineOptions
 * @property {AbortSignal} [signal] gives up opening
 * @property {(progress: {kind: 'download'|'load'|'compile', done: number, total: number}) => void}
 *   [onProgress] bytes of the package, bytes on the GPU, pipelines; also later, when a call loads
 *   more. It hears what package.js tells as well
 * @property {boolean} [allowSoftware] take a software adapter: for tests
 * @property {string|URL} [wgslUrl] the folder of shaders
 * @property {(request: object) => boolean|Promise<boolean>} [confirmDownload] asked before a large
 *   download, see package.js
 * @property {('encode'|'denoise'|'decode')[]} [preload] calls whose weights and pipelines are
 *   loaded at once, unless their weights exceed 1 GiB; all by default
 * @property {boolean} [poison] buffers begin as NaN: for tests
 * @property {number} [longestSubmissionMs] see pace.js: for tests
 */

/**
 * Opens the GPU and a package, and loads what calls will need.
 * @param {string|URL} packageUrl of the package's folder
 * @param {EngineOptions} [options]
 * @returns {Promise<Engine>} `close` it
 * @throws {EngineError} insecure, no-webgpu, no-adapter, software-only, too-large, out-of-memory,
 *   bad-shader, bad-package, bad-plan, device-lost, device-error, worker-failed
 * @throws {EngineError} with the name and code of a PackageError for what is wrong with a package
 * @throws the signal's reason
 */
export async function openEngine(packageUrl, options = {}) {
  const {
    signal, onProgress, confirmDownload, allowSoftware = false, preload, poison = false,
    longestSubmissionMs,
    wgslUrl = new URL('../../wgsl/', import.meta.url),
  } = options;
  signal?.throwIfAborted();
  const here = globalThis.location?.href;
  const line = new Line({ onProgress, confirmDownload });
  try {
    const opened = await line.call('open', {
      packageUrl: new URL(packageUrl, here).href,
      wgslUrl: new URL(wgslUrl, here).href,
      allowSoftware,
      preload,
      poison,
      longestSubmissionMs,
    }, { signal });
    return new Engine(line, opened);
  } catch (error) {
    line.close();
    throw error;
  }
}

/** What openEngine gives. */
export class Engine {
  #line;

  constructor(line, { about, modelId, variant, packageId, device, bandChannels }) {
    this.#line = line;
    /** @type {object} the manifest's: title, sides, defaults, examples */
    this.about = about;
    /** @type {string} names the source weights */
    this.modelId = modelId;
    /** @type {string} how they are stored, such as "f16" */
    this.variant = variant;
    /** @type {string} names every byte of the package */
    this.packageId = packageId;
    /** @type {import('./device.js').DeviceInfo} */
    this.device = device;
    /**
     * @type {number[]} channels of each norm at which bands of a picture exchange moments; none where
     *   pictures cannot be decoded in bands
     */
    this.bandChannels = bandChannels;
  }

  /**
   * Clean, tokenize and encode the texts; with guidance 1 the negative one is left out.
   * @param {{prompt: string, negativePrompt?: string, guidance: number}} request
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<import('./model.js').Conditioning>} it may be sent to other peers
   * @throws {EngineError} bad-request, too-large, out-of-memory, device-lost, device-error, closed,
   *   worker-failed; with the names and codes of TokenizerError and PackageError
   * @throws the signal's reason
   */
  encode(request, { signal } = {}) {
    return this.#line.call('encode', request, { signal });
  }

  /**
   * Steps `start` to `stop` (exclusive) of a run of `steps`.
   * @param {object} request
   * @param {import('./model.js').Conditioning} request.conditioning
   * @param {Float32Array} request.latent [C, h, w], as it is after step `start`
   * @param {number[]} request.shape [C, h, w]
   * @param {number} request.steps @param {number} request.guidance
   * @param {number} request.start @param {number} request.stop
   * @param {object} [options]
   * @param {AbortSignal} [options.signal] looked at between steps
   * @param {(step: import('./model.js').Step) => void} [options.onStep] after every step
   * @returns {Promise<Float32Array>} [C, h, w]
   * @throws as `encode`
   */
  denoise(request, { signal, onStep } = {}) {
    return this.#line.call('denoise', request, { signal, onStep });
  }

  /**
   * Steps of which one half of guidance is computed here and the other one elsewhere.
   * @param {object} request as for `denoise`, with `half` and `checks`: see Model.denoiseHalf
   * @param {object} options as for `denoise`, and
   * @param {import('./halves.js').Exchange} options.exchange what it throws counts as null
   * @returns {Promise<{latent: Float32Array, step: number}>} step: how many are done
   * @throws as `encode`
   */
  denoiseHalf(request, { signal, onStep, exchange }) {
    return this.#line.call('denoiseHalf', request, { signal, onStep, exchange });
  }

  /**
   * The picture of a finished latent.
   * @param {{latent: Float32Array, shape: number[]}} request [C, h, w]
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<{width: number, height: number, rgba: Uint8ClampedArray}>}
   * @throws as `encode`
   */
  decode(request, { signal } = {}) {
    return this.#line.call('decode', request, { signal });
  }

  /**
   * Those rows of the picture that come from some rows of the latent; the others are somebody else's.
   * @param {object} request as for `decode`, with `bands`: see Model.decodeBands
   * @param {object} options
   * @param {AbortSignal} [options.signal]
   * @param {import('./bands.js').ExchangeMoments} options.exchange called once a norm; what it throws
   *   counts as null
   * @returns {Promise<{width: number, height: number, rgba: Uint8ClampedArray}[]|null>} of each band
   * @throws as `encode`
   */
  decodeBands(request, { signal, exchange }) {
    return this.#line.call('decodeBands', request, { signal, exchange });
  }

  /**
   * What bands take of the operations of a whole decode.
   * @param {{shape: number[], bands: import('./bands.js').Rows[]}} request
   * @returns {Promise<number[]>} about 0 to 1 each
   * @throws {EngineError} bad-request
   */
  bandShares(request) {
    return this.#line.call('bandShares', request);
  }

  /**
   * The noise a picture starts from: torch's for the seed.
   * @param {{seed: number, width: number, height: number}} request sides in pixels
   * @returns {Promise<{latent: Float32Array, shape: number[]}>} [C, h, w]
   * @throws {EngineError} bad-request
   */
  noise(request) {
    return this.#line.call('noise', request);
  }

  /** @returns {Promise<{submissions: number, bufferBytes: number, weightBytes: number}>} */
  stats() {
    return this.#line.call('stats');
  }

  /** Let go of all weights, on the GPU and in the Worker; the next calls load them again. */
  free() {
    return this.#line.call('free');
  }

  /** End the Worker; everything goes with it. Calls that are not done fail with code "closed". */
  close() {
    this.#line.close();
  }
}

/** The line to the Worker: numbered calls and their answers, see engine-worker.js. */
class Line {
  #worker = new Worker(new URL('engine-worker.js', import.meta.url), { type: 'module' });
  #calls = new Map(); // by number: {resolve, reject, signal, onStep, exchange}
  #last = 0;
  #ended = null; // the error that every further call fails with

  constructor({ onProgress, confirmDownload }) {
    this.#worker.onmessage = async ({ data }) => {
      if (data.progress) onProgress?.(data.progress);
      else if (data.question) this.#worker.postMessage(await this.#answered(data, confirmDownload));
      else this.#receive(data);
    };
    this.#worker.onerror = (event) => this.#end(new EngineError('worker-failed',
      `The engine's Worker stopped: ${event.message || 'it could not be loaded'}.`));
  }

  call(call, request, { signal, onStep, exchange } = {}) {
    if (this.#ended) return Promise.reject(this.#ended);
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const number = ++this.#last;
      const cancel = () => this.#worker.postMessage({ number, cancel: true });
      const forget = () => signal?.removeEventListener('abort', cancel);
      signal?.addEventListener('abort', cancel);
      this.#calls.set(number, { resolve, reject, signal, onStep, exchange, forget });
      this.#worker.postMessage({ number, call, request });
    });
  }

  async #answered({ question, number, request }, confirmDownload) {
    const exchange = this.#calls.get(number)?.exchange;
    try {
      const answer = number === undefined
        ? Boolean(await confirmDownload?.(request)) : await exchange?.(request);
      return { question, answer: answer ?? null };
    } catch {
      return { question, answer: null };
    }
  }

  close() {
    this.#end(new EngineError('closed', 'The engine has been closed.'));
  }

  #receive({ number, step, result, error }) {
    const call = this.#calls.get(number);
    if (!call) return;
    if (step) {
      call.onStep?.(step);
      return;
    }
    this.#calls.delete(number);
    call.forget();
    if (!error) call.resolve(result);
    else call.reject(call.signal?.aborted ? call.signal.reason : revived(error));
  }

  #end(error) {
    this.#worker.terminate();
    this.#ended ??= error;
    for (const call of this.#calls.values()) {
      call.forget();
      call.reject(this.#ended);
    }
    this.#calls.clear();
  }
}

function revived({ name, code, message }) {
  const error = new EngineError(code, message);
  error.name = name;
  return error;
}
