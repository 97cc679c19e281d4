// Every state there is, who moves it on, and the one function that writes states.
//
// Twin of queue/genqueue/transitions.py; tests/vectors/queue/transitions.json is what both must be.

/** @typedef {'job'|'image'|'chunk'|'worker'|'check'} Kind */

/** Every allowed move; nothing else may happen. @type {Record<Kind, Record<string, string[]>>} */
export const MOVES = {
  job: {
    queued: ['running', 'cancelled'], // the claim of its first chunk; or its owner cancels
    running: ['done', 'failed', 'cancelled'], // its last image ends it, or its owner cancels
  },
  image: {
    // queued -> failed: the encoding that all images of a job share has failed.
    queued: ['running', 'failed', 'cancelled'], // the claim of its first denoise chunk
    running: ['done', 'failed', 'cancelled'], // its decode chunk is done, or a chunk of it fails
  },
  chunk: {
    pending: ['leased', 'cancelled'], // claim
    // leased -> pending: late, or the worker is gone. The attempt goes up with it.
    leased: ['done', 'failed', 'cancelled', 'pending'], // its worker, or the sweep when it is late
  },
  worker: {
    loading: ['ready', 'gone'],
    ready: ['loading', 'gone'], // gone: it left, or the network lost it
    gone: ['loading', 'ready'], // it came again
  },
  // Of what a worker hands in (checks.js). What is settled or dropped is no record any more.
  check: {
    held: ['open', 'spared'], // its lease has ended
    open: ['lapsed'], // nobody can say
    spared: ['open'], // the encoding of somebody who was shut out since
    lapsed: [],
  },
};

export const JOB_ENDED = ['done', 'failed', 'cancelled'];
export const IMAGE_ENDED = ['done', 'failed', 'cancelled'];
export const CHUNK_LIVE = ['pending', 'leased'];

/** @param {{state: string}} job @returns {boolean} */
export const jobEnded = (job) => JOB_ENDED.includes(job.state);
/** @param {{state: string}} image @returns {boolean} */
export const imageEnded = (image) => IMAGE_ENDED.includes(image.state);

/** The program asked for a move that the table does not have: a bug, not a race. */
export class IllegalMove extends Error {}

/**
 * The only writer of a `state`.
 * @param {Kind} kind @param {{state: string}} record
 * @param {string} old the state that the caller takes it to be in @param {string} next
 * @param {object} [values] written together with the state
 * @throws {IllegalMove} also when the record is in another state: nothing runs in between here
 */
export function move(kind, record, old, next, values = {}) {
  if (record.state !== old || !MOVES[kind][old]?.includes(next)) {
    throw new IllegalMove(`${kind} in ${record.state}: ${old} -> ${next}`);
  }
  Object.assign(record, values, { state: next });
}
