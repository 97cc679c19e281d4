// JSON read as Python reads it, where 1 and 1.0 are two things.
//
// A plan depends on the difference: `const N = 1;` and `const N = 1.0;` are two programs, and a
// size of 1.0 is none. Objects become Maps, in the order of the text, so that no name in a document
// can meet one of JavaScript's own.

const LONGEST_NEST = 100;
const SPACE = /[ \t\n\r]*/y;
const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const WORD = /true|false|null/y;
const WORDS = new Map([['true', true], ['false', false], ['null', null]]);

/** A number that was written with a point or an exponent. */
export class Fraction {
  /** @param {number} value */
  constructor(value) {
    this.value = value;
  }
}

/**
 * @typedef {null|boolean|string|number|Fraction|Array<Json>|Map<string, Json>} Json
 *   a plain number is a whole one
 */

/**
 * @param {string} text
 * @returns {Json}
 * @throws {SyntaxError} for anything that is not JSON, and for more than 100 levels of it
 */
export function readJson(text) {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.skip(SPACE);
  if (reader.place < text.length) throw reader.error();
  return value;
}

/**
 * Plain objects, arrays and numbers, as JSON.parse gives them. Objects have no prototype.
 * @param {Json} value
 * @returns {any}
 */
export function plainJson(value) {
  if (value instanceof Fraction) return value.value;
  if (Array.isArray(value)) return value.map(plainJson);
  if (!(value instanceof Map)) return value;
  const object = Object.create(null);
  for (const [name, entry] of value) object[name] = plainJson(entry);
  return object;
}

class Reader {
  place = 0;

  constructor(text) {
    this.text = text;
  }

  value(depth) {
    if (depth > LONGEST_NEST) throw new SyntaxError('nested too deeply');
    this.skip(SPACE);
    switch (this.text[this.place]) {
      case '{': return this.object(depth);
      case '[': return this.list(depth);
      case '"': return this.string();
    }
    const word = this.match(WORD);
    return word ? WORDS.get(word[0]) : this.number();
  }

  object(depth) {
    const entries = new Map();
    this.members('}', () => {
      this.skip(SPACE);
      const name = this.string();
      this.skip(SPACE);
      if (this.text[this.place++] !== ':') throw this.error();
      entries.set(name, this.value(depth + 1));
    });
    return entries;
  }

  list(depth) {
    const entries = [];
    this.members(']', () => entries.push(this.value(depth + 1)));
    return entries;
  }

  /** What lies between brackets, `read` one by one, with commas between. */
  members(end, read) {
    this.place += 1;
    this.skip(SPACE);
    if (this.text[this.place] === end) {
      this.place += 1;
      return;
    }
    for (;;) {
      read();
      this.skip(SPACE);
      const next = this.text[this.place++];
      if (next === end) return;
      if (next !== ',') throw this.error();
    }
  }

  string() {
    const found = this.match(STRING);
    if (!found) throw this.error();
    return JSON.parse(found[0]); // escapes and what may not stand in a string are its matter
  }

  number() {
    const found = this.match(NUMBER);
    if (!found) throw this.error();
    const [text, fraction, exponent] = found;
    return fraction || exponent ? new Fraction(Number(text)) : Number(text);
  }

  match(pattern) {
    pattern.lastIndex = this.place;
    const found = pattern.exec(this.text);
    if (found) this.place = pattern.lastIndex;
    return found;
  }

  skip(pattern) {
    pattern.lastIndex = this.place;
    pattern.exec(this.text);
    this.place = pattern.lastIndex;
  }

  error() {
    return new SyntaxError(`not JSON at character ${this.place}`);
  }
}
