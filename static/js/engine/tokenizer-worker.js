// The Worker of tokenizer.js: answers one message {tokenizer, texts, longest} with {ids}, or with
// {error: {code, message}}.

import { makeEncoder, Unsupported } from './text/bpe.js';

self.onmessage = ({ data: { tokenizer, texts, longest } }) => {
  try {
    const encode = makeEncoder(tokenizer, longest);
    const ids = texts.map((text) => Int32Array.from(encode(text)));
    self.postMessage({ ids }, ids.map(({ buffer }) => buffer));
  } catch (error) {
    const code = error instanceof Unsupported ? 'unsupported' : 'broken';
    self.postMessage({ error: { code, message: `tokenizer.json: ${error.message}` } });
  }
};
