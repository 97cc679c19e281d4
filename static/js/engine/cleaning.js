// Cleans a prompt exactly as diffusers' PRX pipeline does before it tokenizes.
//
// The same rules in the same order as queue/diffusion/cleaning.py, which says where they come from.
// Any other result would be another picture, so every oddity is kept. Only brackets, slashes and
// hyphens inside classes are written as JavaScript's flag v wants them.

import { unescapeHtml } from './text/entities.js';
import { fixText } from './text/ftfy.js';
import { lower, newerCharacters, pythonRegExp, strip } from './text/python.js';

const { raw } = String;

const SUFFIXES = 'png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4';
const DASHES = raw`\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40`
  + raw`\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d`;
// A host of a few old top-level domains with its path, or only the scheme of an address
const ADDRESS = raw`\b(?:(?:https?|www):(?:\/{1,3}|[a-z0-9%])`
  + raw`|[a-z0-9.\-]+\.(?:com|co|ru|net|org|edu|gov|it)[\w\/\-]*\b\/?(?!@))`;

const compiled = (rules) => rules.map(([source, text]) => [pythonRegExp(source), text]);

// The text is lower case here.
const BEFORE_REPAIR = compiled([
  ['<person>', 'person'],
  [ADDRESS, ''],
  [raw`@\w+\b`, ''],
  [raw`[\u31c0-\u9fff]+`, ''], // CJK strokes to CJK ideographs, without a gap
  [`[${DASHES}]+`, '-'],
  [raw`[\x60\u00b4\u00ab\u00bb\u00a8]`, '"'],
  ['&quot;?', ''],
  ['&amp', ''],
  [raw`\d{1,3}(?:\.\d{1,3}){3}`, ' '], // IP addresses
  [raw`\d:\d\d\s+$`, ''],
  [raw`\\n`, ' '], // a backslash and an n, as text
  [raw`#\d{1,3}\b`, ''],
  [raw`#\d{5,}\b`, ''],
  [raw`\b\d{6,}\b`, ''],
  [raw`\S+\.(?:${SUFFIXES})`, ''],
  [raw`["']{2,}`, '"'],
  [raw`\.{2,}`, ' '],
  [raw`[#®•©™&@·º½¾¿¡§~\(\)\[\]\{\}\|\\\/*]+`, ' '],
  [raw`\s+\.\s+`, ' '],
]);

const JOINT = /[\-_]/gv;
const JOINTS_ALLOWED = 3; // more make it a slug: this-is-my-cute-cat

// Capital letters can be back here: unescaping "&#65;" makes one.
const AFTER_REPAIR = compiled([
  [raw`\b[a-zA-Z]{1,3}\d{3,15}\b`, ''],
  [raw`\b[a-zA-Z]+\d+[a-zA-Z]+\b`, ''],
  [raw`\b\d+[a-zA-Z]+\d+\b`, ''],
  [raw`(?:worldwide\s+)?(?:free\s+)?shipping`, ''],
  [raw`(?:free\s)?download(?:\sfree)?`, ''],
  [raw`\bclick\b\s(?:for|on)\s\w+`, ''],
  [raw`\b(?:${SUFFIXES})(?:\simages?)?`, ''],
  [raw`\bpage\s+\d+\b`, ''],
  [raw`\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b`, ' '],
  [raw`\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b`, ''], // 20x30, Cyrillic x and times too
  [raw`\b\s+:\s+`, ': '],
  [raw`(\D[,.\/])\b`, '$1 '],
  [raw`\s+`, ' '],
  [raw`^["']([\w\W]+)["']$`, '$1'],
  [raw`^['_,\-:;]`, ''],
  [raw`['_,\-:+]$`, ''],
  [raw`^\.\S+$`, ''],
]);

const lenientUtf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/**
 * @typedef {object} Cleaned
 * @property {string} text what the tokenizer gets: lower case, cleaned, stripped; it may be empty
 * @property {string[]} unsure characters that may make it another text in Python, each once: those
 *   newer than the Unicode of the tables, which Pythons of several versions treat differently, and
 *   halves of surrogate pairs, which the queue refuses. Without any the texts are equal.
 */

/**
 * @param {string} prompt
 * @returns {Cleaned}
 */
export function cleanPrompt(prompt) {
  const meant = unquotePlus(prompt);
  let text = apply(BEFORE_REPAIR, lower(strip(meant)));
  if ((text.match(JOINT)?.length ?? 0) > JOINTS_ALLOWED) text = text.replace(JOINT, ' ');
  text = strip(unescapeHtml(unescapeHtml(fixText(text))));
  const unsure = [...newerCharacters(meant + text), ...meant.match(/\p{Surrogate}/gv) ?? []];
  return { text: strip(apply(AFTER_REPAIR, text)), unsure: [...new Set(unsure)] };
}

const apply = (rules, text) =>
  rules.reduce((before, [pattern, replacement]) => before.replace(pattern, replacement), text);

/** `urllib.parse.unquote_plus(text)` */
function unquotePlus(text) {
  return text.replaceAll('+', ' ').replace(/[\x00-\x7f]+/gv, (run) => {
    if (!run.includes('%')) return run;
    const bytes = run.replace(/%([0-9a-f]{2})/giv, (_, digits) =>
      String.fromCharCode(Number.parseInt(digits, 16)));
    return lenientUtf8.decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
  });
}
