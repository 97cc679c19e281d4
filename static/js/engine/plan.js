// The plan: typed values from JSON that nobody vouches for.
//
// `readPlan` refuses what queue/diffusion/plan/schema.py refuses: keys, types, names and numbers it
// does not know, tensors that are read before anything wrote them. docs/plan.md says what each
// field means; what depends on sizes is checked in sizes.js.

import { PlanError } from './errors.js';
import { parse } from './expressions.js';
import { Fraction, plainJson, readJson } from './json.js';
import { asMatrix, DTYPES, layoutOf } from './package/layout.js';

const FORMAT = 'p2pweb-plan';
const VERSION = 1;

const MAX_BYTES = 8 * 2 ** 20; // of the JSON
const MAX_DISPATCHES = 8192;
const MAX_TENSORS = 8192;
const MAX_BINDINGS = 8; // storage buffers a stage in WebGPU's default limits
const MAX_SIZES = 16;
const MAX_AXES = 4;
const MAX_WEIGHT_BYTES = 2 ** 34;

const SHADER = /^[a-z][a-z0-9_]{0,39}$/;
const NAME = /^[a-z][a-z0-9_]*(\.[a-z0-9_]+){0,9}$/;
const SYMBOL = /^[A-Z]$/;
const CONSTANT = /^[A-Z][A-Z0-9_]{1,39}$/;
const SIZE = /^[a-z][a-z0-9_]{0,39}$/;

/** Bytes of one element of a tensor, by type. */
export const TYPE_BYTES = new Map([['f32', 4], ['f16', 2], ['u32', 4]]);

/**
 * @typedef {number|string} Size a number or an expression
 * @typedef {boolean|number|Fraction} Constant a plain number is a whole one
 *
 * @typedef {object} PlanSymbol given by the host in a range, or computed as `value`
 * @property {number} smallest @property {number} largest @property {number} multiple
 * @property {string|null} value
 *
 * @typedef {object} Weight use "rows": the host picks rows of it, no device holds it
 * @property {number[]} shape @property {import('./package/layout.js').DType} type
 * @property {'device'|'rows'} use
 * @property {number} bytes in a package and on a device, which hold the same ones
 *
 * @typedef {object} PlanTensor
 * @property {Size[]} shape @property {'f32'|'f16'|'u32'} type
 * @property {'input'|'output'|'state'|'inner'} role
 * @property {number|null} buffer of an inner one: the number of its pool buffer
 *
 * @typedef {object} Dispatch bindings[i] is @binding(i + 1); null binds sixteen zero bytes
 * @property {string} shader @property {string[]} imports
 * @property {Map<string, Constant>} constants @property {Map<string, Size>} sizes
 * @property {({tensor: string, access: 'read'|'write'}|null)[]} bindings
 * @property {Size[]} workgroups x, y, z
 *
 * @typedef {{name: string, dispatches: Dispatch[]}} Segment
 * @typedef {{tensors: Map<string, PlanTensor>, segments: Segment[]}} Stage
 *
 * @typedef {object} Plan
 * @property {Map<string, PlanSymbol>} symbols @property {Map<string, Weight>} weights
 * @property {Map<string, Stage>} stages
 * @property {object} host what a host must know of the model: not checked here
 */

/**
 * The plan in a JSON text.
 * @param {string|Uint8Array} source
 * @returns {Plan}
 * @throws {PlanError} for anything that is not exactly one
 */
export function readPlan(source) {
  if (source.length > MAX_BYTES) {
    throw new PlanError(`${source.length} bytes, at most ${MAX_BYTES} are read`);
  }
  let document;
  try {
    const text = typeof source === 'string' ? source
      : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(source);
    document = readJson(text);
  } catch (error) {
    throw new PlanError(error.message);
  }
  const top = readObject(document, 'the plan',
    ['format', 'version', 'host', 'symbols', 'weights', 'stages']);
  if (top.get('format') !== FORMAT || top.get('version') !== VERSION) {
    throw new PlanError(`not ${FORMAT} version ${VERSION}`);
  }
  const plan = {
    symbols: readTable(top.get('symbols'), 'symbols', SYMBOL, 16, readSymbol),
    weights: readTable(top.get('weights'), 'weights', NAME, MAX_TENSORS, readWeight),
    stages: readTable(top.get('stages'), 'stages', NAME, 16, readStage),
    host: plainJson(readAnyObject(top.get('host'), 'host')),
  };
  checkPlan(plan);
  return plan;
}

/**
 * The dispatches of some segments of a stage, or of all, in order.
 * @param {Plan} plan @param {string} stageName @param {Iterable<string>|null} [segments]
 * @returns {Dispatch[]}
 * @throws {PlanError} for a stage or a segment that there is not
 */
export function dispatchesOf(plan, stageName, segments = null) {
  const stage = stageOf(plan, stageName);
  const wanted = segments && new Set(segments);
  for (const name of wanted ?? []) {
    if (!stage.segments.some((segment) => segment.name === name)) {
      throw new PlanError(`${stageName} has no segment ${name}`);
    }
  }
  return stage.segments
    .filter(({ name }) => !wanted || wanted.has(name))
    .flatMap(({ dispatches }) => dispatches);
}

/**
 * The names of all files of shaders that a plan needs, sorted.
 * @param {Plan} plan
 * @returns {string[]}
 */
export function shaderFiles(plan) {
  const dispatches = [...plan.stages.keys()].flatMap((stage) => dispatchesOf(plan, stage));
  return [...new Set(dispatches.flatMap(({ imports, shader }) =>
    [...imports.map((name) => `shared/${name}`), shader]))].sort();
}

/**
 * @param {Plan} plan @param {string} name
 * @returns {Stage}
 * @throws {PlanError} for a stage that there is not
 */
export function stageOf(plan, name) {
  const stage = plan.stages.get(name);
  if (!stage) throw new PlanError(`the plan has no stage ${name}`);
  return stage;
}

/**
 * Names of the weights that dispatches bind, each once, in order of use.
 * @param {Plan} plan @param {Iterable<Dispatch>} dispatches
 * @returns {string[]}
 */
export function boundWeights(plan, dispatches) {
  const names = new Set();
  for (const { bindings } of dispatches) {
    for (const binding of bindings) {
      if (binding && plan.weights.has(binding.tensor)) names.add(binding.tensor);
    }
  }
  return [...names];
}

/** Refuses parts that are each well formed and do not fit together. */
function checkPlan(plan) {
  let count = 0;
  const shared = new Map();
  for (const [where, stage] of plan.stages) {
    for (const segment of stage.segments) count += segment.dispatches.length;
    for (const name of stage.tensors.keys()) {
      if (plan.weights.has(name)) throw new PlanError(`${where}: ${name} is a weight and a tensor`);
    }
    checkBindings(stage, plan.weights, where);
    for (const [name, tensor] of stage.tensors) {
      if (tensor.buffer !== null) continue;
      const kind = JSON.stringify([tensor.shape, tensor.type]);
      if (!shared.has(name)) shared.set(name, kind);
      if (shared.get(name) !== kind) {
        throw new PlanError(`${where} shares ${name} with a stage where it is another`);
      }
    }
  }
  if (count > MAX_DISPATCHES) throw new PlanError(`${count} dispatches, at most ${MAX_DISPATCHES}`);
}

function checkBindings(stage, weights, where) {
  const written = new Set();
  for (const [name, { role }] of stage.tensors) {
    if (role === 'input' || role === 'state') written.add(name);
  }
  const names = stage.segments.map(({ name }) => name);
  if (new Set(names).size < names.length) {
    throw new PlanError(`${where} has two segments of one name`);
  }
  for (const segment of stage.segments) {
    for (const [number, dispatch] of segment.dispatches.entries()) {
      const place = `${where}, ${segment.name}, dispatch ${number} (${dispatch.shader})`;
      checkDispatch(dispatch, stage, weights, written, place);
    }
  }
  for (const [name, { role }] of stage.tensors) {
    if (role === 'output' && !written.has(name)) {
      throw new PlanError(`${where} never writes ${name}`);
    }
  }
}

function checkDispatch(dispatch, stage, weights, written, place) {
  const homes = []; // the buffer of each binding: a pool buffer's number, or a name
  const bound = dispatch.bindings.filter((binding) => binding !== null);
  for (const { tensor: name, access } of bound) {
    const weight = weights.get(name);
    const tensor = stage.tensors.get(name);
    if (!tensor && weight?.use !== 'device') {
      throw new PlanError(`${place} binds ${name}, which there is not`);
    }
    if (access === 'write' && (!tensor || tensor.role === 'input')) {
      throw new PlanError(`${place} writes ${name}, which is given`);
    }
    if (access === 'read' && tensor && !written.has(name)) {
      throw new PlanError(`${place} reads ${name} before it is written`);
    }
    homes.push(tensor?.buffer ?? name);
  }
  for (const [index, { access }] of bound.entries()) { // WebGPU: many readers or one writer
    const home = homes[index];
    if (access === 'write' && homes.indexOf(home) !== homes.lastIndexOf(home)) {
      throw new PlanError(`${place} binds the buffer of ${home} twice and writes it`);
    }
  }
  for (const { tensor, access } of bound) if (access === 'write') written.add(tensor);
}

function readSymbol(value, where) {
  if (value instanceof Map && value.has('value')) {
    const expression = readObject(value, where, ['value']).get('value');
    if (typeof expression !== 'string') throw new PlanError(`${where} is no expression`);
    return { smallest: 0, largest: 0, multiple: 1, value: readSize(expression, where) };
  }
  const fields = readObject(value, where, ['smallest', 'largest', 'multiple']);
  const [smallest, largest, multiple] = ['smallest', 'largest', 'multiple']
    .map((key) => readWhole(fields.get(key), where, 2 ** 20));
  if (smallest > largest || multiple < 1) throw new PlanError(`${where} has an empty range`);
  return { smallest, largest, multiple, value: null };
}

function readWeight(value, where) {
  const fields = readObject(value, where, ['shape', 'type', 'use']);
  const shape = readList(fields.get('shape'), where, MAX_AXES)
    .map((axis) => readWhole(axis, where, 2 ** 32));
  const type = readChoice(fields.get('type'), DTYPES, where);
  const use = readChoice(fields.get('use'), ['device', 'rows'], where);
  const { bytes, groups } = layoutOf(type, ...asMatrix(shape));
  if (groups && shape.length < 2) throw new PlanError(`${where} is no matrix, and ${type}`);
  if (!(bytes > 0 && bytes <= MAX_WEIGHT_BYTES)) throw new PlanError(`${where} has ${bytes} bytes`);
  return { shape, type, use, bytes };
}

function readStage(value, where) {
  const fields = readObject(value, where, ['tensors', 'segments']);
  return {
    tensors: readTable(fields.get('tensors'), `${where} tensors`, NAME, MAX_TENSORS, readTensor),
    segments: readList(fields.get('segments'), where, 1024)
      .map((segment, number) => readSegment(segment, `${where}, segment ${number}`)),
  };
}

function readTensor(value, where) {
  const keys = ['shape', 'type', 'role'];
  const inner = value instanceof Map && value.get('role') === 'inner';
  const fields = readObject(value, where, inner ? [...keys, 'buffer'] : keys);
  return {
    shape: readList(fields.get('shape'), where, MAX_AXES).map((axis) => readSize(axis, where)),
    type: readChoice(fields.get('type'), [...TYPE_BYTES.keys()], where),
    role: readChoice(fields.get('role'), ['input', 'output', 'state', 'inner'], where),
    buffer: inner ? readWhole(fields.get('buffer'), where, MAX_TENSORS) : null,
  };
}

function readSegment(value, where) {
  const fields = readObject(value, where, ['name', 'dispatches']);
  return {
    name: readName(fields.get('name'), NAME, where),
    dispatches: readList(fields.get('dispatches'), where, MAX_DISPATCHES)
      .map((dispatch, number) => readDispatch(dispatch, `${where}, dispatch ${number}`)),
  };
}

function readDispatch(value, where) {
  const fields = readObject(value, where,
    ['shader', 'imports', 'constants', 'sizes', 'bindings', 'workgroups']);
  const workgroups = readList(fields.get('workgroups'), where, 3)
    .map((count) => readSize(count, where));
  if (workgroups.length !== 3) {
    throw new PlanError(`${where} has ${workgroups.length} workgroup counts`);
  }
  return {
    shader: readName(fields.get('shader'), SHADER, where),
    imports: readList(fields.get('imports'), where, 9).map((name) => readName(name, SHADER, where)),
    constants: readTable(fields.get('constants'), where, CONSTANT, 32, readConstant),
    sizes: readTable(fields.get('sizes'), where, SIZE, MAX_SIZES, readSize),
    bindings: readList(fields.get('bindings'), where, MAX_BINDINGS)
      .map((binding) => readBinding(binding, where)),
    workgroups,
  };
}

function readBinding(value, where) {
  if (value === null) return null;
  const pair = readList(value, where, 2);
  if (pair.length !== 2) throw new PlanError(`${where} has a binding without access`);
  return {
    tensor: readName(pair[0], NAME, where),
    access: readChoice(pair[1], ['read', 'write'], where),
  };
}

function readConstant(value, where) {
  if (typeof value === 'boolean') return value;
  if (typeof value === 'number' && Math.abs(value) < 2 ** 31) return value;
  if (value instanceof Fraction && Math.abs(value.value) < 1e30) return value;
  throw new PlanError(`${where} is no constant: ${shown(value)}`);
}

function readSize(value, where) {
  if (typeof value !== 'string') return readWhole(value, where, 2 ** 32);
  try {
    parse(value);
  } catch (error) {
    throw new PlanError(`${where}: ${error.message}`);
  }
  return value;
}

function readWhole(value, where, largest) {
  if (typeof value !== 'number' || !(value >= 0 && value <= largest)) {
    throw new PlanError(`${where}: ${shown(value)} is no whole number up to ${largest}`);
  }
  return value;
}

function readName(value, pattern, where) {
  if (typeof value !== 'string' || value.length > 120 || !pattern.test(value)) {
    throw new PlanError(`${where}: ${shown(value)} is no name here`);
  }
  return value;
}

function readChoice(value, choices, where) {
  if (!choices.includes(value)) {
    throw new PlanError(`${where}: ${shown(value)} is none of ${choices.join(', ')}`);
  }
  return value;
}

function readTable(value, where, names, longest, read) {
  const fields = readAnyObject(value, where);
  if (fields.size > longest) {
    throw new PlanError(`${where} has ${fields.size} entries, at most ${longest}`);
  }
  const table = new Map();
  for (const [name, entry] of fields) {
    table.set(readName(name, names, where), read(entry, `${where}, ${name.slice(0, 60)}`));
  }
  return table;
}

function readList(value, where, longest) {
  if (!Array.isArray(value) || value.length > longest) {
    throw new PlanError(`${where}: not a list of at most ${longest}`);
  }
  return value;
}

function readAnyObject(value, where) {
  if (!(value instanceof Map)) throw new PlanError(`${where} is no object`);
  return value;
}

function readObject(value, where, keys) {
  const fields = readAnyObject(value, where);
  const odd = [...fields.keys()].find((key) => !keys.includes(key))
    ?? keys.find((key) => !fields.has(key));
  if (odd !== undefined) throw new PlanError(`${where} lacks or should not have ${shown(odd)}`);
  return fields;
}

const shown = (value) => (JSON.stringify(plainJson(value)) ?? 'nothing').slice(0, 60);
