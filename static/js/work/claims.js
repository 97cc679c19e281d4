// Who holds a room's queue: decided by every tab for itself, from what all of them announce, and
// always alike, since all of them look at the same few numbers.
//
// - Whoever holds a queue claims it, with a term. Everybody follows the claim with the highest term;
//   of equal ones, that of a capable tab, and of these that of the lowest id.
// - A room in which nobody is yet has a holder with term 0 in every tab that comes; they find each
//   other, and one of them stays.
// - When the holder has gone, the tab with the newest copy takes over with the next term: of equal
//   ones, a capable one before the others, and of these the lowest id.
// - A phone is less capable: its system stops the page when it goes into a pocket, and the queue's
//   holder serves all the others.

/**
 * @typedef {object} Claim what a tab announces of itself; from a stranger until `readClaim`
 * @property {string} id of the tab
 * @property {boolean} holds a queue
 * @property {number} term of the queue that it holds, or of the one it follows
 * @property {number} copy term of the queue of which it has a copy; -1 without one
 * @property {boolean} capable of holding it for the others
 */

const MOST_TERM = 2 ** 31;

/**
 * @param {string} id @param {object} about anything
 * @returns {Claim}
 */
export function readClaim(id, about) {
  const { holds, term, copy, capable } = Object(about?.queue);
  return {
    id,
    holds: holds === true,
    term: whole(term, 0),
    copy: whole(copy, -1),
    capable: capable !== false,
  };
}

/** @param {unknown} value @returns {boolean} */
export const isTerm = (value) => isWhole(value, 0);

const isWhole = (value, least) => Number.isInteger(value) && value >= least && value < MOST_TERM;

const whole = (value, otherwise) => (isWhole(value, otherwise) ? value : otherwise);

/**
 * @param {Claim[]} claims of all tabs that are here
 * @returns {Claim|null} the one whose queue everybody follows; null when nobody holds one
 */
export function rightful(claims) {
  const [first = null] = claims.filter(({ holds }) => holds)
    .sort((one, other) => other.term - one.term || byMerit(one, other));
  return first;
}

/**
 * @param {Claim[]} claims of all tabs that are here
 * @returns {string[]} ids in the order in which they take over when the holder has gone
 */
export function successors(claims) {
  return claims.toSorted((one, other) => other.copy - one.copy || byMerit(one, other))
    .map(({ id }) => id);
}

const byMerit = (one, other) => other.capable - one.capable || (one.id < other.id ? -1 : 1);
