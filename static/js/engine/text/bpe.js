// Byte-pair tokenizers of Gemma's kind, through @huggingface/tokenizers.
//
// Only what is known to give Python's tokens is accepted: BPE with byte fallback, a text normalized
// by Prepend and Replace, split at a string, wrapped by a template. The library would take more,
// but not always give the same; another token would be another picture.

// Import maps do not reach into Workers, so the library is imported by its path.
import { Tokenizer } from '../../vendor/huggingface-tokenizers/tokenizers.min.mjs';

/** A tokenizer that works, but whose tokens need not be Python's. */
export class Unsupported extends Error {}

/**
 * @param {ArrayBuffer} bytes of tokenizer.json
 * @param {number} longest the most tokens of a text, special ones included
 * @returns {(text: string) => number[]}
 * @throws {Unsupported}
 * @throws {Error} where the file is no tokenizer, or `longest` leaves no room for its template
 */
export function makeEncoder(bytes, longest) {
  const file = parse(bytes);
  checkModel(file.model);
  checkAddedTokens(file.added_tokens);
  const tokenizer = new Tokenizer({
    normalizer: checkedNormalizer(file.normalizer),
    pre_tokenizer: asExpression(file.pre_tokenizer),
    post_processor: checkedTemplate(file.post_processor),
    decoder: null, // nothing is decoded here
    model: file.model,
    added_tokens: file.added_tokens,
  }, {});
  const added = tokenizer.encode('').ids.length;
  if (!Number.isInteger(longest) || longest < added) {
    throw new Error(`no text fits into ${longest} tokens`);
  }
  return (text) => {
    const ids = tokenizer.encode(text).ids;
    if (ids.length <= longest) return ids;
    return cut(ids, tokenizer.encode(text, { add_special_tokens: false }).ids, longest - added);
  };
}

/** The text's own ids are cut to `kept`; those of the template before and after them stay. */
function cut(ids, own, kept) {
  const before = ids.findIndex((_, start) => own.every((id, i) => ids[start + i] === id));
  return [...ids.slice(0, before + kept), ...ids.slice(before + own.length)];
}

function parse(bytes) {
  let file;
  try {
    file = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new Error(`not JSON (${error.message})`, { cause: error });
  }
  if (!isObject(file) || !isObject(file.model) || !Array.isArray(file.added_tokens)) {
    throw new Error('no tokenizer: the model or the added tokens are missing');
  }
  return file;
}

const isObject = (value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function checkModel(model) {
  if (model.type !== 'BPE') throw new Unsupported(`the model is ${model.type}, not BPE`);
  if (!isObject(model.vocab) || !Array.isArray(model.merges)) {
    throw new Error('the model has no vocabulary or no merges');
  }
  for (const option of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix']) {
    if (model[option]) throw new Unsupported(`the model uses ${option}`);
  }
  const digits = (byte) => byte.toString(16).toUpperCase().padStart(2, '0');
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${digits(byte)}>`);
  if (!model.byte_fallback || !bytes.every((token) => token in model.vocab)) {
    throw new Unsupported('the model has no tokens for single bytes');
  }
}

function checkAddedTokens(tokens) {
  for (const { content, single_word, lstrip, rstrip, normalized } of tokens) {
    if (single_word || lstrip || rstrip || normalized) {
      throw new Unsupported(`the added token ${content} takes more than its own text`);
    }
  }
}

function checkedNormalizer(normalizer) {
  const plain = ({ type, pattern }) => type === 'Prepend'
    || (type === 'Replace' && typeof pattern?.String === 'string');
  for (const step of normalizer?.type === 'Sequence' ? normalizer.normalizers : [normalizer]) {
    if (step && !plain(step)) throw new Unsupported(`the normalizer ${step.type} is not known`);
  }
  return normalizer ?? null;
}

function checkedTemplate(processor) {
  if (processor && processor.type !== 'TemplateProcessing') {
    throw new Unsupported(`the post-processor ${processor.type} is not known`);
  }
  return processor ?? null;
}

/** The library splits at strings in one way only; as expressions the others can be had too. */
function asExpression(splitter) {
  if (!splitter) return null;
  const { type, pattern, behavior, invert } = splitter;
  const at = pattern?.String;
  const make = typeof at === 'string' && at && !invert ? PIECES[behavior] : undefined;
  if (type !== 'Split' || !make) throw new Unsupported('the pre-tokenizer is not known');
  const escaped = at.replace(/[\^$\\.*+?\(\)\[\]\{\}\|\/]/gv, '\\$&');
  return { type, pattern: { Regex: make(escaped) }, behavior: 'Isolated', invert: false };
}

const PIECES = {
  Isolated: (at) => at,
  MergedWithNext: (at) => `${at}(?:(?!${at})[\\s\\S])*`,
  MergedWithPrevious: (at) => `(?:(?!${at})[\\s\\S])+(?:${at})?|${at}`,
};
