// Why something could not be computed: a code for programs and a sentence for people.
//
// Codes as in queue/genqueue/faults.py. A room without a server has no log that anybody could read.

/** @type {Record<string, string>} */
export const SENTENCES = {
  'out-of-memory': 'This needs more memory than the worker has. A smaller picture may work.',
  'model-unreadable': 'The worker could not read the model.',
  'file-lost': 'A file to go on from was lost. Asking again starts anew.',
  'worker-lost': 'Workers stopped again and again while they computed this.',
  'computation-failed': 'The worker could not compute this.',
  'result-refused': 'What workers handed in for this was damaged.',
};

/** Of one lease that ended so: others may have gone on. @type {Record<string, string>} */
const OF_ONE_LEASE = {
  'out-of-memory': 'It needs more memory than this worker has.',
  'model-unreadable': 'This worker could not read the model.',
  'file-lost': 'A file to go on from was lost.',
  'worker-lost': 'This worker stopped, or was not heard of any more.',
  'computation-failed': 'This worker could not compute it.',
  'result-refused': 'What this worker handed in was damaged.',
};

/** @param {string} code @returns {string} for people; an unknown code is any failure */
export const sentence = (code) => (
  Object.hasOwn(SENTENCES, code) ? SENTENCES[code] : SENTENCES['computation-failed']
);

/** @param {string} code @returns {string} the same of one lease that ended so */
export const ofOneLease = (code) => (
  Object.hasOwn(OF_ONE_LEASE, code) ? OF_ONE_LEASE[code] : OF_ONE_LEASE['computation-failed']
);
