// The same pictures by two engines in one page, for onnx_web.py: ours, and onnxruntime-web with
// WebGPU. `ours(options)` and `theirs(options)` open one of them and give
//
//   seconds, device    what it took to be ready; what computes
//   picture(request)   -> {seconds: {encode, steps: [...], decode}, features, latent, picture}
//
// request: {prompt, ids, latent, shape, times, strides, guidance}; ids are those of the texts that
// are computed, the negative one first. Times end when the numbers are here, in the page.

import { openEngine } from '/static/js/engine/engine.js';

const since = (start) => (performance.now() - start) / 1000;

/** Ours: the engine as the site uses it, in its Worker. */
export async function ours({ packageUrl, allowSoftware }) {
  const start = performance.now();
  const engine = await openEngine(packageUrl, {
    allowSoftware, confirmDownload: () => true,
  });
  const opened = { seconds: since(start), device: engine.device };
  return { ...opened, picture: (request) => ourPicture(engine, request) };
}

async function ourPicture(engine, { prompt, latent, shape, times, guidance }) {
  let start = performance.now();
  const conditioning = await engine.encode({ prompt, guidance });
  const encode = since(start);
  const steps = [];
  start = performance.now();
  const done = await engine.denoise({
    conditioning, latent: Float32Array.from(latent), shape, guidance,
    steps: times.length, start: 0, stop: times.length,
  }, { onStep: () => {
    steps.push(since(start));
    start = performance.now();
  } });
  start = performance.now();
  const { rgba } = await engine.decode({ latent: done, shape });
  return {
    seconds: { encode, steps, decode: since(start) },
    features: Array.from(conditioning.prompt.features),
    latent: Array.from(done),
    picture: Array.from(rgba).filter((_, at) => at % 4 < 3),
  };
}

/** onnxruntime-web: three sessions, and what a host does between them. */
export async function theirs({ graphs, allowSoftware }) {
  const ort = await import('/ort/ort.webgpu.bundle.min.mjs');
  ort.env.wasm.wasmPaths = '/ort/';
  ort.env.logLevel = 'error';
  const start = performance.now();
  const sessions = {};
  for (const name of ['encode', 'step', 'decode']) { // one after the other: it cannot do otherwise
    sessions[name] = await ort.InferenceSession.create(`${graphs}${name}.onnx`, {
      executionProviders: ['webgpu'], graphOptimizationLevel: 'all',
    });
  }
  const seconds = since(start);
  const { adapterInfo } = await ort.env.webgpu.device;
  const { vendor, architecture } = adapterInfo;
  const software = /swiftshader/i.test(architecture);
  if (software && !allowSoftware) throw new Error(`${architecture} is a software adapter`);
  return {
    seconds,
    device: { description: `${vendor} ${architecture}`, version: ort.env.versions.web },
    picture: (request) => theirPicture(ort, sessions, request),
  };
}

async function theirPicture(ort, sessions, request) {
  const { ids, latent: noise, shape, times, strides, guidance } = request;
  const run = async (name, feeds, output) => {
    const results = await sessions[name].run(feeds);
    return results[output].getData();
  };
  const floats = (data, dims) => new ort.Tensor('float32', data, dims);
  let start = performance.now();
  const texts = [];
  for (const text of ids) {
    const numbers = BigInt64Array.from(text, BigInt);
    const feeds = { ids: new ort.Tensor('int64', numbers, [1, text.length]) };
    texts.push(text.length ? await run('encode', feeds, 'features') : new Float32Array(0));
  }
  const encode = since(start);
  const longest = Math.max(...ids.map(({ length }) => length));
  const width = texts.at(-1).length / ids.at(-1).length;
  const padded = new Float32Array(ids.length * longest * width);
  const mask = new Uint8Array(ids.length * longest);
  for (const [half, text] of texts.entries()) {
    padded.set(text, half * longest * width);
    mask.fill(1, half * longest, half * longest + ids[half].length);
  }
  const steps = [];
  const latent = Float32Array.from(noise);
  for (const [step, time] of times.entries()) {
    start = performance.now();
    const velocity = await run('step', {
      latent: floats(latent, [1, ...shape]),
      time: floats(Float32Array.of(time), [1]),
      text: floats(padded, [ids.length, longest, width]),
      mask: new ort.Tensor('bool', mask, [ids.length, longest]),
    }, 'velocity');
    const given = (ids.length - 1) * latent.length; // where the prompt's velocity begins
    for (const at of latent.keys()) {
      const towards = velocity[at] + guidance * (velocity[given + at] - velocity[at]);
      latent[at] += strides[step] * (given ? towards : velocity[at]);
    }
    steps.push(since(start));
  }
  start = performance.now();
  const planes = await run('decode', { latent: floats(latent, [1, ...shape]) }, 'picture');
  const pixels = planes.length / 3;
  const picture = Uint8ClampedArray.from(planes, (_, at) => (
    127.5 + 127.5 * planes[(at % 3) * pixels + Math.floor(at / 3)]));
  return {
    seconds: { encode, steps, decode: since(start) },
    features: Array.from(texts.at(-1)), latent: Array.from(latent), picture: Array.from(picture),
  };
}
