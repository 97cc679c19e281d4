// Runs a file of programs (see programs.py) with Dawn in Node: seconds of each, and what it reads.
//
// node benchmarks/programs_dawn.mjs DAWN PROGRAMS.json RESULTS.json FOLDER [SECONDS] [TOGGLES]
// DAWN: the npm package "webgpu", its folder or its dawn.node

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [dawn, programsPath, resultsPath, folder, seconds = '0.3', toggles = ''] = process.argv.slice(2);
const { create } = createRequire(import.meta.url)(dawn);
const flags = ['backend=vulkan', ...(toggles ? [`enable-dawn-features=${toggles}`] : [])];
const gpu = globalThis.gpu = create(flags); // whoever lets go of it loses the device
const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
const device = await adapter.requestDevice({
  requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
device.onuncapturederror = ({ error }) => { console.error(error.message); process.exit(1); };
const USAGE = { read: 0x1 | 0x8, storage: 0x80 | 0x4 | 0x8, uniform: 0x40 | 0x8 };
const KINDS = { f32: 0, f16: 1, u32: 2 };

const { modules, programs } = JSON.parse(readFileSync(programsPath, 'utf8'));
modules.fill = readFileSync(new URL('fill.wgsl', import.meta.url), 'utf8');
mkdirSync(folder, { recursive: true });
const nothing = device.createBuffer({ size: 16, usage: USAGE.storage });
const pipelines = new Map();

function pipelineOf(module, types) {
  const key = `${module} ${types}`;
  if (!pipelines.has(key)) {
    const layout = device.createBindGroupLayout({
      entries: ['uniform', ...types].map((type, binding) => (
        { binding, visibility: 4, buffer: { type } })),
    });
    pipelines.set(key, device.createComputePipelineAsync({
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: device.createShaderModule({ code: modules[module] }), entryPoint: 'main' },
    }).then((pipeline) => ({ pipeline, layout })));
  }
  return pipelines.get(key);
}

async function command(module, sizes, buffers, writes, workgroups) {
  const types = buffers.map((_, index) => (writes.includes(index) ? 'storage' : 'read-only-storage'));
  const { pipeline, layout } = await pipelineOf(module, types);
  const uniform = device.createBuffer({ size: 256, usage: USAGE.uniform });
  device.queue.writeBuffer(uniform, 0, sizes);
  const group = device.createBindGroup({
    layout, entries: [uniform, ...buffers].map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return { pipeline, group, workgroups };
}

function submit(commands, times = 1) {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (let time = 0; time < times; time += 1) {
    for (const { pipeline, group, workgroups } of commands) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
    }
  }
  pass.end();
  device.queue.submit([encoder.finish()]);
}

// A small copy that is mapped: it comes after all work before it
async function read(buffer, first, bytes) {
  const copy = device.createBuffer({ size: bytes, usage: USAGE.read });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, first, copy, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await copy.mapAsync(1);
  const data = copy.getMappedRange().slice(0);
  copy.destroy();
  return data;
}

async function timed(commands, times) {
  const start = performance.now();
  submit(commands, times);
  await read(nothing, 0, 16);
  return (performance.now() - start) / 1000 / times;
}

// The same dispatches together: how often, and how long all of them take alone
async function partsOf(program, commands, long) {
  const alike = new Map();
  for (const [index, step] of program.steps.entries()) {
    alike.set(keyOf(step), [...(alike.get(keyOf(step)) ?? []), index]);
  }
  const parts = [];
  for (const indices of alike.values()) {
    const { shader, sizes, operations } = program.steps[indices[0]];
    const group = indices.map((index) => commands[index]);
    const once = await timed(group, 1);
    const taken = await timed(group, Math.max(1, Math.min(200, Math.round(long / once))));
    parts.push({ shader, sizes, count: indices.length, seconds: taken,
      tflops: operations * indices.length / taken / 1e12 });
  }
  return parts.sort((a, b) => b.seconds - a.seconds);
}

const keyOf = ({ module, sizes }) => `${module} ${sizes}`;

async function run(program) {
  const buffers = program.buffers.map(({ bytes }) => (
    device.createBuffer({ size: bytes, usage: USAGE.storage })));
  const fills = await Promise.all(program.buffers.map(({ bytes, values, scale }, number) => {
    const sizes = new Uint32Array([bytes / 4, number, KINDS[values], 0]);
    new Float32Array(sizes.buffer)[3] = scale;
    return command('fill', sizes, [buffers[number]], [0], [Math.min(Math.ceil(bytes / 1024), 4096), 1, 1]);
  }));
  const start = performance.now();
  const commands = await Promise.all(program.steps.map((step) => command(
    step.module, new Uint32Array(step.sizes),
    step.buffers.map((place) => (place < 0 ? nothing : buffers[place])), step.writes, step.workgroups)));
  const compile = (performance.now() - start) / 1000;
  submit(fills);
  submit(commands);
  for (const [number, [place, first, bytes]] of program.read.entries()) {
    writeFileSync(`${folder}/${program.name}.${number}`, new Uint8Array(await read(buffers[place], first, bytes)));
  }
  const once = await timed(commands, 1);
  const times = Math.max(1, Math.min(200, Math.round(Number(seconds) / 3 / once)));
  let best = Infinity;
  const began = performance.now();
  const worked = process.cpuUsage();
  for (let round = 0; round < 3; round += 1) best = Math.min(best, await timed(commands, times));
  const { user, system } = process.cpuUsage(worked);
  const processor = (user + system) / 1000 / (performance.now() - began);
  const parts = commands.length > 1 ? await partsOf(program, commands, Number(seconds) / 10) : [];
  for (const buffer of buffers) buffer.destroy();
  return { name: program.name, seconds: best, compile, processor,
    tflops: program.operations / best / 1e12, parts };
}

const description = `${adapter.info.vendor} ${adapter.info.architecture} ${adapter.info.device} ${adapter.info.description}`;
console.log('dawn', description);
const results = [];
for (const program of programs) {
  const result = await run(program);
  results.push(result);
  console.log(`dawn ${result.name.padEnd(34)} ${result.seconds.toFixed(6)} s ${result.tflops.toFixed(3).padStart(8)} TFLOP/s, made in ${result.compile.toFixed(2)} s`);
  for (const { count, shader, seconds: taken, tflops, sizes } of result.parts.slice(0, 12)) {
    console.log(`       ${String(count).padStart(3)} x ${shader.padEnd(20)} ${taken.toFixed(6)} s ${tflops.toFixed(3).padStart(8)} TFLOP/s [${sizes}]`);
  }
  writeFileSync(resultsPath, JSON.stringify({ device: description, results }));
}
process.exit(0);
