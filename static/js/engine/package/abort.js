/**
 * A promise, unless the signal is first.
 * @template T
 * @param {Promise<T>} promise goes on all the same
 * @param {AbortSignal} [signal]
 * @param {(result: T) => void} [late] gets a result that came after the signal
 * @returns {Promise<T>}
 * @throws the signal's reason, or what the promise is refused with
 */
export async function orAborted(promise, signal, late = () => {}) {
  if (!signal) return promise;
  const ended = new AbortController();
  try {
    return await new Promise((resolve, reject) => {
      const stop = () => {
        reject(signal.reason);
        promise.then(late, () => {});
      };
      if (signal.aborted) stop();
      else signal.addEventListener('abort', stop, { signal: ended.signal });
      promise.then(resolve, reject);
    });
  } finally {
    ended.abort();
  }
}
