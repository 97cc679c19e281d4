// A plan at one set of sizes on a device: the executor that docs/plan.md describes.
//
// Everything is made when a run is opened: weights loaded, pipelines compiled, buffers allocated,
// bind groups cached. A step is then one submission, as far as the device is fast enough (pace.js),
// and reads of a step are part of its last one.

import { USAGE } from './device.js';
import { EngineError, PlanError } from './errors.js';
import { boundWeights, dispatchesOf, stageOf, TYPE_BYTES } from './plan.js';
import {
  dispatchSizes, dispatchWorkgroups, poolBytes, symbolValues, tensorBytes, tensorShape,
} from './sizes.js';
import { tooLarge } from './weights.js';

const UNIFORM_STRIDE = 256; // least alignment of a uniform's offset in every WebGPU
const NULL_BYTES = 16;
const WHOLE = [0, 0, 0]; // the first workgroup of a dispatch that is run in one part
const NAN = 0x7fff7fff; // as an f32, and as two f16
const ARRAYS = new Map([['f32', Float32Array], ['f16', Uint16Array], ['u32', Uint32Array]]);

/**
 * @typedef {object} Context what runs share
 * @property {import('./device.js').Device} device
 * @property {import('./plan.js').Plan} plan
 * @property {import('./weights.js').Weights} weights
 * @property {import('./shaders.js').Shaders} shaders
 *
 * @typedef {Record<string, Iterable<string>|null>} Parts
 *   stages, each with the segments that will run, null for all
 */

/**
 * @param {Context} context
 * @param {Record<string, number>} sizes of the plan's symbols, such as {B: 2, T: 12}
 * @param {Parts} parts
 * @param {object} [options]
 * @param {boolean} [options.poison] buffers begin as NaN and not as zeros, for tests
 * @param {AbortSignal} [options.signal]
 * @param {(progress: {kind: 'load'|'compile', done: number, total: number}) => void}
 *   [options.onProgress] in bytes, in pipelines
 * @returns {Promise<PlanRun>} `close` it
 * @throws {EngineError} too-large before anything is allocated; out-of-memory, bad-shader,
 *   device-lost, device-error; PlanError; what loading throws; the signal's reason
 */
export async function openRun(context, sizes, parts, options = {}) {
  const { poison = false, signal, onProgress = () => {} } = options;
  const { device, plan } = context;
  const symbols = symbolValues(plan, sizes);
  for (const stage of Object.keys(parts)) admit(device, plan, stage, symbols);
  const work = Object.entries(parts).flatMap(([stage, wanted]) =>
    (wanted ?? stageOf(plan, stage).segments.map(({ name }) => name)).flatMap((segment) =>
      dispatchesOf(plan, stage, [segment])
        .map((dispatch) => ({ ...sized(device, stage, dispatch, symbols), segment }))));
  const kept = work.filter(({ workgroups }) => !workgroups.includes(0));
  const pipelines = await load(
    context, weightsOf(plan, parts), kept.map(({ dispatch }) => dispatch), signal, onProgress);
  const run = new PlanRun(context, symbols, Object.keys(parts));
  try {
    await device.guarded('preparing a run', () => run.prepare(kept, pipelines, poison));
  } catch (error) {
    run.close();
    throw error;
  }
  return run;
}

/**
 * Bring weights and pipelines of parts to the device before a run needs them.
 * @param {Context} context
 * @param {Record<string, number>} sizes that runs will about have: variants depend on them
 * @param {Parts} parts
 * @param {{signal?: AbortSignal, onProgress?: Function}} [options] as for `openRun`
 * @throws {EngineError} as `openRun`
 */
export async function loadParts(context, sizes, parts, { signal, onProgress = () => {} } = {}) {
  const { device, plan } = context;
  const symbols = symbolValues(plan, sizes);
  const dispatches = Object.entries(parts).flatMap(([stage, segments]) =>
    dispatchesOf(plan, stage, segments)
      .map((dispatch) => sized(device, stage, dispatch, symbols).dispatch));
  await load(context, boundWeights(plan, dispatches), dispatches, signal, onProgress);
}

async function load({ weights, shaders }, names, dispatches, signal, onProgress) {
  await weights.load(names, {
    signal, onProgress: (done, total) => onProgress({ kind: 'load', done, total }),
  });
  const pipelines = await shaders.pipelines(dispatches,
    (done, total) => onProgress({ kind: 'compile', done, total }));
  signal?.throwIfAborted();
  return pipelines;
}

/**
 * Names of the weights that parts of a plan bind, in order of use.
 * @param {import('./plan.js').Plan} plan @param {Parts} parts
 * @returns {string[]}
 */
export const weightsOf = (plan, parts) => boundWeights(plan,
  Object.entries(parts).flatMap(([stage, segments]) => dispatchesOf(plan, stage, segments)));

/** Made by `openRun`. */
export class PlanRun {
  #device;
  #plan;
  #weights;
  #symbols;
  #stages; // names of those that were opened
  #buffers = []; // all that this run has allocated
  #shared = new Map(); // of tensors that are not inner, by name: {buffer, bytes, shape, type}
  #pools = new Map(); // by stage: buffers by number
  #ready = new Map(); // by stage: [{segment, task, pipeline, bind}]

  constructor({ device, plan, weights }, symbols, stages) {
    this.#device = device;
    this.#plan = plan;
    this.#weights = weights;
    this.#symbols = symbols;
    this.#stages = stages;
  }

  /** Allocates and binds; `openRun` calls it once, inside error scopes. */
  prepare(work, pipelines, poison) {
    for (const stage of this.#stages) this.#allocate(stage, poison);
    const uniforms = this.#uniforms(work.map(({ sizes }) => ({ first: WHOLE, sizes })));
    const nothing = this.#buffer(NULL_BYTES, 'nothing');
    for (const [index, { stage, segment, dispatch, sizes, workgroups }] of work.entries()) {
      const { pipeline, layout, id } = pipelines[index];
      const bound = dispatch.bindings.map((binding) => (
        binding ? this.#bound(stage, binding.tensor) : { buffer: nothing, size: NULL_BYTES }));
      const bindTo = (uniform) => this.#device.gpu.createBindGroup({
        label: dispatch.shader,
        layout,
        entries: [uniform, ...bound].map((resource, binding) => ({ binding, resource })),
      });
      const groups = new Map([[WHOLE.join(), bindTo(uniforms[index])]]);
      const bind = (first) => { // for a part of it that begins at this workgroup
        const key = first.join();
        if (!groups.has(key)) groups.set(key, bindTo(this.#uniforms([{ first, sizes }])[0]));
        return groups.get(key);
      };
      const task = { kind: `${id} ${sizes} ${workgroups}`, groups: workgroups };
      this.#ready.get(stage).push({ segment, task, pipeline, bind });
    }
  }

  /**
   * Give a tensor its value.
   * @param {string} name of an input or a state
   * @param {Float32Array|Uint32Array|Uint16Array} value row after row; f16 as its bits
   * @throws {RangeError} for another type or number of values
   */
  write(name, value) {
    const { shape, type } = this.#tensor(name);
    const count = product(shape);
    if (!(value instanceof ARRAYS.get(type)) || value.length !== count) {
      throw new RangeError(
        `${name} is ${type} [${shape}], not ${value.length} of ${value.constructor.name}`);
    }
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    if (bytes.length % 4 === 0) {
      this.writeBytes(name, bytes);
      return;
    }
    const words = new Uint8Array(bytes.length + 2); // f16 may end within a word
    words.set(bytes);
    this.writeBytes(name, words);
  }

  /**
   * Give a tensor its value as bytes, such as a package's.
   * @param {string} name of an input or a state
   * @param {Uint8Array} bytes little-endian, up to the next whole word
   * @throws {RangeError} for another number of bytes
   */
  writeBytes(name, bytes) {
    const { buffer, shape, type } = this.#tensor(name);
    const size = Math.ceil(product(shape) * TYPE_BYTES.get(type) / 4) * 4;
    if (bytes.length !== size) {
      throw new RangeError(`${name} has ${size} bytes, not ${bytes.length}`);
    }
    if (size) this.#device.gpu.queue.writeBuffer(buffer, 0, bytes);
  }

  /**
   * Submit stages, one after the other, and read tensors as they are then.
   * @param {Iterable<string>} stages of those that were opened
   * @param {string[]} [reads] names of outputs or states
   * @param {string[]|null} [segments] of those that were opened; all by default
   * @returns {Promise<(Float32Array|Uint32Array|Uint16Array)[]>} their values. Without any, it does
   *   not wait for the device but where it measures (pace.js), only for errors of the calls
   * @throws {EngineError} device-lost, device-error, out-of-memory
   */
  async run(stages, reads = [], segments = null) {
    const work = [...stages].flatMap((stage) => {
      if (!this.#ready.has(stage)) throw new PlanError(`${stage} was not opened`);
      return this.#ready.get(stage)
        .filter(({ segment }) => !segments || segments.includes(segment));
    });
    const tensors = reads.map((name) => this.#tensor(name));
    const copies = [];
    const submit = (batches, last) => this.#device.guarded(
      `running ${[...stages].join(', ')}`,
      () => this.#submit(work, batches, last ? tensors : [], copies));
    const wait = () => this.#device.finished();
    try {
      await this.#device.pace.run(work.map(({ task }) => task), submit, wait);
      const values = copies.map(async (copy, index) => {
        const { bytes, shape, type } = tensors[index];
        return new (ARRAYS.get(type))(await this.#device.map(copy, bytes), 0, product(shape));
      });
      return await Promise.all(values);
    } finally {
      for (const copy of copies) this.#device.destroyBuffer(copy);
    }
  }

  /**
   * @param {string} name of an output or a state
   * @returns {Promise<Float32Array|Uint32Array|Uint16Array>} its value; waits for the device
   * @throws {EngineError} as `run`
   */
  async read(name) {
    const [value] = await this.run([], [name]);
    return value;
  }

  /**
   * @param {string} name of a tensor that is not inner
   * @returns {number[]}
   */
  shape(name) {
    return this.#tensor(name).shape;
  }

  /** Let go of all buffers but the weights'. The run is over. */
  close() {
    for (const buffer of this.#buffers) this.#device.destroyBuffer(buffer);
    this.#buffers = [];
    this.#shared.clear();
    this.#pools.clear();
    this.#ready.clear();
  }

  /** Of this run's buffers, without weights. */
  get bytes() {
    return this.#buffers.reduce((all, { size }) => all + size, 0);
  }

  #allocate(stageName, poison) {
    const stage = stageOf(this.#plan, stageName);
    this.#ready.set(stageName, []);
    const pool = new Map();
    for (const [number, bytes] of poolBytes(stage, this.#symbols)) {
      pool.set(number, this.#buffer(bytes, `${stageName} pool ${number}`, poison));
    }
    this.#pools.set(stageName, pool);
    for (const [name, tensor] of stage.tensors) {
      if (tensor.buffer !== null || this.#shared.has(name)) continue;
      const bytes = tensorBytes(stage, name, this.#symbols);
      const shape = tensorShape(stage, name, this.#symbols);
      const buffer = this.#buffer(bytes, name, poison);
      this.#shared.set(name, { buffer, bytes, shape, type: tensor.type });
    }
  }

  /** Each batch of parts is one submission; `tensors` are copied in the last one. */
  #submit(work, batches, tensors, copies) {
    const encoders = batches.map((parts) => {
      const encoder = this.#device.gpu.createCommandEncoder();
      encode(encoder, work, parts);
      return encoder;
    });
    if (tensors.length) {
      if (!encoders.length) encoders.push(this.#device.gpu.createCommandEncoder());
      for (const { buffer, bytes } of tensors) {
        const copy = this.#device.createBuffer(bytes, 'read', USAGE.MAP_READ | USAGE.COPY_DST);
        copies.push(copy);
        encoders.at(-1).copyBufferToBuffer(buffer, 0, copy, 0, bytes);
      }
    }
    for (const encoder of encoders) this.#device.submit([encoder.finish()]);
  }

  /** Where the first workgroup and the sizes of each lie; equal ones lie in one place. */
  #uniforms(each) {
    const places = new Map();
    const numbers = each.map(({ first, sizes }) => [...first, ...sizes]);
    const keys = numbers.map((of) => of.join());
    for (const key of keys) if (!places.has(key)) places.set(key, places.size);
    const data = new Uint32Array(Math.max(places.size, 1) * UNIFORM_STRIDE / 4);
    for (const [index, of] of numbers.entries()) {
      data.set(of, places.get(keys[index]) * UNIFORM_STRIDE / 4);
    }
    const buffer = this.#device.createBuffer(
      data.byteLength, 'sizes', USAGE.UNIFORM | USAGE.COPY_DST);
    this.#buffers.push(buffer);
    this.#device.gpu.queue.writeBuffer(buffer, 0, data);
    return keys.map((key) => (
      { buffer, offset: places.get(key) * UNIFORM_STRIDE, size: UNIFORM_STRIDE }));
  }

  #bound(stageName, name) {
    const stage = stageOf(this.#plan, stageName);
    const tensor = stage.tensors.get(name);
    if (!tensor) {
      const buffer = this.#weights.buffer(name);
      return { buffer, offset: 0, size: buffer.size };
    }
    const buffer = tensor.buffer === null
      ? this.#shared.get(name).buffer : this.#pools.get(stageName).get(tensor.buffer);
    return { buffer, offset: 0, size: tensorBytes(stage, name, this.#symbols) };
  }

  #buffer(bytes, label, poison = false) {
    const buffer = this.#device.createBuffer(bytes, label);
    this.#buffers.push(buffer);
    if (poison) {
      this.#device.gpu.queue.writeBuffer(buffer, 0, new Uint32Array(bytes / 4).fill(NAN));
    }
    return buffer;
  }

  #tensor(name) {
    const tensor = this.#shared.get(name);
    if (!tensor) throw new EngineError('bad-request', `This run has no tensor ${name}.`);
    return tensor;
  }
}

function encode(encoder, work, parts) {
  const pass = encoder.beginComputePass();
  let last = null;
  for (const { number, first, groups } of parts) {
    const { pipeline, bind } = work[number];
    if (pipeline !== last) pass.setPipeline(pipeline);
    last = pipeline;
    pass.setBindGroup(0, bind(first));
    pass.dispatchWorkgroups(...groups);
  }
  pass.end();
}

/** A dispatch as the device runs it at these sizes. */
function sized(device, stage, planned, symbols) {
  const sizes = dispatchSizes(planned, symbols);
  const dispatch = device.fitted(planned, sizes);
  const workgroups = dispatchWorkgroups(dispatch, sizes, symbols);
  return { stage, dispatch, sizes: [...sizes.values()], workgroups };
}

/** Refuses a stage that the device could not bind, before anything is allocated. */
function admit(device, plan, stageName, symbols) {
  const stage = stageOf(plan, stageName);
  for (const name of stage.tensors.keys()) {
    const bytes = tensorBytes(stage, name, symbols);
    if (bytes > device.largestBinding) {
      throw tooLarge(`a tensor of the stage ${stageName}`, bytes, device.largestBinding);
    }
  }
}

const product = (numbers) => numbers.reduce((all, number) => all * number, 1);
