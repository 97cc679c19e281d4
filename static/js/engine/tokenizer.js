// Token ids of cleaned prompts, in a Worker of their own.
//
// Building the tables of a vocabulary of 256,000 tokens takes some 240 MB: the Worker ends after
// encoding, and with it the memory goes.

/** What went wrong with a tokenizer; `message` is a sentence for people. */
export class TokenizerError extends Error {
  name = 'TokenizerError';

  /**
   * @param {'broken'|'unsupported'|'unavailable'} code the file is no tokenizer; it is one whose
   *   tokens need not be Python's; the Worker could not be started
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * The ids of each text, as Python's `tokenizers` makes them: with the special tokens that the
 * tokenizer's template adds, cut on the right to `longest`, without padding.
 * @param {ArrayBuffer} tokenizer the bytes of tokenizer.json; they move to the Worker
 * @param {string[]} texts cleaned prompts; an empty one may have no tokens
 * @param {number} longest model_max_length, in tokens
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<Int32Array[]>} for each text [tokens]
 * @throws {TokenizerError}, or the signal's reason
 */
export async function encodeTexts(tokenizer, texts, longest, { signal } = {}) {
  signal?.throwIfAborted();
  const ended = new AbortController();
  const worker = new Worker(new URL('tokenizer-worker.js', import.meta.url), { type: 'module' });
  try {
    return await new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { signal: ended.signal });
      worker.onerror = (event) => reject(new TokenizerError(
        'unavailable', `The tokenizer could not be started: ${event.message || 'not loaded'}.`));
      worker.onmessage = ({ data: { ids, error } }) => {
        if (error) reject(new TokenizerError(error.code, error.message));
        else resolve(ids);
      };
      worker.postMessage({ tokenizer, texts, longest }, [tokenizer]);
    });
  } finally {
    ended.abort();
    worker.terminate();
  }
}
