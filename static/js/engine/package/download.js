// One file of a package over HTTP, in as many requests as it takes.
//
// A connection that breaks off or goes silent is followed by a request for the rest. Whether a host
// knows ranges shows in its answer: one that sends the whole file again is taken at that. Nothing
// here is trusted; whoever asked checks the hash.

import { PackageError } from './errors.js';

const TRIES = 5; // in a row, without PROGRESS_BYTES in between
const TRIES_OF_A_SMALL_ONE = 3;
const PROGRESS_BYTES = 256 * 1024;
const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 4_000;
const LONGEST_RETRY_AFTER_MS = 30_000;
const SILENCE_MS = 30_000;
const READ_BYTES = 64 * 1024;

/**
 * @typedef {object} Download
 * @property {string} url
 * @property {number} bytes of a file whose size is known: no more and no less are read
 * @property {typeof globalThis.fetch} fetch
 * @property {AbortSignal} [signal]
 * @property {RequestCache} [cache] what the browser's HTTP cache may do
 * @property {(bytes: number) => void} [onBytes] how many more there are; fewer than none when a
 *   host begins again
 */

/**
 * Reads a file of a known size.
 * @param {Download} download
 * @returns {Promise<Uint8Array>}
 * @throws {PackageError} `missing` or `unreachable`; the signal's reason
 */
export async function download(
  { url, bytes, fetch, signal, cache = 'default', onBytes = () => {} },
) {
  const data = new Uint8Array(bytes);
  let have = 0;
  let furthest = 0;
  let failures = 0;
  let unanswered = 0; // requests for the rest, in a row
  while (true) {
    signal?.throwIfAborted();
    let failure;
    try {
      failure = await attempt();
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof PackageError) throw error;
      failure = { error };
    }
    if (!failure) return data;
    if (have >= furthest + PROGRESS_BYTES) failures = 0;
    furthest = Math.max(furthest, have);
    failures += 1;
    if (failures >= TRIES) throw unreachable(url, failure.error);
    // A host on another origin may not let itself be asked for a range: that looks like no answer.
    if (unanswered > 1) begin();
    await pause(failure.waitMs ?? backoffMs(failures), signal);
  }

  /** One request. What makes another one necessary comes back or is thrown. */
  async function attempt() {
    unanswered += have ? 1 : 0;
    const headers = have ? { Range: `bytes=${have}-` } : {};
    return exchange({ url, fetch, signal, cache, headers }, async (response, alive) => {
      unanswered = 0;
      if (response.status === 416) {
        begin();
        return { error: new Error('it refused a range') };
      }
      if (!response.ok) return refused(url, response);
      if (!continues(response, have)) begin();
      await fill(response, alive);
      return have === bytes ? null : { error: new Error('it broke off') };
    });
  }

  async function fill(response, alive) {
    for (const read = reading(response.body); ;) {
      const { done, value } = await read();
      if (done) return;
      alive();
      const taken = value.subarray(0, bytes - have);
      data.set(taken, have);
      have += taken.length;
      onBytes(taken.length);
      if (have === bytes) return; // a longer file is another one: its hash will tell
    }
  }

  function begin() {
    if (have) onBytes(-have);
    have = 0;
    unanswered = 0;
  }
}

/**
 * Reads a file of an unknown size.
 * @param {Omit<Download, 'bytes'|'onBytes'> & {limit: number}} download `limit` in bytes
 * @returns {Promise<Uint8Array>} at most one byte more than `limit`
 * @throws {PackageError} `missing` or `unreachable`; the signal's reason
 */
export async function downloadSmall({ url, limit, fetch, signal, cache = 'no-cache' }) {
  for (let failures = 1; ; failures++) {
    let failure;
    let data;
    try {
      failure = await exchange({ url, fetch, signal, cache }, async (response, alive) => {
        if (!response.ok) return refused(url, response);
        data = await read(response, limit, alive);
        return null;
      });
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof PackageError) throw error;
      failure = { error };
    }
    if (!failure) return data;
    if (failures >= TRIES_OF_A_SMALL_ONE) throw unreachable(url, failure.error);
    await pause(failure.waitMs ?? backoffMs(failures), signal);
  }
}

/** What `use` makes of the answer; thrown when there is none, or when it goes silent for long. */
async function exchange({ url, fetch, signal, cache, headers = {} }, use) {
  const controller = new AbortController();
  const stop = () => controller.abort(signal.reason);
  const silent = () => controller.abort(new Error('it went silent'));
  let timer = setTimeout(silent, SILENCE_MS);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(silent, SILENCE_MS);
  };
  signal?.addEventListener('abort', stop);
  try {
    const response = await fetch(
      url, { headers, credentials: 'same-origin', cache, signal: controller.signal });
    return await use(response, alive);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
    controller.abort(); // what is left of the body
  }
}

/**
 * What reads a body piece by piece, each to be used before the next. Where the browser can, into one
 * buffer again and again: hundreds of megabytes would wait for the garbage collector otherwise.
 */
function reading(body) {
  let reader;
  try {
    reader = body.getReader({ mode: 'byob' });
  } catch { // an older browser, or a stream that is not one of bytes
    reader = body.getReader();
    return () => reader.read();
  }
  let buffer = new ArrayBuffer(READ_BYTES);
  return async () => {
    const result = await reader.read(new Uint8Array(buffer));
    if (result.value) buffer = result.value.buffer;
    return result;
  };
}

async function read(response, limit, alive) {
  const chunks = [];
  let size = 0;
  for (const reader = response.body.getReader(); size <= limit;) {
    const { done, value } = await reader.read();
    if (done) break;
    alive();
    chunks.push(value);
    size += value.length;
  }
  const data = new Uint8Array(Math.min(size, limit + 1));
  let at = 0;
  for (const chunk of chunks) {
    data.set(chunk.subarray(0, data.length - at), at);
    at = Math.min(at + chunk.length, data.length);
  }
  return data;
}

/** Whether an answer goes on at byte `have`. One without Content-Range is taken at its word. */
function continues(response, have) {
  if (response.status !== 206) return have === 0;
  const range = response.headers.get('Content-Range');
  return range === null || range.startsWith(`bytes ${have}-`);
}

/** Throws for what another request would not change. */
function refused(url, response) {
  const { status } = response;
  if (status < 500 && status !== 408 && status !== 425 && status !== 429) {
    throw new PackageError(
      'missing', `${hostOf(url)} has no ${nameOf(url)} (HTTP ${status}): the model may have been `
        + 'replaced or removed there. Reloading the page looks for it anew.');
  }
  const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
  const waitMs = seconds >= 0 ? Math.min(seconds * 1000, LONGEST_RETRY_AFTER_MS) : undefined;
  return { error: new Error(`HTTP ${status}`), waitMs };
}

const unreachable = (url, cause) => new PackageError(
  'unreachable', `${hostOf(url)} does not send ${nameOf(url)} (${cause?.message ?? 'no answer'}). `
    + 'Try again later.', { cause });

const hostOf = (url) => new URL(url).host;
/** The end of a path, a hash cut to what people can compare. */
const nameOf = (url) => new URL(url).pathname.split('/').pop()
  .replace(/^([0-9a-f]{8})[0-9a-f]{56}/, '$1…');

/** Doubles, and spreads: many tabs may have lost the same server at once. */
const backoffMs = (failures) => Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), LONGEST_WAIT_MS)
  * (0.5 + Math.random() / 2);

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const ended = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', ended);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', ended, { once: true });
  });
}
