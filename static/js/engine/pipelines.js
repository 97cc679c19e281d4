// The compute pipelines of one device: equal texts with equal bindings are one, made once.

import { EngineError } from './errors.js';

const COMPUTE_STAGE = 0x4; // Node has no global GPUShaderStage

/** @typedef {{pipeline: GPUComputePipeline, layout: GPUBindGroupLayout, id: number}} Pipeline
 *   id: no other pipeline of the device has it */

export class Pipelines {
  #device;
  #made = new Map(); // promises by bindings and text
  #layouts = new Map(); // by bindings
  #last = 0; // id

  /** @param {import('./device.js').Device} device */
  constructor(device) {
    this.#device = device;
  }

  /**
   * @param {string} label of the shader, for messages
   * @param {string} text of the module, without directives; its entry point is `main`
   * @param {boolean[]} writes for each storage buffer from @binding(1) on: whether it is written
   * @returns {Promise<Pipeline>} the same one for the same text and bindings
   * @throws {EngineError} bad-shader, device-lost
   */
  get(label, text, writes) {
    const bindings = writes.map((written) => (written ? 'w' : 'r')).join('');
    const key = `${bindings} ${text}`;
    if (!this.#made.has(key)) {
      const pipeline = this.#make(label, text, bindings);
      this.#made.set(key, pipeline);
      pipeline.catch(() => this.#made.delete(key)); // the next one may have more luck
    }
    return this.#made.get(key);
  }

  async #make(label, text, bindings) {
    const { gpu, directives } = this.#device;
    const { group, pipeline: layout } = this.#layout(bindings);
    try {
      const module = await this.#device.guarded(`compiling ${label}`,
        () => gpu.createShaderModule({ label, code: [...directives, text].join('\n') }));
      const pipeline = await this.#device.orLost(gpu.createComputePipelineAsync(
        { label, layout, compute: { module, entryPoint: 'main' } }));
      return { pipeline, layout: group, id: this.#last++ };
    } catch (error) {
      if (error.code === 'device-lost') throw error;
      throw new EngineError('bad-shader',
        `The shader ${label} cannot be compiled for this device: ${error.message}`,
        { cause: error });
    }
  }

  #layout(bindings) {
    if (!this.#layouts.has(bindings)) {
      const { gpu } = this.#device;
      const types = ['uniform', ...Array.from(bindings, (access) =>
        (access === 'w' ? 'storage' : 'read-only-storage'))];
      const group = gpu.createBindGroupLayout({
        entries: types.map((type, binding) => (
          { binding, visibility: COMPUTE_STAGE, buffer: { type } })),
      });
      const pipeline = gpu.createPipelineLayout({ bindGroupLayouts: [group] });
      this.#layouts.set(bindings, { group, pipeline });
    }
    return this.#layouts.get(bindings);
  }
}
