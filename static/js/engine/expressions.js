// Whole-number expressions of a plan: `ceildiv(B * L, TILE_M)`.
//
//     sum      = product { ("+" | "-") product }
//     product  = value { ("*" | "//" | "%") value }
//     value    = number | name | function "(" sum { "," sum } ")" | "(" sum ")"
//     function = "min" | "max" | "ceildiv"
//
// The grammar and the bounds of queue/diffusion/plan/expressions.py. All values, those in between
// too, are 0..2^48, where doubles are exact. Read by a small parser, never by an eval.

import { ExpressionError } from './errors.js';

export const MAX_VALUE = 2 ** 48;
const MAX_LENGTH = 200;
const MAX_DEPTH = 16;
const MOST_KEPT = 8192; // a plan has few different ones, many times
const TOKEN = / *([0-9]{1,15}|[A-Za-z][A-Za-z0-9_]{0,39}|\/\/|[-+*%(),])/y;

const OPERATORS = {
  '+': (first, second) => first + second,
  '-': (first, second) => first - second,
  '*': (first, second) => first * second,
  '//': (first, second) => (first - (first % second)) / second,
  '%': (first, second) => first % second,
  'ceildiv': (first, second) => (first - (first % second)) / second + (first % second ? 1 : 0),
};
const DIVISIONS = ['//', '%', 'ceildiv'];

const parsed = new Map();

/**
 * The value of an expression.
 * @param {string|number} text
 * @param {Map<string, number>} names
 * @returns {number} 0..2^48
 * @throws {ExpressionError}
 */
export function evaluate(text, names) {
  return typeof text === 'number' ? bounded(text, text) : parse(text)(names);
}

/**
 * A function from the values of the names to the value of `text`.
 * @param {string} text
 * @returns {(names: Map<string, number>) => number}
 * @throws {ExpressionError}
 */
export function parse(text) {
  if (text.length > MAX_LENGTH) {
    throw new ExpressionError(`an expression of ${text.length} characters`);
  }
  if (!parsed.has(text)) {
    const value = new Parser(text).whole();
    if (parsed.size >= MOST_KEPT) parsed.clear();
    parsed.set(text, value);
  }
  return parsed.get(text);
}

class Parser {
  place = 0;
  depth = 0;

  constructor(text) {
    this.text = text;
  }

  whole() {
    const value = this.sum();
    if (/[^ ]/.test(this.text.slice(this.place))) throw this.error();
    return value;
  }

  sum() {
    this.depth += 1;
    if (this.depth > MAX_DEPTH) throw new ExpressionError(`'${this.text}' is nested too deeply`);
    let value = this.product();
    while (['+', '-'].includes(this.peek())) {
      value = this.joined(this.take(), value, this.product());
    }
    this.depth -= 1;
    return value;
  }

  product() {
    let value = this.value();
    while (['*', '//', '%'].includes(this.peek())) {
      value = this.joined(this.take(), value, this.value());
    }
    return value;
  }

  value() {
    const word = this.take();
    if (word === '(') {
      const inner = this.sum();
      this.expect(')');
      return inner;
    }
    if (/^[0-9]/.test(word)) {
      const number = bounded(Number(word), this.text);
      return () => number;
    }
    if (!/^[A-Za-z]/.test(word)) throw this.error();
    return this.peek() === '(' ? this.call(word) : this.name(word);
  }

  call(name) {
    this.take();
    const values = [this.sum()];
    while (this.peek() === ',') {
      this.take();
      values.push(this.sum());
    }
    this.expect(')');
    if (name === 'ceildiv' && values.length === 2) return this.joined(name, ...values);
    if (name === 'min') return (names) => Math.min(...values.map((value) => value(names)));
    if (name === 'max') return (names) => Math.max(...values.map((value) => value(names)));
    throw this.error();
  }

  name(name) {
    const { text } = this;
    return (names) => {
      if (!names.has(name)) throw new ExpressionError(`'${text}': ${name} has no value`);
      return bounded(names.get(name), text);
    };
  }

  joined(operator, left, right) {
    const { text } = this;
    return (names) => {
      const first = left(names);
      const second = right(names);
      if (second === 0 && DIVISIONS.includes(operator)) {
        throw new ExpressionError(`'${text}' divides by zero`);
      }
      return bounded(OPERATORS[operator](first, second), text);
    };
  }

  peek() {
    TOKEN.lastIndex = this.place;
    return TOKEN.exec(this.text)?.[1];
  }

  take() {
    const token = this.peek();
    if (token === undefined) throw this.error();
    this.place = TOKEN.lastIndex;
    return token;
  }

  expect(token) {
    if (this.take() !== token) throw this.error();
  }

  error() {
    return new ExpressionError(`'${this.text}' is no expression (at ${this.place})`);
  }
}

function bounded(value, text) {
  if (!(Number.isInteger(value) && value >= 0 && value <= MAX_VALUE)) {
    throw new ExpressionError(`'${text}' leaves 0..2^48`);
  }
  return value;
}
