// The named variants of kernels in static/wgsl/variants.json, and how one takes a dispatch's tile.
//
// A plan names the tiles of its matrix products and attention as constants, its own being the
// variant "baseline". Another variant puts other numbers in their place; workgroup counts follow,
// since they are expressions over the same constants. It may also name a file that multiplies in
// f16 instead of the one that does in f32. Which variant a device takes is chosen for
// each class of dispatches: by a short trial (trial.js), on a software adapter the one that
// compiles soonest. queue/diffusion/plan/variants.py does the same.

import { EngineError } from './errors.js';

const FORMAT = 'p2pweb-variants';
const VERSION = 1;
const TILE = ['BUFFERS', 'TILE_K', 'TILE_M', 'TILE_N'];
const IMPORTS = new Map([['multiply_f32', 'multiply_f16']]);

export const BASELINE = 'baseline';

/** Names of shader files that variants bring: this folder's own, whatever a manifest pins. */
export const BROUGHT = new Set([...IMPORTS.values()].map((name) => `shared/${name}`));

/**
 * @typedef {object} Variant what takes the place of a plan's constants, and what it needs
 * @property {Record<string, number>} constants
 * @property {string[]} features @property {Record<string, number>} limits
 * @property {Record<string, string>} [imports] files that take the place of others
 *
 * @typedef {object} KernelClass dispatches that take the same variant
 * @property {Record<string, {size: string, least: number, most: number}>} shaders those of which
 *   this size lies in least..most
 * @property {string[]} tried names of variants, the baseline first
 * @property {string} software name of the one that compiles soonest
 *
 * @typedef {object} Variants
 * @property {Record<string, Variant>} variants @property {Record<string, KernelClass>} classes
 */

/**
 * Reads JSON files below an address.
 * @param {string|URL} url of the folder static/wgsl
 * @param {typeof fetch} [fetching]
 * @returns {(name: string) => Promise<string>} the text of NAME.json
 */
export function tablesAt(url, fetching = globalThis.fetch) {
  const folder = String(url).replace(/\/*$/, '/');
  return async (name) => {
    let problem;
    try {
      const response = await fetching(`${folder}${name}.json`, { cache: 'no-cache' });
      if (response.ok) return await response.text();
      problem = `status ${response.status}`;
    } catch (error) {
      problem = error.message;
    }
    throw new EngineError('bad-shader', `The table ${name} could not be loaded: ${problem}.`);
  };
}

/**
 * @param {string} text of variants.json
 * @returns {Variants}
 * @throws {EngineError} bad-shader
 */
export function readVariants(text) {
  let table;
  try {
    table = JSON.parse(text);
  } catch (error) {
    throw misfit(error.message);
  }
  const { format, version, variants, classes } = table;
  if (format !== FORMAT || version !== VERSION) throw misfit(`not ${FORMAT} version ${VERSION}`);
  for (const [name, { constants, imports = {} }] of Object.entries(variants)) {
    const wanted = name === BASELINE ? [] : TILE;
    if (Object.keys(constants).sort().join() !== wanted.join()) throw misfit(`${name} is no tile`);
    if (Object.entries(imports).some(([from, to]) => IMPORTS.get(from) !== to)) {
      throw misfit(`${name} changes what is computed`);
    }
  }
  for (const [name, { tried, software }] of Object.entries(classes)) {
    const known = [...tried, software].every((one) => Object.hasOwn(variants, one));
    if (tried[0] !== BASELINE || !known) {
      throw misfit(`${name}: the baseline, then names of variants`);
    }
  }
  return table;
}

const misfit = (what) => new EngineError('bad-shader', `The table of variants is none: ${what}.`);

/**
 * Whether a variant runs with these.
 * @param {Variant} variant
 * @param {{has(name: string): boolean}} features @param {Record<string, number>} limits
 * @returns {boolean}
 */
export const runsWith = ({ features: needed, limits: least }, features, limits) =>
  needed.every((name) => features.has(name))
  && Object.entries(least).every(([name, value]) => limits[name] >= value);

/** The variants that a device takes. */
export class Choice {
  /**
   * @param {Variants} table
   * @param {Record<string, string>} names by class; the baseline where none is named
   */
  constructor(table, names) {
    this.table = table;
    this.names = names;
  }

  /** @param {Variants} table @returns {Choice} */
  static forSoftware(table) {
    return new Choice(table, Object.fromEntries(
      Object.entries(table.classes).map(([name, { software }]) => [name, software])));
  }

  /**
   * The dispatch as this device runs it.
   * @param {import('./plan.js').Dispatch} dispatch
   * @param {Map<string, number>} sizes its own, evaluated
   * @returns {import('./plan.js').Dispatch}
   */
  fitted(dispatch, sizes) {
    const name = this.names[this.#classOf(dispatch, sizes)] ?? BASELINE;
    if (name === BASELINE) return dispatch;
    const { constants, imports = {} } = this.table.variants[name];
    return {
      ...dispatch,
      constants: new Map([...dispatch.constants, ...Object.entries(constants)]),
      imports: dispatch.imports.map((file) => imports[file] ?? file),
    };
  }

  /** One line, such as "few 64x128x8x2"; "baseline" when a plan is run as it is. */
  toString() {
    return Object.entries(this.names).filter(([, name]) => name !== BASELINE)
      .map((both) => both.join(' ')).join(', ') || BASELINE;
  }

  #classOf({ shader }, sizes) {
    return Object.entries(this.table.classes).find(([, { shaders }]) => {
      if (!Object.hasOwn(shaders, shader)) return false;
      const { size, least, most } = shaders[shader];
      const value = sizes.get(size); // a plan from elsewhere may call a shader without it
      return value >= least && value <= most;
    })?.[0];
  }
}
