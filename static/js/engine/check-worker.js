// The Worker of the page `/check`: runs what check.js does, in order, and tells what it finds.
//
// It is sent {ask} once and answers with messages {kind, ...}: adapter, kernel, speed, fits, segment,
// picture, progress, step; question, which waits for {answer}; at last done or error.

import { BAND, bandsThatFit } from './bands.js';
import { checkKernels, checkSegments, measureSpeed } from './check.js';
import { openDevice } from './device.js';
import { EngineError } from './errors.js';
import { stageFlops } from './flops.js';
import { metadataIn, toBytes } from './safetensors.js';
import { openSession } from './session.js';
import { shadersAt } from './shaders.js';
import { stageMemory, symbolValues, typicalSizes } from './sizes.js';

const LIMITS = [
  'maxBufferSize', 'maxStorageBufferBindingSize', 'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup', 'maxStorageBuffersPerShaderStage',
];
const PROMISING_FEATURES = ['shader-f16', 'subgroups', 'timestamp-query'];

let answered = () => {};

self.onmessage = async ({ data }) => {
  if ('answer' in data) {
    answered(data.answer);
    return;
  }
  try {
    await check(data.ask);
    tell('done');
  } catch (error) {
    tell('error', { code: error.code ?? 'failed', message: error.message });
  }
};

const tell = (kind, what = {}, move = []) => self.postMessage({ kind, ...what }, move);

/**
 * @param {object} ask
 * @param {string} ask.wgslUrl @param {string} ask.kernelsUrl @param {boolean} ask.allowSoftware
 * @param {{packageUrl: string, referencesUrl: string, picture: object|null}|null} ask.model
 */
async function check({ wgslUrl, kernelsUrl, allowSoftware, model }) {
  const device = await openDevice({ allowSoftware });
  try {
    const { limits, features } = await offered(device);
    tell('adapter', {
      ...device.info,
      features: [...features].sort(),
      promising: PROMISING_FEATURES.filter((feature) => features.has(feature)),
      limits: Object.fromEntries(LIMITS.map((name) => [name, limits[name]])),
    });
    const file = await fetched(kernelsUrl);
    const readShader = shadersAt(wgslUrl);
    await checkKernels(device, readShader, file, {
      onResult: (result, number, total) => tell('kernel', { result, number, total }),
      onCompile: (done, total) => tell('progress', { progress: { kind: 'compile', done, total } }),
    });
    const flops = await measureSpeed(device, readShader, matmulIn(file));
    tell('speed', { flops });
    if (model) await checkModel(model, { wgslUrl, allowSoftware }, flops);
  } finally {
    device.destroy();
  }
}

/** What the adapter has: a device lists only what it was asked to use. */
async function offered(device) {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  return { features: adapter?.features ?? new Set(), limits: device.gpu.limits };
}

async function checkModel({ packageUrl, referencesUrl, picture }, options, flops) {
  const session = await openSession(packageUrl, {
    ...options,
    onProgress: (progress) => tell('progress', { progress }),
    confirmDownload: (request) => new Promise((resolve) => {
      answered = resolve;
      tell('question', { request });
    }),
  });
  try {
    const { manifest: { about, modelId, variant }, packageId } = session.reader;
    const parts = session.model.forCheck();
    tell('fits', {
      about, modelId, variant, packageId, ...fits(parts.plan, about, session.device, flops),
    });
    await checkSegments(parts, await fetched(referencesUrl), {
      onResult: (result, number, total) => tell('segment', { result, number, total }),
    });
    if (picture) await draw(session, picture);
  } finally {
    session.close();
  }
}

/** What the model takes at its own size, and about how long one picture would take. */
function fits(plan, about, device, flops) {
  const symbols = symbolValues(plan, typicalSizes(plan, about));
  const { largestBinding } = device;
  const shape = [0, symbols.get('H'), symbols.get('W')];
  const stages = [...plan.stages.keys()].filter((name) => name !== BAND).map((name) => {
    const memory = stageMemory(plan, name, symbols);
    const inBands = name === 'decode' && bandsThatFit(plan, shape, largestBinding) !== null;
    return { name, ...memory, fits: memory.binding <= largestBinding || inBands };
  });
  const count = (stage) => stageFlops(plan, stage, symbols);
  const once = ['prepare', 'modulation', 'decode'].reduce((all, stage) => all + count(stage), 0);
  // Both texts are encoded one after the other; each step runs the denoise stage once
  const operations = once + 2 * count('encode') + about.default_steps * count('denoise');
  return { stages, operations, seconds: operations / flops };
}

async function draw(session, { prompt, negativePrompt, seed, steps, guidance, width, height }) {
  const began = performance.now();
  const conditioning = await session.encode({ prompt, negativePrompt, guidance });
  const { latent, shape } = await session.noise({ seed, width, height });
  const finished = await session.denoise(
    { conditioning, latent, shape, steps, guidance, start: 0, stop: steps },
    { onStep: ({ step }) => tell('step', { step, steps }) });
  const pixels = await session.decode({ latent: finished, shape });
  const seconds = (performance.now() - began) / 1000;
  const latents = toBytes({ latent: { shape, data: finished } });
  tell('picture', { pixels, latents, seconds, ...session.stats() },
    [latents.buffer, pixels.rgba.buffer]);
}

/** The dispatch of the first matrix product among the cases, for its constants and imports. */
function matmulIn(file) {
  const cases = JSON.parse(metadataIn(file).cases);
  const dispatches = cases.flatMap(
    ({ plan }) => JSON.parse(plan).stages.only.segments[0].dispatches);
  return dispatches.find(({ shader, imports }) =>
    shader === 'matmul' && imports.includes('weight_f32'));
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) {
    throw new EngineError('no-references', `${url} could not be loaded: status ${response.status}.`);
  }
  return new Uint8Array(await response.arrayBuffer());
}
