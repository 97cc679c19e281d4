// How a finished latent is decoded: by this tab alone, or in bands by several. Pure, as planner.js.

import { CLEAR_GAIN } from './planner.js';

/**
 * @typedef {object} Decoder a tab that could compute a band
 * @property {string} id
 * @property {number|null} decodeS seconds that the whole picture takes there, where it knows
 * @property {number} crossingS seconds that a few numbers take from tab to tab
 * @property {number} pictureS seconds that the whole picture would take from there to here
 *
 * @typedef {object} BandsSituation
 * @property {'auto'|'alone'|'halves'|'bands'} setting
 * @property {number|null} aloneS seconds of a whole decode here, once it was measured
 * @property {number} setupS more than was expected of the last splits
 * @property {number} rows of the latent @property {number} norms at which bands exchange something
 * @property {number} others tabs that are in the room
 * @property {number} busy of these, tabs that could and have work of their own
 * @property {Decoder[]} candidates
 * @property {boolean} [room] whether this device has memory for a band; true by default
 * @property {(rows: number[]) => number[]} shares what bands of so many rows take of a whole decode
 *
 * @typedef {object} BandsChoice
 * @property {'alone'|'bands'} strategy
 * @property {'forced'|'gain'|'nobody'|'busy'|'unmeasured'|'memory'|'slow-tab'|'slow-link'} why
 * @property {string[]} peers of the split, made or not, from the second band on
 * @property {number[]} rows of each band, this tab's first
 * @property {number|null} expected how many times as fast as alone the split would be
 */

/**
 * Rows in proportion to speeds, at least one each.
 * @param {number} rows @param {number[]} seconds of the whole on each tab; at most as many as rows
 * @returns {number[]}
 */
export function rowsBySpeed(rows, seconds) {
  const speeds = seconds.map((each) => 1 / Math.max(each, 1e-9));
  const all = speeds.reduce((sum, speed) => sum + speed, 0);
  const wanted = speeds.map((speed) => (rows * speed) / all);
  const found = wanted.map((part) => Math.max(1, Math.floor(part)));
  for (let left = rows - found.reduce((sum, part) => sum + part, 0); left !== 0;) {
    const way = Math.sign(left);
    const furthest = found
      .map((part, index) => ({ index, off: way * (wanted[index] - part) }))
      .filter(({ index }) => way > 0 || found[index] > 1)
      .reduce((first, next) => (next.off > first.off ? next : first));
    found[furthest.index] += way;
    left -= way;
  }
  return found;
}

/**
 * Seconds that a split takes: the slowest band; at each norm there and back; its rows at the end.
 * @param {BandsSituation} situation @param {Decoder[]} helpers @param {number[]} rows of each band
 * @param {(at: {pictureS: number, crossingS: number}) => {pictureS: number, crossingS: number}} [over]
 *   another link than each has
 * @returns {number}
 */
export function bandsSeconds({ aloneS, setupS, norms, shares, rows: all }, helpers, rows, over) {
  const [own, ...theirs] = shares(rows);
  const links = helpers.map((helper) => over?.(helper) ?? helper);
  const computed = Math.max(
    aloneS * own, ...helpers.map(({ decodeS }, at) => (decodeS ?? aloneS) * theirs[at]));
  const crossing = Math.max(...links.map(({ crossingS }) => crossingS));
  const back = Math.max(...links.map(({ pictureS }, at) => (pictureS * rows[at + 1]) / all));
  // The latent is asked for and fetched first, and every norm goes there and back
  return setupS + computed + (4 + 2 * norms) * crossing + back;
}

/** @param {BandsSituation} situation @returns {BandsChoice} */
export function chooseBands(situation) {
  const { setting, aloneS, norms, rows, others, busy, candidates, room = true } = situation;
  const alone = (why, more) =>
    ({ strategy: 'alone', why, peers: [], rows: [rows], expected: null, ...more });
  if (setting === 'alone' || setting === 'halves') return alone('forced');
  if (!others || !norms) return alone('nobody');
  if (!room) return alone('memory');
  if (setting === 'auto' && aloneS === null) return alone('unmeasured');
  if (!candidates.length || rows < 2) return alone(busy ? 'busy' : 'nobody');
  const found = best(situation);
  if (setting === 'bands') return { ...found, strategy: 'bands', why: 'forced' };
  if (found.expected >= CLEAR_GAIN) return { ...found, strategy: 'bands', why: 'gain' };
  const instant = best(situation, () => ({ crossingS: 0, pictureS: 0 }));
  const why = instant.expected >= CLEAR_GAIN ? 'slow-link' : 'slow-tab';
  return { ...found, strategy: 'alone', why };
}

/** The fastest split over the first so many tabs, the fastest of them first. */
function best(situation, over) {
  const { aloneS, rows, candidates } = situation;
  const secondsOf = ({ decodeS }) => decodeS ?? aloneS ?? 1;
  const ranked = [...candidates].sort((a, b) => secondsOf(a) - secondsOf(b));
  const splits = ranked.slice(0, rows - 1).map((_, last) => {
    const helpers = ranked.slice(0, last + 1);
    const cut = rowsBySpeed(rows, [aloneS ?? 1, ...helpers.map(secondsOf)]);
    const seconds = aloneS === null ? null : bandsSeconds(situation, helpers, cut, over);
    return {
      peers: helpers.map(({ id }) => id), rows: cut,
      expected: seconds === null ? null : aloneS / seconds,
    };
  });
  if (aloneS === null) return splits.at(-1); // forced, and nothing is known: all that are there
  return splits.reduce((first, next) => (next.expected > first.expected ? next : first));
}
