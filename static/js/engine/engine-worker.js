// The Worker of engine.js. It answers {number, call, request} with {number, result} or
// {number, error: {name, code, message}}, tells {number, step} and {progress} meanwhile, and gives
// up a call on {number, cancel}. It asks {question, request} and waits for {question, answer}; a
// question with a number is of that call, and not waited for when the call is given up.

import { orAborted } from './package/abort.js';
import { openSession } from './session.js';

let session = null;
let last = Promise.resolve(); // the call that is being done
const controllers = new Map(); // by call number
const questions = new Map(); // by number
let asked = 0;

const CALLS = {
  async open({ packageUrl, ...options }, { signal }) {
    session = await openSession(packageUrl, {
      ...options,
      signal,
      onProgress: (progress) => self.postMessage({ progress }),
      confirmDownload: (request) => ask(request),
    });
    const { packageId, manifest: { about, modelId, variant } } = session.reader;
    const { device: { info: device }, model: { bandChannels } } = session;
    return { about, modelId, variant, packageId, device, bandChannels };
  },
  encode: (request, options) => session.encode(request, options),
  denoise: (request, options) => session.denoise(request, options),
  denoiseHalf: (request, options) => session.denoiseHalf(request, options),
  decode: (request, options) => session.decode(request, options),
  decodeBands: (request, options) => session.decodeBands(request, options),
  bandShares: (request) => session.bandShares(request),
  noise: (request) => session.noise(request),
  stats: () => session.stats(),
  free: () => session.free(),
};

self.onmessage = ({ data }) => {
  if (data.question) {
    questions.get(data.question)?.(data.answer);
    questions.delete(data.question);
  } else if (data.cancel) {
    controllers.get(data.number)?.abort();
  } else {
    controllers.set(data.number, new AbortController());
    last = last.then(() => answer(data));
  }
};

async function answer({ number, call, request }) {
  const { signal } = controllers.get(number);
  try {
    signal.throwIfAborted();
    const options = {
      signal,
      onStep: (step) => self.postMessage({ number, step }),
      exchange: (mine) => {
        signal.throwIfAborted();
        return orAborted(ask(mine, number), signal);
      },
    };
    self.postMessage({ number, result: await CALLS[call](request, options) });
  } catch (error) {
    const { name, code, message } = error; // a DOMException's code is a number
    const known = typeof code === 'string' ? code : 'worker-failed';
    self.postMessage({ number, error: { name, code: known, message } });
  } finally {
    controllers.delete(number);
  }
}

/** What the page answers, such as whether it agrees to a download. */
function ask(request, number) {
  return new Promise((resolve) => {
    questions.set(++asked, resolve);
    self.postMessage({ question: asked, number, request });
  });
}
