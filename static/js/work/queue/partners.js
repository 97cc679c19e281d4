// Who had a part in a chunk beside the worker that holds it. Twin of queue/genqueue/partners.py.
//
// - Who holds a chunk says with its result who has helped. It alone answers for the result, so this is
//   information for people and nothing is trusted on account of it.
// - Of a step that two have computed each one has half.

export const MOST_PARTNERS = 8; // of one entry of a timeline

/**
 * @typedef {object} Partner
 * @property {string} worker its id
 * @property {'half'|'band'|'gave'} how half of the guidance of `steps` steps, a band of a picture, or
 *   gave what the chunk began with
 * @property {number} steps
 * @property {number} received @property {number} sent bytes that the holder has from it and has sent it
 */

/**
 * Those of them that compute here beside the holder.
 * @param {import('./records.js').Records} records @param {Partner[]} partners
 * @param {string} holder id of its worker @returns {Partner[]}
 */
export const present = (records, partners, holder) => partners
  .filter(({ worker }) => worker !== holder && records.workers.get(worker)?.state === 'ready')
  .map(({ worker, how, steps, received, sent }) => ({ worker, how, steps, received, sent }));

/** @param {Partner[]} some @param {Partner[]} others of two entries that become one
 * @returns {Partner[]} with their sums */
export function together(some, others) {
  const sums = new Map();
  for (const one of [...some, ...others]) {
    const key = `${one.how} ${one.worker}`;
    const known = sums.get(key);
    sums.set(key, known ? {
      ...one, steps: known.steps + one.steps, received: known.received + one.received,
      sent: known.sent + one.sent,
    } : one);
  }
  return [...sums.values()];
}

/** What each has computed of so many steps: of those of `steps` in which another one has helped, both
 * have half.
 * @param {number} steps @param {string} worker @param {Partner[]} partners
 * @returns {Map<string, number>} by id */
export function parts(steps, worker, partners) {
  const by = new Map();
  const add = (id, part) => part && by.set(id, (by.get(id) ?? 0) + part);
  let left = steps;
  let own = steps;
  for (const one of partners) {
    const helped = Math.min(one.steps, left);
    left -= helped;
    own -= helped / 2;
    add(one.worker, helped / 2);
  }
  add(worker, own);
  return by;
}
