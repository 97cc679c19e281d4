// Text as Python sees it: its character classes in expressions, its strip, lower and normalize.
//
// Browsers know newer versions of Unicode than the Python that made tables.js. Characters that were
// unassigned there are kept out of every class and every mapping, so the result does not depend on
// the browser. Browsers with WebGPU know at least Unicode 15, so none is too old.

import { CASED, CASE_IGNORABLE, UNASSIGNED } from './tables.js';

const NEWER = classOf(UNASSIGNED);
const WORD = `[[\\p{L}\\p{N}_]--${NEWER}]`; // str.isalnum() and _
const DIGIT = `[\\p{Nd}--${NEWER}]`;
const SPACE = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]';
const not = (set) => `[^${set}]`;

const MEANINGS = new Map([
  ['\\w', WORD], ['\\d', DIGIT], ['\\s', SPACE], ['\\W', not(WORD)],
  ['\\D', not(DIGIT)], ['\\S', not(SPACE)],
  ['\\b', `(?:(?<=${WORD})(?!${WORD})|(?<!${WORD})(?=${WORD}))`],
  ['$', '(?=\\n?$)'], // also before a line break that ends the text
]);

/**
 * A JavaScript expression that means what the Python one does.
 * @param {string} source in the syntax of the flag v; \w \W \d \D \s \S \b and $ have Python's meaning
 * @param {string} [flags]
 * @returns {RegExp}
 */
export const pythonRegExp = (source, flags = 'g') =>
  new RegExp(source.replace(/\\.|\$/gsv, (part) => MEANINGS.get(part) ?? part), `${flags}v`);

const ENDS = new RegExp(`^${SPACE}+|(?<!${SPACE})${SPACE}+$`, 'gv');
const [cased, ignorable] = [classOf(CASED), classOf(CASE_IGNORABLE)];
const FINAL_SIGMA =
  new RegExp(`(?<=${cased}${ignorable}*)Σ(?!${ignorable}*${cased})`, 'gv');
const OLD_RUNS = new RegExp(`[^${NEWER}]+`, 'gv');
const NEW_ONES = new RegExp(NEWER, 'gv');

/** `str.strip()` */
export const strip = (text) => text.replace(ENDS, '');

/** `str.lower()`; which letters make a sigma final has changed over the versions. */
export const lower = (text) =>
  text.replace(FINAL_SIGMA, 'ς').replaceAll('Σ', 'σ')
    .replace(OLD_RUNS, (run) => run.toLowerCase());

/** `unicodedata.normalize("NFC", text)` */
export const normalize = (text) => text.replace(OLD_RUNS, (run) => run.normalize('NFC'));

/**
 * The characters of `text` that the tables' version of Unicode had not, each once.
 * @param {string} text
 * @returns {string[]}
 */
export const newerCharacters = (text) => [...new Set(text.match(NEW_ONES))];

/** The class of the code points that gaps and lengths (base 36) in turn describe. */
function classOf(gaps) {
  const numbers = gaps.split(' ').map((digits) => Number.parseInt(digits, 36));
  const ranges = [];
  for (let i = 0, at = 0; i < numbers.length; i += 2) {
    const first = at + numbers[i];
    at = first + numbers[i + 1];
    ranges.push(`\\u{${first.toString(16)}}-\\u{${(at - 1).toString(16)}}`);
  }
  return `[${ranges.join('')}]`;
}
