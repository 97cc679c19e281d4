// ftfy.fix_text: mojibake, entities, widths, quotes and controls, step by step as ftfy takes them.
//
// The tables and expressions come from ftfy itself; the order of the steps is that of its
// __init__.py and fixes.py with the default configuration. Texts of up to a million characters;
// ftfy would cut longer ones.

import {
  ALTERED_UTF8, A_GRAVE_WORD, BADNESS, CONTROLS, DOUBLE_QUOTE, LIGATURES, LOSSY_UTF8,
  SINGLE_QUOTE, TERMINAL_ESCAPE, UTF8_DETECTOR,
} from './tables.js';
import {
  decodeUtf8, decodeUtf8Variants, encode, encodings, isSloppy, windows1252,
} from './charmaps.js';
import { unescapeEntities } from './entities.js';
import { normalize, pythonRegExp } from './python.js';

const bad = pythonRegExp(BADNESS, '');
const utf8Like = pythonRegExp(UTF8_DETECTOR);
const alteredUtf8 = pythonRegExp(ALTERED_UTF8);
const aGraveWord = pythonRegExp(A_GRAVE_WORD);
const lossyUtf8 = pythonRegExp(LOSSY_UTF8);
const ligature = pythonRegExp(`[${Object.keys(LIGATURES).join('')}]`);
const terminalEscape = pythonRegExp(TERMINAL_ESCAPE);
const controls = pythonRegExp(CONTROLS);
const singleQuote = pythonRegExp(SINGLE_QUOTE);
const doubleQuote = pythonRegExp(DOUBLE_QUOTE);

const C1 = /[\x80-\x9f]/gv;
const REPLACEMENT_AS_UTF8 = '\xef\xbf\xbd';

/**
 * `ftfy.fix_text(text)`
 * @param {string} text
 * @returns {string}
 */
export function fixText(text) {
  let entities = true; // until something looks like HTML
  const lines = text.match(/[^\n]*\n|[^\n]+$/gv) ?? [];
  return lines.map((line) => {
    entities &&= !line.includes('<');
    return fixLine(line, entities);
  }).join('');
}

function fixLine(line, entities) {
  let fixed = line;
  for (let before = null; fixed !== before; ) {
    before = fixed;
    if (entities) fixed = unescapeEntities(fixed);
    fixed = fixEncoding(fixed)
      .replace(C1, windows1252)
      .replace(ligature, (one) => LIGATURES[one])
      // Full and half widths; the version of Unicode cannot matter in this block.
      .replace(/[\uff01-\uffef]/gv, (one) => one.normalize('NFKC')).replaceAll('\u3000', ' ')
      .replace(doubleQuote, '"').replace(singleQuote, "'")
      .replace(/\r\n|[\r\u2028\u2029\x85]/gv, '\n')
      .replace(/\p{Surrogate}/gv, '\ufffd')
      .replace(terminalEscape, '')
      .replace(controls, '');
    fixed = normalize(fixed);
  }
  return fixed;
}

// Mojibake -------------------------------------------------------------------------------------
function fixEncoding(text) {
  let fixed = text;
  for (let before = null; fixed !== before; ) {
    before = fixed;
    fixed = fixEncodingOnce(fixed);
  }
  return fixed;
}

function fixEncodingOnce(text) {
  if (!bad.test(text)) return text; // also all of ASCII
  for (const encoding of encodings) {
    const bytes = encode(text, encoding);
    const decoded = bytes === null ? null : decodeRepaired(bytes, encoding);
    if (decoded !== null) return decoded;
  }
  const inner = text.replace(utf8Like, (part) =>
    part.length < text.length && bad.test(part) ? fixEncoding(part) : part);
  if (inner !== text) return inner;
  // What is left of Latin-1 are controls that nobody wants: they were meant as Windows-1252.
  return text.replace(C1, windows1252);
}

/** The text that bytes of an encoding were meant as, or null where they are no UTF-8. */
function decodeRepaired(bytes, encoding) {
  let repaired = bytes;
  // In MacRoman a dash and a space look the same.
  if (encoding !== 'macroman' && bytes.search(alteredUtf8) >= 0) repaired = restoreA0(bytes);
  if (isSloppy(encoding)) repaired = repaired.replace(lossyUtf8, REPLACEMENT_AS_UTF8);
  return /[\xc0\xed]/v.test(repaired) ? decodeUtf8Variants(repaired) : decodeUtf8(repaired);
}

/** Spaces become the byte 0xA0 where that makes UTF-8. */
const restoreA0 = (bytes) =>
  bytes.replace(aGraveWord, '\xc3\xa0 ')
    .replace(alteredUtf8, (part) => part.replaceAll(' ', '\xa0'));
