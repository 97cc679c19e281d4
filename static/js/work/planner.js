// How the steps of a chunk are computed: by this tab alone, or with the halves of guidance on two.
// Pure: what was measured goes in, a choice and its reason come out. docs/recruiting.md derives it.

/** A split is made when it is expected to be so many times as fast: less is within what is measured
 * wrongly, and a second tab's electricity is not for nothing. */
export const CLEAR_GAIN = 1.1;
/** Steps of a split after which it is judged by what they took. */
export const JUDGED_AFTER = 3;
const MANY_STEPS = 100;
export const SETTINGS = ['auto', 'alone', 'halves', 'bands'];

/**
 * @typedef {object} Candidate a tab that could compute a half
 * @property {string} id
 * @property {number|null} halfS seconds that its half of a step takes, where it knows
 * @property {number} crossingS seconds that a velocity takes from tab to tab
 * @property {number} [checks] of a run, on the average: steps of which its half is computed here as
 *   well
 *
 * @typedef {object} Situation
 * @property {'auto'|'alone'|'halves'|'bands'} setting bands: of pictures, and steps alone
 * @property {number} guidance @property {number} steps that a split could have
 * @property {number|null} aloneS seconds of a step with both halves here, once they were measured
 * @property {number|null} halfS of one half here; until it was measured, half of `aloneS`
 * @property {number} setupS before the first step of a split
 * @property {number} others tabs that are in the room
 * @property {number} busy of these, tabs that could and have work of their own
 * @property {Candidate[]} candidates
 *
 * @typedef {object} Choice
 * @property {'alone'|'halves'} strategy
 * @property {'forced'|'gain'|'unguided'|'nobody'|'busy'|'unmeasured'|'slow-tab'|'slow-link'
 *   |'short'} why unguided: there is but one half.  unmeasured: nothing was computed here yet.
 *   short: too few steps to be worth the beginning
 * @property {string|null} peer of the split, made or not
 * @property {number|null} expected how many times as fast as alone the split would be
 */

/**
 * Seconds that steps take with their halves on two tabs: each waits for the other one's velocity.
 * @param {{steps: number, ownS: number, peerS: number, crossingS: number, setupS?: number}} split
 *   ownS, peerS: of a half here and there
 * @returns {number}
 */
export function splitSeconds({ steps, ownS, peerS, crossingS, setupS = 0 }) {
  let here = setupS;
  let there = setupS + crossingS; // the latent has to get there
  for (let step = 0; step < steps; step += 1) {
    const mine = here + ownS;
    const theirs = there + peerS;
    here = Math.max(mine, theirs + crossingS);
    there = Math.max(theirs, mine + crossingS);
  }
  return here;
}

/** @param {Situation} situation @returns {Choice} */
export function choose(situation) {
  const { setting, guidance, aloneS, others, busy, candidates } = situation;
  const alone = (why, more) => ({ strategy: 'alone', why, peer: null, expected: null, ...more });
  if (setting === 'alone' || setting === 'bands') return alone('forced');
  if (!others) return alone('nobody');
  if (!(guidance > 1)) return alone('unguided');
  if (setting === 'auto' && aloneS === null) return alone('unmeasured');
  if (!candidates.length) return alone(busy ? 'busy' : 'nobody');
  const best = candidates
    .map((candidate) => ({ candidate, expected: gain(situation, candidate) }))
    .reduce((first, next) => (next.expected > first.expected ? next : first));
  const found = { peer: best.candidate.id, expected: best.expected || null };
  if (setting === 'halves') return { strategy: 'halves', why: 'forced', ...found };
  if (best.expected >= CLEAR_GAIN) return { strategy: 'halves', why: 'gain', ...found };
  return alone(hindrance(situation, best.candidate), found);
}

/** How many times as fast; 0 where nothing is known. */
function gain({ aloneS, halfS, steps, setupS }, { halfS: peerS, crossingS, checks = 0 }) {
  if (aloneS === null || !steps) return 0;
  const ownS = halfS ?? aloneS / 2;
  const split = { steps, ownS, peerS: peerS ?? ownS, crossingS, setupS };
  return (steps * aloneS) / (splitSeconds(split) + checks * ownS);
}

function hindrance(situation, candidate) {
  const endless = { ...situation, steps: MANY_STEPS, setupS: 0 };
  const gainWith = (changes) => gain(endless, { ...candidate, checks: 0, ...changes });
  if (gainWith({ crossingS: 0 }) < CLEAR_GAIN) return 'slow-tab';
  return gainWith({}) < CLEAR_GAIN ? 'slow-link' : 'short';
}

/**
 * Whether a split goes on, by what its steps took.
 * @param {{setting: string, aloneS: number|null, stepS: number, measured: number}} split
 *   stepS: seconds a step, of `measured` steps
 */
export const goesOn = ({ setting, aloneS, stepS, measured }) =>
  setting === 'halves' || aloneS === null || measured < JUDGED_AFTER || stepS < aloneS;
