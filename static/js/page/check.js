// The page `/check`: what this browser can do, held to what Python computed.
//
// `window.checkResult` is the same for programs: {done, error, adapter, kernels, flops, model, fits,
// segments, picture, latents, submissions}. `latents` is a safetensors file in base64.

const query = new URLSearchParams(location.search);
const page = document.querySelector('main');
const result = {
  done: false, error: null, adapter: null, kernels: [], flops: null, model: null, fits: null,
  segments: [], picture: null, latents: null, submissions: null,
};
window.checkResult = result;

const part = (name) => page.querySelector(`[data-part="${name}"]`);
const say = (text) => { part('status').textContent = text; };
const show = (name) => { part(name).hidden = false; };

const decimals = (value, digits = 2) => value.toLocaleString('en', { maximumSignificantDigits: digits });
const bytesText = (bytes) => (bytes < 1e6
  ? `${decimals(bytes / 1e3, 3)} kB` : `${decimals(bytes / 1e6, 3)} MB`);
const errorText = (value) => {
  if (value === null || Number.isNaN(value)) return '–';
  return value === 0 ? 'exact' : value.toExponential(1);
};
const speedText = (flops) => (flops < 1e12
  ? `${decimals(flops / 1e9)} GFLOP/s` : `${decimals(flops / 1e12)} TFLOP/s`);

const HEARD = {
  adapter({ kind, ...adapter }) {
    result.adapter = adapter;
    const { description, software, promising, features, limits } = adapter;
    fill('device', [
      ['Processor', description + (software ? ' (computed by the main processor)' : '')],
      ['Useful extras', promising.join(', ') || 'none; none is needed'],
      ['Largest buffer', bytesText(limits.maxBufferSize)],
      ['Largest piece a shader may read', bytesText(limits.maxStorageBufferBindingSize)],
    ]);
    part('features').textContent = features.join(', ') || 'none';
    show('device');
    say('Checking the kernels.');
  },
  kernel({ result: kernel, number, total }) {
    result.kernels.push(kernel);
    const { name, ok, error, gflops, problem } = kernel;
    row('kernels', name, [
      verdict(ok, problem), errorText(error), gflops === null ? '' : decimals(gflops),
    ]);
    show('kernels');
    say(`Checking the kernels: ${number} of ${total}.`);
  },
  speed({ flops }) {
    result.flops = flops;
    fill('speed', [['Matrix products', speedText(flops)]]);
    show('speed');
  },
  progress({ progress: { kind, done, total } }) {
    const doing = { download: 'Downloading', load: 'Loading', compile: 'Compiling shaders' }[kind];
    const amount = kind === 'compile' ? `${done} of ${total}` : `${bytesText(done)} of ${bytesText(total)}`;
    say(`${doing}: ${amount}.`);
  },
  fits({ kind, stages, operations, seconds, ...model }) {
    result.model = model;
    result.fits = { stages, operations, seconds };
    const { about } = model;
    part('model-title').textContent = `${about.title}, ${model.variant}`;
    part('estimate').textContent = `One picture of ${about.default_width} x ${about.default_height}`
      + ` pixels in ${about.default_steps} steps takes ${decimals(operations / 1e12)} TFLOP: about`
      + ` ${duration(seconds)} here.`;
    for (const { name, weights, pool, shared, fits } of stages) {
      row('stages', name, [fits ? 'yes' : 'no', bytesText(weights), bytesText(pool + shared)]);
    }
    show('model');
    say('Checking the segments of the model.');
  },
  segment({ result: segment, number, total }) {
    result.segments.push(segment);
    const { name, ok, relativeL2, milliseconds, bytes, problem } = segment;
    row('segments', name, [
      verdict(ok, problem), errorText(relativeL2),
      milliseconds === null ? '–' : decimals(milliseconds), bytesText(bytes),
    ]);
    show('segments');
    say(`Checking the segments: ${number} of ${total}.`);
  },
  step({ step, steps }) {
    say(`Making a picture: step ${step} of ${steps}.`);
  },
  picture({ pixels, latents, seconds, submissions }) {
    const { width, height, rgba } = pixels;
    result.picture = { width, height, seconds };
    result.latents = base64(latents);
    result.submissions = submissions;
    const canvas = part('canvas');
    canvas.width = width;
    canvas.height = height;
    canvas.getContext('2d').putImageData(new ImageData(rgba, width, height), 0, 0);
    part('picture-text').textContent = `Made in this tab in ${duration(seconds)}, with`
      + ` ${submissions} submissions to the graphics processor.`;
    show('picture');
  },
  question({ request: { bytes, title } }) {
    part('agree-text').textContent = `To check ${title ?? 'this model'}, ${bytesText(bytes)} have to`
      + ' be downloaded. They stay in this browser for the next time.';
    show('agree');
    say('Waiting for your word.');
  },
  done() {
    const wrong = [...result.kernels, ...result.segments].filter(({ ok }) => !ok).length;
    end(wrong === 0 ? 'All is as it should be.' : `${wrong} of the checks failed: see below.`);
  },
  error({ code, message }) {
    result.error = { code, message };
    end(message);
    if (code === 'software-only') show('software');
  },
};

function end(text) {
  result.done = true;
  page.removeAttribute('aria-busy');
  say(text);
  const report = new Blob([JSON.stringify(result, null, 1)], { type: 'application/json' });
  const link = part('report');
  link.href = URL.createObjectURL(report);
  link.hidden = false;
}

/** Lines of a description list. */
function fill(name, lines) {
  const list = part(name).querySelector('dl');
  list.replaceChildren(...lines.map(([term, value]) => {
    const line = document.createElement('div');
    line.append(element('dt', term), element('dd', value));
    return line;
  }));
}

function row(name, head, cells) {
  const line = document.createElement('tr');
  const first = element('th', head);
  first.scope = 'row';
  line.append(first, ...cells.map((cell) => (
    cell instanceof Node ? cell : element('td', cell))));
  part(name).querySelector('tbody').append(line);
}

function verdict(ok, problem) {
  const cell = element('td', ok ? 'right' : (problem ?? 'wrong'));
  if (!ok) cell.className = 'wrong';
  return cell;
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function duration(seconds) {
  if (seconds < 60) return `${decimals(seconds)} s`;
  if (seconds < 3600) return `${decimals(seconds / 60)} minutes`;
  return `${decimals(seconds / 3600)} hours`;
}

function base64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 2 ** 15) {
    text += String.fromCharCode(...bytes.subarray(at, at + 2 ** 15));
  }
  return btoa(text);
}

/** The model that the address names, as the site's list has it. */
async function modelAsked() {
  const name = query.get('model');
  if (!name) return null;
  const variant = query.get('variant') ?? 'f16';
  const { packages } = await (await fetch(page.dataset.packages)).json();
  const found = packages.find((entry) => entry.model === name && entry.variant === variant);
  if (!found) throw new Error(`This site has no package of ${name} in ${variant}.`);
  const manifest = new URL(found.url, location.href);
  return {
    packageUrl: new URL('.', manifest).href,
    referencesUrl: new URL('../references.safetensors', manifest).href,
    picture: pictureAsked(),
  };
}

/** With `&prompt=` a picture is made too. */
function pictureAsked() {
  const prompt = query.get('prompt');
  if (prompt === null) return null;
  const number = (key, otherwise) => Number(query.get(key) ?? otherwise);
  return {
    prompt,
    negativePrompt: query.get('negative_prompt') ?? '',
    seed: number('seed', 0),
    steps: number('steps', 8),
    guidance: number('guidance', 3),
    width: number('width', 128),
    height: number('height', 128),
  };
}

async function start() {
  const { wgsl, kernels, worker: source } = page.dataset;
  const here = (path) => new URL(path, location.href).href;
  const model = await modelAsked();
  const worker = new Worker(here(source), { type: 'module' });
  worker.onmessage = ({ data }) => HEARD[data.kind](data);
  worker.onerror = ({ message }) => HEARD.error({
    code: 'worker-failed', message: `The check could not be started: ${message || 'not loaded'}.`,
  });
  for (const agreed of [true, false]) {
    part(agreed ? 'yes' : 'no').addEventListener('click', () => {
      part('agree').hidden = true;
      worker.postMessage({ answer: agreed });
    });
  }
  worker.postMessage({
    ask: {
      wgslUrl: here(wgsl),
      kernelsUrl: here(kernels),
      allowSoftware: query.get('allow-software-gpu') === '1',
      model,
    },
  });
}

const again = new URLSearchParams(query);
again.set('allow-software-gpu', '1');
part('software').querySelector('a').href = `?${again}`;
start().catch((error) => HEARD.error({ code: 'failed', message: error.message }));
