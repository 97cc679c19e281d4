// What static/js/engine finds in browsers and Node lacks: Workers with `self`, and modules that end
// in .js. Loaded first: node --import ./benchmarks/engine_in_node.mjs SCRIPT
//
// In a Worker of that kind this same file runs before the Worker's own module.

import { register } from 'node:module';
import { isMainThread, parentPort, Worker as Thread, workerData } from 'node:worker_threads';

// Files below static/js/ are modules whatever a package.json says.
const HOOKS = `
  import { readFile } from 'node:fs/promises';
  export async function load(url, context, next) {
    if (!/\\/static\\/js\\/.*\\.js$/.test(url)) return next(url, context);
    return { format: 'module', source: await readFile(new URL(url)), shortCircuit: true };
  }`;
register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);

/** As browsers have it, as far as the engine uses it. */
globalThis.Worker = class {
  #thread;

  constructor(url) {
    this.#thread = new Thread(new URL(import.meta.url), { workerData: { module: String(url) } });
    this.#thread.on('message', (data) => this.onmessage?.({ data }));
    this.#thread.on('error', ({ message }) => this.onerror?.({ message }));
  }

  postMessage(message, transfer) {
    this.#thread.postMessage(message, transfer);
  }

  terminate() {
    this.#thread.terminate();
  }
};

if (!isMainThread && workerData?.module) {
  globalThis.self = globalThis;
  self.postMessage = (message, transfer) => parentPort.postMessage(message, transfer);
  await import(workerData.module);
  parentPort.on('message', (data) => self.onmessage?.({ data }));
}
