// What both sides hold each other to.

export const STALLED_AFTER_MS = 15_000; // without progress
export const BUDGET_BYTES = 2 ** 27; // that one side may have unfinished at the other
export const MOST_UNFINISHED = 256; // transfers, likewise
// Announced, refused, and not worked off by what ended well: the peer is shut out.
export const MOST_OVERDRAWN_BYTES = 2 ** 29;
export const COST_OF_A_REFUSAL_BYTES = 2 ** 20; // at least; what a good end is worth, at least
export const LARGEST_BLOCK_BYTES = 2 ** 18;

/**
 * @typedef {object} Kind of transfers
 * @property {number} most bytes that one may have
 * @property {boolean} [ordered] delivered in the order in which they were sent, with all others that
 *   are; when one fails, so does the line
 * @property {boolean} [short] may go in one frame when it is short enough for one
 */
