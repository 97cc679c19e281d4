// From the dispatches of a plan to the text of their modules, and to pipelines.
//
// - The text of a module is a line for each constant, the imports and the shader itself, joined;
//   nothing else of a plan becomes code.
// - Files come from one local folder by checked names, and their SHA-256 must be the manifest's:
//   otherwise the same plan would mean another computation. What a variant brings is the engine's.

import { EngineError } from './errors.js';
import { Fraction } from './json.js';
import { BROUGHT } from './variants.js';

const NAME = /^(shared\/)?[a-z][a-z0-9_]*$/;

/** @typedef {(name: string) => Promise<Uint8Array>} ReadShader bytes of NAME.wgsl */

/**
 * Reads shaders below an address.
 * @param {string|URL} url of the folder static/wgsl
 * @param {typeof fetch} [fetching]
 * @returns {ReadShader}
 */
export function shadersAt(url, fetching = globalThis.fetch) {
  const folder = String(url).replace(/\/*$/, '/');
  return async (name) => {
    let problem;
    try {
      // Revalidated: an old file out of a cache would have another hash
      const response = await fetching(`${folder}${name}.wgsl`, { cache: 'no-cache' });
      if (response.ok) return new Uint8Array(await response.arrayBuffer());
      problem = `status ${response.status}`;
    } catch (error) {
      problem = error.message;
    }
    throw new EngineError('bad-shader', `The shader ${name} could not be loaded: ${problem}.`);
  };
}

/** The shaders of plans on one device. */
export class Shaders {
  #device;
  #read;
  #hashes;
  #texts = new Map(); // of files, promises by name

  /**
   * @param {import('./device.js').Device} device
   * @param {ReadShader} read
   * @param {Map<string, string>|null} [hashes] the manifest's `wgsl`: SHA-256 by name. null:
   *   whatever the folder holds
   */
  constructor(device, read, hashes = null) {
    this.#device = device;
    this.#read = read;
    this.#hashes = hashes;
  }

  /**
   * The pipelines of dispatches, made at the same time where the device has none yet.
   * @param {import('./plan.js').Dispatch[]} dispatches
   * @param {(done: number, total: number) => void} [onProgress] of different pipelines
   * @returns {Promise<import('./pipelines.js').Pipeline[]>} one each
   * @throws {EngineError} bad-shader, device-lost, device-error
   */
  async pipelines(dispatches, onProgress = () => {}) {
    const texts = await Promise.all(dispatches.map((dispatch) => this.#moduleText(dispatch)));
    const made = dispatches.map(({ shader, bindings }, index) => {
      const writes = bindings.map((binding) => binding?.access === 'write');
      return this.#device.pipelines.get(shader, texts[index], writes);
    });
    const different = new Set(made);
    let done = 0;
    onProgress(done, different.size);
    for (const promise of different) {
      promise.then(() => onProgress(++done, different.size), () => {});
    }
    return this.#device.orLost(Promise.all(made));
  }

  async #moduleText(dispatch) {
    const files = [...dispatch.imports.map((name) => `shared/${name}`), dispatch.shader];
    const constants = [...dispatch.constants]
      .map(([name, value]) => `const ${name} = ${literal(value)};`);
    const texts = await Promise.all(files.map((name) => this.#text(name)));
    return [...constants, ...texts].join('\n');
  }

  #text(name) {
    if (!this.#texts.has(name)) {
      const text = this.#checkedText(name);
      this.#texts.set(name, text);
      text.catch(() => this.#texts.delete(name)); // it may be there the next time
    }
    return this.#texts.get(name);
  }

  async #checkedText(name) {
    if (!NAME.test(name)) throw new EngineError('bad-shader', `'${name}' is no name of a shader.`);
    const bytes = await this.#read(name);
    const pinned = this.#hashes && !BROUGHT.has(name);
    if (pinned && this.#hashes.get(name) !== await sha256(bytes)) {
      throw new EngineError('bad-shader',
        `The shader ${name} of this site is not the one that the model was packed for. Reload the`
        + ' page; if that does not help, the model must be packed again.');
    }
    return new TextDecoder().decode(bytes);
  }
}

/**
 * A constant as WGSL writes it, of the same kind and value as Python's `shaders.literal` gives.
 * @param {import('./plan.js').Constant} value
 * @returns {string}
 */
export function literal(value) {
  if (!(value instanceof Fraction)) return String(value);
  const digits = String(value.value);
  return /[.e]/.test(digits) ? digits : `${digits}.0`;
}

async function sha256(bytes) {
  const digest = await crypto.subtle.digest('SHA-256', bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
