// A package's picture by the engine's own modules on Dawn in Node: seconds, memory, results.
//
// node --import ./benchmarks/engine_in_node.mjs benchmarks/full_size.mjs DAWN REQUEST.json FOLDER
// full_size.py writes REQUEST.json and reads what comes into FOLDER.
//
// Not here: engine.js and engine-worker.js, which only carry messages between a page and a Worker,
// and what a browser stores (OPFS). Everything else runs as in a tab; the tokenizer has its Worker.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { Device } from '../static/js/engine/device.js';
import { openSession } from '../static/js/engine/session.js';

const SAMPLED_EVERY_MS = 20;

const [dawn, requestPath, folder] = process.argv.slice(2);
const request = JSON.parse(readFileSync(requestPath, 'utf8'));
const { create } = createRequire(import.meta.url)(dawn);
const gpu = globalThis.gpu = create(['backend=vulkan']); // whoever lets go of it loses the device

// Peaks since the stage began. JavaScript's: objects and array buffers, garbage included
const peak = { heapBytes: 0, residentBytes: 0, deviceBytes: 0 };
function sample() {
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  peak.heapBytes = Math.max(peak.heapBytes, heapUsed + arrayBuffers);
  peak.residentBytes = Math.max(peak.residentBytes, rss);
}
setInterval(sample, SAMPLED_EVERY_MS).unref();

const { createBuffer } = Device.prototype;
Device.prototype.createBuffer = function (...given) {
  const buffer = createBuffer.apply(this, given);
  peak.deviceBytes = Math.max(peak.deviceBytes, this.bufferBytes);
  return buffer;
};

let downloaded = 0;
let pipelines = { done: 0, began: 0, seconds: 0 };
function onProgress({ kind, done, total }) {
  sample();
  if (kind === 'download') downloaded = Math.max(downloaded, done);
  if (kind !== 'compile') return;
  if (done === 0) pipelines.began = performance.now();
  pipelines.seconds = (performance.now() - pipelines.began) / 1000;
  pipelines.done = total;
}

const stages = [];
async function stage(name, work) {
  Object.assign(peak, {
    heapBytes: 0, residentBytes: 0, deviceBytes: session?.device?.bufferBytes ?? 0,
  });
  pipelines = { done: 0, began: 0, seconds: 0 };
  sample();
  const began = performance.now();
  const result = await work();
  const seconds = (performance.now() - began) / 1000;
  sample();
  stages.push({
    name, seconds, ...peak, downloaded,
    pipelines: pipelines.done, pipelineSeconds: pipelines.seconds,
  });
  console.log(`${name.padEnd(16)} ${seconds.toFixed(3)} s`
    + `  heap ${(peak.heapBytes / 1e6).toFixed(0)} MB, device ${(peak.deviceBytes / 1e6).toFixed(0)} MB`);
  return result;
}

const given = (name) => {
  const { buffer, byteOffset, byteLength } = readFileSync(`${folder}/${name}`);
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
};
const keep = (name, { buffer, byteOffset, byteLength }) =>
  writeFileSync(`${folder}/${name}`, new Uint8Array(buffer, byteOffset, byteLength));

const { prompt, negativePrompt, guidance, seed, width, height, steps } = request;
let session = null;
session = await stage('open', () => openSession(request.package, {
  gpu, wgslUrl: request.shaders, allowSoftware: true, preload: [], onProgress,
  confirmDownload: () => true,
}));

await stage('load encode', () => session.model.load(['encode']));
const conditioning = await stage('encode',
  () => session.encode({ prompt, negativePrompt, guidance }));
for (const [half, { features }] of Object.entries(conditioning)) keep(`ours.${half}`, features);

await stage('load denoise', () => session.model.load(['denoise']));
const { latent, shape } = await session.noise({ seed, width, height });
keep('ours.noise', latent);
const texts = Object.fromEntries(Object.entries(conditioning).map(([half, { tokens }]) => (
  [half, { features: given(`theirs.${half}`), tokens, unsure: [] }])));
const run = { latent, shape, steps, guidance, start: 0 };
keep('ours.first', await stage('first step',
  () => session.denoise({ ...run, conditioning: texts, stop: 1 })));
const times = [performance.now()];
const done = await stage('denoise', () => session.denoise(
  { ...run, conditioning, stop: steps }, { onStep: () => times.push(performance.now()) }));
keep('ours.latent', done);

await stage('load decode', () => session.model.load(['decode']));
keep('ours.decoded', (await stage('decode of theirs',
  () => session.decode({ latent: given('theirs.latent'), shape }))).rgba);
keep('ours.picture', (await stage('decode', () => session.decode({ latent: done, shape }))).rgba);

writeFileSync(`${folder}/ours.json`, JSON.stringify({
  device: session.device.info,
  tokens: Object.values(conditioning).map(({ tokens }) => tokens),
  // The first has the prompt's keys and the modulation before it
  stepSeconds: times.slice(2).map((time, index) => (time - times[index + 1]) / 1000),
  stages,
  ...session.stats(),
}));
session.close();
process.exit(0);
