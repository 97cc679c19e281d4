// Which variants of kernels a device takes: the fastest of a short trial.
//
// For each class of static/wgsl/variants.json every variant that the device can run computes the
// same product or attention (trial.json) for some hundredths of a second. What was found is kept,
// for this adapter in this browser with these shaders. A software adapter is not tried: it takes
// what compiles soonest. queue/diffusion/backends/wgpu_trial.py does the same.

import { readPlan, shaderFiles } from './plan.js';
import { openRun } from './run.js';
import { Shaders } from './shaders.js';
import { BASELINE, BROUGHT, Choice, runsWith } from './variants.js';
import { Weights } from './weights.js';

const SAMPLES = 3;
const SAMPLE_MS = 10; // of several runs together, where one is shorter
const MOST_RUNS = 50;
const CLASS_MS = 300; // of samples, unless one of each variant takes longer
const CLEARLY_FASTER = 0.95; // of the baseline's time; less may be chance
const WORTH_DIGITS = 0.8; // of the baseline's time, for what multiplies in f16
const CACHE = 'p2pweb-kernels';
const MOST_KEPT = 8; // adapters and versions

/**
 * Chooses for this device, which takes the variants from then on.
 * @param {import('./device.js').Device} device
 * @param {import('./variants.js').Variants} table
 * @param {() => Promise<string>} readTrial the text of trial.json
 * @param {import('./shaders.js').ReadShader} readShader
 * @returns {Promise<Choice>}
 * @throws {EngineError} bad-shader, device-lost, device-error; a variant that does not run is left
 *   out
 */
export async function chooseVariants(device, table, readTrial, readShader) {
  if (device.info.software) return device.choose(Choice.forSoftware(table));
  const plan = readPlan(await readTrial());
  const runnable = Object.entries(table.classes).map(([name, { tried }]) => [name,
    tried.filter((one) => runsWith(table.variants[one], device.gpu.features, device.gpu.limits))]);
  const key = await keyOf(device, table, plan, readShader);
  const kept = await recall(key);
  if (runnable.every(([name, names]) => names.includes(kept?.[name]))) {
    return device.choose(new Choice(table, kept));
  }
  const found = {};
  for (const [name, names] of runnable) {
    found[name] = names.length > 1
      ? await fastest(device, table, plan, readShader, name, names) : BASELINE;
  }
  await keep(key, found);
  return device.choose(new Choice(table, found));
}

async function fastest(device, table, plan, readShader, kind, names) {
  const times = new Map();
  for (const name of names) {
    device.choose(new Choice(table, { [kind]: name }));
    try {
      times.set(name, await time(device, plan, readShader, kind, CLASS_MS / names.length));
    } catch (error) {
      if (error.code !== 'bad-shader' && error.code !== 'out-of-memory') throw error;
    }
  }
  return bestOf(table, times);
}

/**
 * @param {import('./variants.js').Variants} table
 * @param {Map<string, number>} times ms by variant
 * @returns {string} the baseline, unless another is clearly faster
 */
export function bestOf(table, times) {
  const baseline = times.get(BASELINE) ?? Infinity;
  const enough = (name) =>
    (table.variants[name].imports ? WORTH_DIGITS : CLEARLY_FASTER) * baseline;
  const faster = [...times].filter(([name, ms]) => name !== BASELINE && ms < enough(name));
  return faster.reduce((a, b) => (b[1] < a[1] ? b : a), [BASELINE, Infinity])[0];
}

/** Milliseconds of one run of a stage, the least of several samples. budgetMs: of all samples. */
async function time(device, plan, readShader, stage, budgetMs) {
  const weights = new Weights(device, plan, {
    pieces: async function* (name) {
      yield { offset: 0, bytes: halves(plan.weights.get(name).bytes / 2) };
    },
  });
  const context = { device, plan, weights, shaders: new Shaders(device, readShader) };
  const run = await openRun(context, {}, { [stage]: null });
  try {
    for (const [name, { role }] of plan.stages.get(stage).tensors) {
      if (role === 'input') run.write(name, floats(run.shape(name).reduce((a, b) => a * b)));
    }
    await run.run([stage]); // the first time it is measured by its pace
    await device.finished();
    const first = performance.now();
    let least = Infinity;
    let runs = 1;
    for (let sample = 0; sample <= SAMPLES; sample++) {
      const began = performance.now();
      await run.run(Array(runs).fill(stage));
      await device.finished();
      const ms = (performance.now() - began) / runs;
      least = Math.min(least, ms);
      runs = Math.min(Math.max(Math.floor(SAMPLE_MS / ms), 1), MOST_RUNS);
      if (performance.now() - first > budgetMs) break;
    }
    return least;
  } finally {
    run.close();
    weights.release();
  }
}

// Zeros would be computed faster than a model's numbers.
const PERIOD = 65_521; // of random numbers

function floats(count) {
  const some = Float32Array.from({ length: PERIOD }, () => Math.random() - 0.5);
  return Float32Array.from({ length: count }, (_, index) => some[index % PERIOD]);
}

/** f16 of either sign from 0.125 to 0.25, as bytes */
function halves(count) {
  const some = Uint16Array.from({ length: PERIOD }, () => Math.random() * 2 ** 16)
    .map((bits) => (bits & 0x83ff) | 0x3000);
  return new Uint8Array(
    Uint16Array.from({ length: count }, (_, index) => some[index % PERIOD]).buffer);
}

// What was found ------------------------------------------------------------------------------
/** Changes with whatever decides on times. */
async function keyOf({ info }, table, plan, readShader) {
  const { description, vendor, architecture } = info;
  const texts = await Promise.all([...shaderFiles(plan), ...BROUGHT].map(readShader));
  const decides = JSON.stringify([
    description, vendor, architecture, globalThis.navigator?.userAgent, table]);
  const all = new Blob([decides, ...texts]);
  const digest = await crypto.subtle.digest('SHA-256', await all.arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const addressOf = (key) => `https://kernels.invalid/${key}`; // nothing is ever asked there

/** Null where nothing is known, or where this browser keeps nothing. */
async function recall(key) {
  try {
    const cache = await caches.open(CACHE);
    return await (await cache.match(addressOf(key)))?.json() ?? null;
  } catch {
    return null;
  }
}

async function keep(key, found) {
  try {
    const cache = await caches.open(CACHE);
    await cache.put(addressOf(key), new Response(JSON.stringify(found)));
    const keys = await cache.keys();
    for (const old of keys.slice(0, -MOST_KEPT)) await cache.delete(old);
  } catch {
    // The next start tries again
  }
}
