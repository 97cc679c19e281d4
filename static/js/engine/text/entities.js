// HTML entities: Python's html.unescape, and ftfy's stricter way.

import {
  BARE_ENTITIES, ENTITIES, ENTITY, INVALID_CODES, REFERENCE, REPLACED_CODES,
} from './tables.js';
import { pythonRegExp } from './python.js';

const reference = pythonRegExp(REFERENCE);
const entity = pythonRegExp(ENTITY);
const invalid = pythonRegExp(`^${INVALID_CODES}`, '');

/** Names without & and, where one is needed, with the semicolon -> characters. */
const named = unpack();

/**
 * `html.unescape(text)`
 * @param {string} text
 * @returns {string}
 */
export function unescapeHtml(text) {
  return text.replace(reference, (whole) => {
    const name = whole.slice(1);
    if (name.startsWith('#')) return characterOf(name.slice(1).replace(/;$/v, ''));
    if (named.has(name)) return named.get(name);
    for (let end = name.length - 1; end > 1; end--) {
      const start = name.slice(0, end);
      if (named.has(start)) return named.get(start) + name.slice(end);
    }
    return whole;
  });
}

/**
 * ftfy's way: a semicolon must end it, and names in capitals are known where that is not ambiguous.
 * @param {string} text
 * @returns {string}
 */
export function unescapeEntities(text) {
  return text.replace(entity, (whole) => {
    const name = whole.slice(1);
    if (named.has(name)) return named.get(name);
    const plain = unescapeHtml(whole);
    if (name.startsWith('#')) return plain.includes(';') ? whole : plain;
    const small = name.toLowerCase();
    const capitals = name === name.toUpperCase() && named.has(small) && plain === whole;
    return capitals ? named.get(small).toUpperCase() : whole;
  });
}

/** The character that the digits of a numeric reference mean. */
function characterOf(digits) {
  const code = /^x/iv.test(digits) ? Number.parseInt(digits.slice(1), 16) : Number(digits);
  if (code in REPLACED_CODES) return REPLACED_CODES[code];
  if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return '\ufffd';
  const character = String.fromCodePoint(code);
  return invalid.test(character) ? '' : character;
}

function unpack() {
  const names = new Map();
  let name = '';
  for (const entry of ENTITIES.split('~')) {
    const equals = entry.indexOf('=');
    name = name.slice(0, Number.parseInt(entry[0], 36)) + entry.slice(1, equals);
    names.set(`${name};`, entry.slice(equals + 1));
  }
  for (const bare of BARE_ENTITIES.split(' ')) names.set(bare, names.get(`${bare};`));
  return names;
}
