// Holds a device to what Python computed: every kernel to its twin, every segment of a model to its
// reference, and measures how fast it is. What the page `/check` shows.
//
// Errors are relative L2: the length of the difference over the length of what should be.

import { openRun } from './run.js';
import { stageFlops } from './flops.js';
import { EngineError } from './errors.js';
import { dispatchesOf, readPlan } from './plan.js';
import { fromBytes, metadataIn } from './safetensors.js';
import { Shaders } from './shaders.js';
import { stageMemory, symbolValues } from './sizes.js';
import { Weights } from './weights.js';

const KERNELS_FORMAT = 'p2pweb-kernels';
const REFERENCES_FORMAT = 'p2pweb-references';
const STAGE = 'only'; // of a case's plan
const TOKEN_ROWS = 'token_rows'; // an input that is the packing's own
const REPEATS = 5; // of a timed run; the median counts
const LONG_ENOUGH_MILLISECONDS = 20; // to be measured
const SPEED_INNER = 512;

/** How far a segment may be off, by the type that its weights are stored in. */
export const TOLERANCES = new Map([['f32', 1e-4], ['f16', 5e-3], ['int8', 2e-2], ['int4', 1e-1]]);

/**
 * @typedef {object} KernelResult
 * @property {string} name @property {boolean} ok
 * @property {number|null} error null where it did not run; then `problem` says why
 * @property {string} [problem]
 * @property {number|null} gflops of this small case; null for what only moves numbers
 *
 * @typedef {object} SegmentResult
 * @property {string} name stage/segment @property {boolean} ok
 * @property {number|null} relativeL2 of the worst of its tensors
 * @property {string} [problem]
 * @property {number|null} milliseconds of its small run, weights loaded
 * @property {number} bytes of its weights
 */

/**
 * Runs every case of a file that Python's `kernel_cases.kernel_file` wrote.
 * @param {import('./device.js').Device} device
 * @param {import('./shaders.js').ReadShader} readShader
 * @param {Uint8Array} file
 * @param {object} [options]
 * @param {(result: KernelResult, number: number, total: number) => void} [options.onResult]
 * @param {(done: number, total: number) => void} [options.onCompile] of different pipelines
 * @param {AbortSignal} [options.signal]
 * @returns {Promise<KernelResult[]>}
 * @throws {EngineError} bad-tensors; device-lost; the signal's reason. A kernel that fails is a
 *   result
 */
export async function checkKernels(device, readShader, file, options = {}) {
  const { onResult = () => {}, onCompile = () => {}, signal } = options;
  const metadata = metadataIn(file);
  if (metadata.format !== KERNELS_FORMAT) {
    throw new EngineError('bad-tensors', 'The file of kernels is not one.');
  }
  const tensors = new Map(Object.entries(fromBytes(file)));
  const cases = JSON.parse(metadata.cases);
  const shaders = new Shaders(device, readShader);
  const plans = cases.map(({ plan }) => planOr(plan));
  await compileAhead(device, shaders, plans, onCompile);
  const results = [];
  for (const [number, { name, tolerance }] of cases.entries()) {
    signal?.throwIfAborted();
    const result = await attempt(device, { name, ok: false, error: null, gflops: null },
      async (found) => {
        const plan = plans[number];
        if (plan instanceof EngineError) throw plan;
        const weights = new Weights(device, plan, { pieces: weightsIn(tensors, number) });
        try {
          await runCase(found, { device, plan, weights, shaders }, tensors, number);
        } finally {
          weights.release();
        }
        found.ok = found.error <= tolerance;
      });
    results.push(result);
    onResult(result, number + 1, cases.length);
  }
  return results;
}

/** The plan in a text, or what is wrong with it: that is a result of its case. */
function planOr(text) {
  try {
    return readPlan(text);
  } catch (error) {
    return error;
  }
}

/** All pipelines at once, which browsers make on several threads. Problems are their cases' own. */
async function compileAhead(device, shaders, plans, onCompile) {
  const dispatches = plans.flatMap((plan) => (
    plan instanceof EngineError ? [] : dispatchesOf(plan, STAGE)));
  await attempt(device, {}, () => shaders.pipelines(dispatches, onCompile));
}

async function runCase(found, context, tensors, number) {
  const run = await openRun(context, {}, { [STAGE]: null }, { poison: true });
  try {
    const given = partOf(tensors, `${number}/in/`);
    const expected = partOf(tensors, `${number}/out/`);
    for (const [tensor, { data }] of given) run.write(tensor, data);
    const values = await run.run([STAGE], [...expected.keys()]);
    found.error = Math.max(...[...expected.values()].map((tensor, index) =>
      relativeL2(values[index], tensor.data)));
    const flops = stageFlops(context.plan, STAGE, symbolValues(context.plan, {}));
    if (flops) found.gflops = flops / await seconds(context.device, run, STAGE) / 1e9;
  } finally {
    run.close();
  }
}

/**
 * Runs every segment of a model's plan, each begun from the reference before it.
 * @param {object} model
 * @param {import('./device.js').Device} model.device
 * @param {import('./plan.js').Plan} model.plan
 * @param {import('./shaders.js').Shaders} model.shaders
 * @param {Weights} model.weights
 * @param {Record<string, string>} model.dtypes by part: how its weights are stored
 * @param {(ids: Uint32Array) => Promise<Uint8Array>} model.tokenRows rows of the embedding, as the
 *   plan's `token_rows` holds them
 * @param {Uint8Array} file that Python's `references.references` wrote
 * @param {object} [options]
 * @param {(result: SegmentResult, number: number, total: number) => void} [options.onResult]
 * @param {AbortSignal} [options.signal]
 * @returns {Promise<SegmentResult[]>}
 * @throws {EngineError} bad-tensors; device-lost; the signal's reason. A segment that fails is a
 *   result
 */
export async function checkSegments(model, file, { onResult = () => {}, signal } = {}) {
  const { device, plan, weights } = model;
  const metadata = metadataIn(file);
  if (metadata.format !== REFERENCES_FORMAT) {
    throw new EngineError('bad-tensors', 'The file of references is not one.');
  }
  const tensors = new Map(Object.entries(fromBytes(file)));
  const sizes = JSON.parse(metadata.symbols);
  const known = new Map([[TOKEN_ROWS, await model.tokenRows(tensors.get('ids').data)]]);
  // The stage `band` has no references of its own: it is made of the kernels and weights of `decode`
  const names = [...plan.stages]
    .filter(([stage]) => [...tensors.keys()].some((name) => name.startsWith(`${stage}/`)))
    .flatMap(([stage, { segments }]) => segments.map(({ name }) => [stage, name]));
  const results = [];
  let inputs;
  for (const [stage, segment] of names) {
    signal?.throwIfAborted();
    if (segment === plan.stages.get(stage).segments[0].name) {
      inputs = new Map([...known, ...valuesOf(partOf(tensors, `${stage}/in/`))]);
    }
    const expected = valuesOf(partOf(tensors, `${stage}/${segment}/`));
    const { weights: bytes } = stageMemory(plan, stage, symbolValues(plan, sizes), [segment]);
    const empty = {
      name: `${stage}/${segment}`, ok: false, relativeL2: null, milliseconds: null, bytes,
    };
    const result = await attempt(device, empty, async (found) => {
      await runSegment(found, model, sizes, [stage, segment], inputs, expected);
      found.ok = found.relativeL2 <= toleranceOf(model.dtypes, stage);
    });
    weights.release();
    for (const [tensor, values] of expected) {
      inputs.set(tensor, values);
      known.set(tensor, values);
    }
    results.push(result);
    onResult(result, results.length, names.length);
  }
  return results;
}

async function runSegment(found, model, sizes, [stage, segment], inputs, expected) {
  const run = await openRun(model, sizes, { [stage]: [segment] }, { poison: true });
  try {
    for (const [tensor, { buffer }] of model.plan.stages.get(stage).tensors) {
      if (tensor === TOKEN_ROWS) run.writeBytes(tensor, inputs.get(tensor));
      else if (buffer === null && inputs.has(tensor)) run.write(tensor, inputs.get(tensor));
    }
    const values = await run.run([stage], [...expected.keys()]);
    found.relativeL2 = Math.max(...[...expected.values()].map((reference, index) =>
      relativeL2(values[index], reference)));
    found.milliseconds = 1000 * await seconds(model.device, run, stage, 1);
  } finally {
    run.close();
  }
}

/** What a stage's weights are stored as decides how near it comes. */
function toleranceOf(dtypes, stage) {
  const part = { encode: 'text_encoder', decode: 'vae' }[stage] ?? 'transformer';
  return TOLERANCES.get(dtypes[part]);
}

/**
 * Operations a second in a matrix product that is large enough to fill the device.
 * @param {import('./device.js').Device} device
 * @param {import('./shaders.js').ReadShader} readShader
 * @param {object} dispatch of a matmul, such as a kernel case has, for its constants and imports
 * @param {AbortSignal} [signal]
 * @returns {Promise<number>} FLOP/s
 */
export async function measureSpeed(device, readShader, dispatch, signal) {
  const shaders = new Shaders(device, readShader);
  let best = 0;
  for (let side = 128; side <= 4096; side *= 2) {
    signal?.throwIfAborted();
    const plan = readPlan(JSON.stringify(productOf(dispatch, side)));
    const run = await openRun(
      { device, plan, shaders, weights: new Weights(device, plan, { pieces: () => [] }) }, {},
      { [STAGE]: null });
    try {
      run.write('left', noise(side * SPEED_INNER));
      run.write('right', noise(side * SPEED_INNER));
      const took = await seconds(device, run, STAGE);
      best = Math.max(best, stageFlops(plan, STAGE, symbolValues(plan, {})) / took);
      if (took * 1000 > LONG_ENOUGH_MILLISECONDS) break;
    } finally {
      run.close();
    }
  }
  return best;
}

/** A plan of one matrix product, `side` by `side`, its weight an input: nothing to load. */
function productOf(dispatch, side) {
  const shape = [side, SPEED_INNER];
  return {
    format: 'p2pweb-plan', version: 1, host: {}, symbols: {}, weights: {},
    stages: {
      [STAGE]: {
        tensors: {
          left: { shape, type: 'f32', role: 'input' },
          right: { shape, type: 'f32', role: 'input' },
          out: { shape: [side, side], type: 'f32', role: 'output' },
        },
        segments: [{
          name: STAGE,
          dispatches: [{
            ...dispatch,
            sizes: { ...dispatch.sizes, rows: side, columns: side, inner: SPEED_INNER },
            bindings: dispatch.bindings.map((binding) => {
              if (!binding) return null;
              const [tensor, access] = binding;
              return [tensor === 'weight' ? 'right' : tensor, access];
            }),
          }],
        }],
      },
    },
  };
}

/** Ours are the same every time; zeros would be computed faster than a model's numbers. */
function noise(count) {
  let state = 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** Of one pass of a stage: the median of several, with the device idle before. */
async function seconds(device, run, stage, repeats = REPEATS) {
  const times = [];
  for (let number = 0; number < repeats; number++) {
    await device.finished();
    const began = performance.now();
    await run.run([stage]);
    await device.finished();
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  return Math.max(times[times.length >> 1], 0.01) / 1000;
}

/** `work` fills in the result; what goes wrong is told in it, but for a device that is gone. */
async function attempt(device, result, work) {
  try {
    await work(result);
  } catch (error) {
    if (!(error instanceof EngineError) || device.lost) throw error;
    result.problem = error.message;
  }
  return result;
}

/**
 * ‖ours − reference‖ / ‖reference‖, of numbers as they are (f16 and u32 as whole numbers).
 * @param {ArrayLike<number>} ours @param {ArrayLike<number>} reference of the same length
 * @returns {number} NaN where anything was left unwritten
 */
export function relativeL2(ours, reference) {
  let difference = 0;
  let length = 0;
  for (let i = 0; i < reference.length; i++) {
    difference += (ours[i] - reference[i]) ** 2;
    length += reference[i] ** 2;
  }
  return Math.sqrt(difference / length);
}

function partOf(tensors, prefix) {
  return new Map([...tensors].filter(([name]) => name.startsWith(prefix))
    .map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

const valuesOf = (part) => new Map([...part].map(([name, { data }]) => [name, data]));

const weightsIn = (tensors, number) => async function* (name) {
  yield { offset: 0, bytes: tensors.get(`${number}/weight/${name}`).data };
};
