// What a JSON value from elsewhere may look like, and a copy of it that holds nothing else.
//
// A shape is a function: it gives a copy of a value that fits, and throws a ShapeError that says
// where in the value something does not. The words of an error are ours alone: nothing of what came
// is in them.

/** The value is not what it should be. `message` says where, in names of members and places. */
export class ShapeError extends TypeError {
  name = 'ShapeError';
  #wanted;
  #path;

  /** @param {string} wanted what should be there @param {string} [path] */
  constructor(wanted, path = '') {
    super(path ? `${path}: not ${wanted}` : `not ${wanted}`);
    this.#wanted = wanted;
    this.#path = path;
  }

  /** @param {string|number} member in which it lies @returns {ShapeError} */
  within(member) {
    const place = typeof member === 'number' ? `[${member}]` : member;
    const joined = this.#path && !this.#path.startsWith('[') ? `${place}.${this.#path}`
      : `${place}${this.#path}`;
    return new ShapeError(this.#wanted, joined);
  }
}

/** @template T @typedef {(value: unknown) => T} Shape */

/** @param {boolean} holds @param {string} wanted @throws {ShapeError} unless it holds */
export function must(holds, wanted) {
  if (!holds) throw new ShapeError(wanted);
}

/** @param {(value: unknown) => boolean} holds @param {string} wanted @returns {Shape<any>} */
export const that = (holds, wanted) => (value) => {
  must(holds(value), wanted);
  return value;
};

/** @param {number} least @param {number} most @returns {Shape<number>} */
export const whole = (least, most) => that(
  (value) => Number.isSafeInteger(value) && value >= least && value <= most,
  `a whole number of ${least} to ${most}`);

/** @param {number} least @param {number} most @returns {Shape<number>} */
export const number = (least, most) => that(
  (value) => Number.isFinite(value) && value >= least && value <= most,
  `a number of ${least} to ${most}`);

/** @param {number} most characters @param {number} [least] @returns {Shape<string>} */
export const text = (most, least = 0) => that(
  (value) => typeof value === 'string' && value.length >= least && value.length <= most,
  `a text of ${least} to ${most} characters`);

/** @type {Shape<boolean>} */
export const flag = that((value) => typeof value === 'boolean', 'true or false');

/** @param {any[]} values @returns {Shape<any>} */
export const oneOf = (...values) => that(
  (value) => values.includes(value), `one of ${values.join(', ')}`);

/** @template T @param {Shape<T>} shape @returns {Shape<T|null>} */
export const orNull = (shape) => (value) => (value === null ? null : shape(value));

/** @template T @param {Shape<T>} shape @param {number} most @returns {Shape<T[]>} */
export const list = (shape, most) => (value) => {
  must(Array.isArray(value) && value.length <= most, `a list of at most ${most}`);
  let at = 0;
  try {
    const copy = [];
    for (; at < value.length; at++) copy.push(shape(value[at]));
    return copy;
  } catch (error) {
    throw located(error, at);
  }
};

/** Exactly these, in this order. @param {...Shape<any>} shapes @returns {Shape<any[]>} */
export const tuple = (...shapes) => (value) => {
  must(Array.isArray(value) && value.length === shapes.length, `a list of ${shapes.length}`);
  return shapes.map((shape, at) => {
    try {
      return shape(value[at]);
    } catch (error) {
      throw located(error, at);
    }
  });
};

/** Exactly these members. @param {Record<string, Shape<any>>} members @returns {Shape<any>} */
export const record = (members) => {
  const names = Object.keys(members);
  const shapes = Object.values(members);
  const wanted = `an object of ${names.join(', ')}`;
  return (value) => {
    must(isObject(value), 'an object');
    must(Object.keys(value).length === names.length
      && names.every((name) => Object.hasOwn(value, name)), wanted);
    const copy = {};
    let at = 0;
    try {
      for (; at < names.length; at++) copy[names[at]] = shapes[at](value[names[at]]);
    } catch (error) {
      throw located(error, names[at]);
    }
    return copy;
  };
};

/**
 * Any names. The copy inherits nothing, so that no name means something by itself.
 * @template T @param {Shape<string>} key @param {Shape<T>} shape @param {number} most
 * @returns {Shape<Record<string, T>>}
 */
export const dictionary = (key, shape, most) => (value) => {
  must(isObject(value), 'an object');
  const entries = Object.entries(value);
  must(entries.length <= most, `an object of at most ${most}`);
  const copy = Object.create(null);
  for (let at = 0; at < entries.length; at++) {
    try {
      copy[key(entries[at][0])] = shape(entries[at][1]);
    } catch (error) {
      throw located(error, at);
    }
  }
  return copy;
};

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

const located = (error, at) => (error instanceof ShapeError ? error.within(at) : error);
