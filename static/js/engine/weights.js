// The weights of a plan on a device: streamed in piece by piece, let go of on request.

import { EngineError, PlanError } from './errors.js';
import { aligned } from './sizes.js';

// Written bytes wait in memory until the device took them; so many may wait.
const MOST_WAITING = 64 * 2 ** 20;

/**
 * @typedef {object} WeightSource where stored bytes come from; names are the plan's
 * @property {(name: string, options: {signal?: AbortSignal}) =>
 *   AsyncIterable<{offset: number, bytes: Uint8Array}>} pieces the bytes of a weight in order, in
 *   parts of multiples of 4 bytes
 * @property {(names: string[]) => Promise<void>} [prepare] is told what will be asked for, in order
 */

export class Weights {
  #device;
  #plan;
  #source;
  #buffers = new Map();

  /**
   * @param {import('./device.js').Device} device @param {import('./plan.js').Plan} plan
   * @param {WeightSource} source
   */
  constructor(device, plan, source) {
    this.#device = device;
    this.#plan = plan;
    this.#source = source;
  }

  /** Bytes on the device. */
  get bytes() {
    return [...this.#buffers.values()].reduce((all, { size }) => all + size, 0);
  }

  /** Names of the weights that are on the device. */
  get loaded() {
    return [...this.#buffers.keys()];
  }

  /**
   * Bytes that loading these weights would add.
   * @param {Iterable<string>} names
   * @returns {number}
   */
  missingBytes(names) {
    return this.#missing(names).reduce((all, name) => all + this.#size(name), 0);
  }

  /**
   * Bring weights to the device, in the given order; those that are there stay as they are.
   * @param {Iterable<string>} names
   * @param {object} [options]
   * @param {AbortSignal} [options.signal]
   * @param {(done: number, total: number) => void} [options.onProgress] in bytes
   * @throws {EngineError} too-large, out-of-memory, device-lost, device-error; PlanError when the
   *   stored bytes are not those of the plan; what the source throws; the signal's reason
   */
  async load(names, { signal, onProgress = () => {} } = {}) {
    const missing = this.#missing(names);
    for (const name of missing) this.#admit(name);
    const total = this.missingBytes(missing);
    let done = 0;
    let waiting = 0;
    if (!missing.length) return;
    await this.#source.prepare?.(missing);
    onProgress(done, total);
    for (const name of missing) {
      signal?.throwIfAborted();
      const size = this.#size(name);
      let buffer;
      try {
        await this.#device.guarded(`allocating ${name}`, () => {
          buffer = this.#device.createBuffer(size, name);
        });
        let end = 0;
        for await (const { offset, bytes } of this.#source.pieces(name, { signal })) {
          signal?.throwIfAborted();
          const fits = offset === end && offset + bytes.length <= size && bytes.length % 4 === 0;
          if (!fits) throw misfit(name, offset + bytes.length, size);
          this.#device.gpu.queue.writeBuffer(buffer, offset, bytes);
          end += bytes.length;
          waiting += bytes.length;
          if (waiting >= MOST_WAITING) {
            await this.#flush();
            waiting = 0;
          }
          onProgress(done + end, total);
        }
        if (end < this.#plan.weights.get(name).bytes) throw misfit(name, end, size);
      } catch (error) {
        if (buffer) this.#device.destroyBuffer(buffer);
        throw error;
      }
      this.#buffers.set(name, buffer);
      done += size;
    }
    this.#device.check();
    onProgress(total, total);
  }

  /**
   * @param {string} name of a loaded weight
   * @returns {GPUBuffer} bound whole
   */
  buffer(name) {
    const buffer = this.#buffers.get(name);
    if (!buffer) throw new EngineError('bad-request', `The weight ${name} is not loaded.`);
    return buffer;
  }

  /**
   * Let go of all weights but some.
   * @param {Iterable<string>} [keep] their names
   */
  release(keep = []) {
    const kept = new Set(keep);
    for (const [name, buffer] of this.#buffers) {
      if (kept.has(name)) continue;
      this.#device.destroyBuffer(buffer);
      this.#buffers.delete(name);
    }
  }

  #missing(names) {
    return [...new Set(names)].filter((name) => !this.#buffers.has(name));
  }

  #size(name) {
    return aligned(this.#plan.weights.get(name).bytes);
  }

  #admit(name) {
    const size = this.#size(name);
    if (size > this.#device.largestBinding) throw tooLarge(name, size, this.#device.largestBinding);
  }

  async #flush() {
    this.#device.gpu.queue.submit([]);
    await this.#device.finished();
  }
}

/**
 * @param {string} what does not fit @param {number} bytes it takes @param {number} most that fit
 * @returns {EngineError}
 */
export function tooLarge(what, bytes, most) {
  const megabytes = (count) => `${Math.ceil(count / 2 ** 20)} MB`;
  return new EngineError('too-large',
    `This device takes at most ${megabytes(most)} in one piece, and ${what} has`
    + ` ${megabytes(bytes)}. A smaller picture or another device may do.`);
}

const misfit = (name, place, size) => new PlanError(
  `${name} has bytes up to ${place} where the plan has ${size}`);
