// One WebGPU device: what it can do, what it has been asked to do, and what went wrong with it.
//
// - Limits are WebGPU's defaults, except the sizes of buffers, of which the adapter's are asked, and
//   what variants of kernels need where the adapter has it.
// - Every error becomes an EngineError: those of a piece of work through `guarded`, stray ones and
//   a lost device at the next thing that is asked of it.
// - Knows nothing of plans. Runs wherever a `GPU` object is: a page, a Worker, Node with Dawn.

import { EngineError } from './errors.js';
import { Pace } from './pace.js';
import { Pipelines } from './pipelines.js';
import { BASELINE, runsWith } from './variants.js';

// Numbers of the WebGPU specification; Node has no global GPUBufferUsage.
export const USAGE = {
  MAP_READ: 0x1, COPY_SRC: 0x4, COPY_DST: 0x8, UNIFORM: 0x40, STORAGE: 0x80,
};
const MAP_READ = 0x1;

const BUFFER_LIMITS = ['maxBufferSize', 'maxStorageBufferBindingSize'];
const FILTERS = ['validation', 'out-of-memory', 'internal'];
// What a module that uses a feature must begin with. Tint wants both, naga refuses the second.
const DIRECTIVES = new Map([['shader-f16', 'enable f16;'], ['subgroups', 'enable subgroups;']]);
const LOSS_TOLD_MS = 1000; // after the calls that failed of it
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render/i;

/**
 * @typedef {object} DeviceInfo
 * @property {string} description for people, such as "nvidia ampere"
 * @property {string} vendor @property {string} architecture
 * @property {boolean} software computed by the processor: for tests
 * @property {string[]} features that were asked for and are there
 * @property {string} variant which kernels run, such as "baseline" or "few 64x128x8x2"; see
 *   variants.js
 */

/**
 * @param {object} [options]
 * @param {GPU} [options.gpu] the browser's by default
 * @param {boolean} [options.secure] whether this is a secure context, where alone WebGPU exists
 * @param {boolean} [options.allowSoftware] take a software adapter too
 * @param {string[]} [options.features] optional ones, used where the adapter has them
 * @param {import('./variants.js').Variants|null} [options.variants] those that may be chosen;
 *   without, no limit is higher for their sake
 * @param {number} [options.longestSubmissionMs] see pace.js
 * @returns {Promise<Device>}
 * @throws {EngineError} insecure, no-webgpu, no-adapter, software-only, device-error
 */
export async function openDevice({
  gpu = globalThis.navigator?.gpu,
  secure = globalThis.isSecureContext,
  allowSoftware = false,
  features = [],
  variants = null,
  longestSubmissionMs,
} = {}) {
  if (!gpu) {
    if (secure === false) {
      throw new EngineError('insecure',
        'Browsers offer WebGPU only to pages that came over https or from this computer itself.');
    }
    throw new EngineError('no-webgpu',
      'This browser has no WebGPU. Recent versions of Chrome, Edge, Safari and Firefox have it.');
  }
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    throw new EngineError('no-adapter',
      'This browser has WebGPU but finds no graphics processor that it may use.');
  }
  const info = describe(adapter, features);
  if (info.software && !allowSoftware) {
    throw new EngineError('software-only',
      `This browser only offers ${info.description}, a software adapter. A picture would take`
      + ' very long on it.');
  }
  const requiredLimits = {};
  for (const name of BUFFER_LIMITS) requiredLimits[name] = adapter.limits[name];
  for (const variant of Object.values(variants?.variants ?? {})) {
    if (!runsWith(variant, adapter.features, adapter.limits)) continue;
    info.features = [...new Set([...info.features, ...variant.features])];
    for (const [name, least] of Object.entries(variant.limits)) {
      requiredLimits[name] = Math.max(requiredLimits[name] ?? 0, least);
    }
  }
  let device;
  try {
    device = await adapter.requestDevice({ requiredLimits, requiredFeatures: info.features });
  } catch (error) {
    throw new EngineError('device-error',
      `The graphics processor ${info.description} could not be opened: ${error.message}`,
      { cause: error });
  }
  return new Device(device, info, longestSubmissionMs);
}

function describe(adapter, wanted) {
  const { vendor = '', architecture = '', device = '', description = '', isFallbackAdapter = false }
    = adapter.info ?? {};
  const name = description || [vendor, architecture, device].filter(Boolean).join(' ');
  const software = Boolean(isFallbackAdapter || adapter.isFallbackAdapter)
    || SOFTWARE.test(`${architecture} ${device} ${description}`);
  return {
    description: name || 'an unnamed adapter',
    vendor,
    architecture,
    software,
    features: wanted.filter((feature) => adapter.features.has(feature)),
    variant: BASELINE,
  };
}

const within = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** See `openDevice`. */
export class Device {
  /** Times that work was handed to the GPU. */
  submissions = 0;
  /** Of all buffers that are allocated now. */
  bufferBytes = 0;

  #choice = null; // of variants; null: plans run as they are
  #lost = null; // why, in words
  #stray = null; // an error that no scope caught
  #whenLost;
  #waiting = new Set(); // who is to be told when it is lost

  /**
   * @param {GPUDevice} gpu @param {DeviceInfo} info @param {number} [longestSubmissionMs]
   */
  constructor(gpu, info, longestSubmissionMs) {
    this.gpu = gpu;
    this.info = info;
    const { maxStorageBufferBindingSize, maxBufferSize } = gpu.limits;
    /** Bytes of the largest tensor or weight that fits. */
    this.largestBinding = Math.min(maxStorageBufferBindingSize, maxBufferSize);
    /** What every module of this device begins with. */
    this.directives = info.features.map((feature) => DIRECTIVES.get(feature)).filter(Boolean);
    this.pipelines = new Pipelines(this);
    this.pace = new Pace(longestSubmissionMs);
    gpu.onuncapturederror = ({ error }) => { this.#stray ??= error; };
    this.#whenLost = gpu.lost.then(({ reason, message }) => {
      this.#lost = message || reason || 'no reason given';
      for (const tell of this.#waiting) tell();
    });
  }

  /**
   * Take these variants for all that is opened from now on.
   * @param {import('./variants.js').Choice} choice
   * @returns {import('./variants.js').Choice}
   */
  choose(choice) {
    this.#choice = choice;
    this.info.variant = String(choice);
    return choice;
  }

  /**
   * A dispatch with the constants of the variant that was chosen.
   * @param {import('./plan.js').Dispatch} dispatch
   * @param {Map<string, number>} sizes its own, evaluated
   * @returns {import('./plan.js').Dispatch}
   */
  fitted(dispatch, sizes) {
    return this.#choice?.fitted(dispatch, sizes) ?? dispatch;
  }

  /** Whether the device is gone. */
  get lost() {
    return this.#lost !== null;
  }

  /** Resolves when the device is gone, whoever ended it. */
  get whenLost() {
    return this.#whenLost;
  }

  /**
   * A buffer of `size` bytes that shaders and copies may use.
   * @param {number} size in bytes, a multiple of 4 @param {string} label
   * @param {number} [usage]
   * @returns {GPUBuffer} let go of it with `destroyBuffer`
   */
  createBuffer(size, label, usage = USAGE.STORAGE | USAGE.COPY_DST | USAGE.COPY_SRC) {
    const buffer = this.gpu.createBuffer({ size, usage, label });
    this.bufferBytes += size;
    return buffer;
  }

  /** @param {GPUBuffer} buffer of `createBuffer`, once */
  destroyBuffer(buffer) {
    this.bufferBytes -= buffer.size;
    buffer.destroy();
  }

  /** @param {GPUCommandBuffer[]} commands */
  submit(commands) {
    this.gpu.queue.submit(commands);
    this.submissions += 1;
  }

  /**
   * Does `work`, which calls WebGPU and returns at once, and waits until the errors of these calls
   * are known.
   * @template Result
   * @param {string} what is being done, for the message: "allocating 3 buffers"
   * @param {() => Result} work
   * @returns {Promise<Result>}
   * @throws {EngineError} out-of-memory, device-error, device-lost
   */
  async guarded(what, work) {
    this.check();
    for (const filter of FILTERS) this.gpu.pushErrorScope(filter);
    let result;
    let popped;
    try {
      result = work();
    } finally {
      popped = FILTERS.map(() => this.gpu.popErrorScope()).reverse();
      for (const scope of popped) scope.catch(() => {}); // where `work` threw, nobody waits for it
    }
    const errors = await this.orLost(Promise.all(popped));
    const kind = errors.findIndex((error) => error);
    if (FILTERS[kind] === 'out-of-memory') {
      throw new EngineError('out-of-memory',
        `The graphics processor has too little free memory (while ${what}). Close other tabs or`
        + ' programs, or try a smaller picture.');
    }
    if (kind >= 0) {
      throw new EngineError('device-error',
        `The graphics processor refused its work (while ${what}): ${errors[kind].message}`);
    }
    return result;
  }

  /**
   * What `promise` gives, unless the device is lost before it does.
   * @template Result
   * @param {Promise<Result>} promise of a WebGPU call
   * @returns {Promise<Result>}
   * @throws {EngineError} device-lost
   */
  async orLost(promise) {
    let tell;
    const gone = new Promise((resolve) => { tell = resolve; }); // not #whenLost: that would keep it
    this.#waiting.add(tell);
    if (this.lost) tell();
    try {
      return await Promise.race([promise, gone]);
    } catch (error) {
      await Promise.race([gone, within(LOSS_TOLD_MS)]); // calls fail before their loss is told
      throw error;
    } finally {
      this.#waiting.delete(tell);
      this.check();
    }
  }

  /**
   * Throws what went wrong since it was asked the last time, if anything did.
   * @throws {EngineError} device-lost, device-error
   */
  check() {
    if (this.lost) {
      throw new EngineError('device-lost', `The graphics processor was lost: ${this.#lost}.`);
    }
    if (this.#stray) {
      const { message } = this.#stray;
      this.#stray = null;
      throw new EngineError('device-error', `The graphics processor refused its work: ${message}`);
    }
  }

  /**
   * Waits for all work handed in so far.
   * @throws {EngineError} device-lost, device-error
   */
  async finished() {
    await this.orLost(this.gpu.queue.onSubmittedWorkDone());
  }

  /**
   * The bytes of a buffer that MAP_READ may be done with; they are a copy.
   * @param {GPUBuffer} buffer @param {number} bytes
   * @returns {Promise<ArrayBuffer>}
   * @throws {EngineError} device-lost, device-error
   */
  async map(buffer, bytes) {
    await this.orLost(buffer.mapAsync(MAP_READ, 0, bytes));
    const copy = buffer.getMappedRange(0, bytes).slice(0);
    buffer.unmap();
    return copy;
  }

  /** Ends the device; its memory goes with it. */
  destroy() {
    this.gpu.destroy();
  }
}
