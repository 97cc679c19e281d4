// What people read of how a chunk is computed: one sentence, or none where there is nothing to say.

const ALONE = {
  busy: 'Alone: the other tabs compute pictures of their own.',
  unguided: 'Alone: without guidance there is nothing to share.',
  unmeasured: 'Alone: how fast this tab is has to be measured first.',
  memory: 'Alone: this device has no memory to spare for a shared picture.',
  short: 'Alone: too few steps are left to share them.',
};
const ENDED = {
  late: 'Alone: the other tab did not answer in time.',
  gone: 'Alone: the other tab has gone.',
  busy: 'Alone: the other tab has work of its own now.',
  over: 'Alone: the other tab has stopped.',
  memory: 'Alone: this device has no memory to spare for a shared picture.',
  slow: 'Alone: two were not faster than one.',
  nonsense: 'Alone: the other tab sent what is no part of a picture.',
  wrong: 'Alone: the other tab computed something else. Its part was done again.',
};
const NUMBERS = ['nobody', 'one', 'two', 'three', 'four', 'five'];
const TOO_SLOW = {
  'slow-link': 'the link is too slow to share one picture',
  'slow-tab': 'the other tab is too slow to share one picture',
};

/**
 * @param {import('./recruiting.js').Strategy} strategy
 * @returns {string} may be empty
 */
export function strategySentence({ strategy, why, expected, real, ended, rows }) {
  if (strategy === 'halves') return together('Computed by two', expected, real);
  if (strategy === 'bands') {
    return together(`Decoded by ${NUMBERS[rows.length] ?? rows.length}`, expected, real);
  }
  if (ended) return ENDED[ended] ?? '';
  if (TOO_SLOW[why]) return `Alone: ${TOO_SLOW[why]} (${wouldTake(expected)}).`;
  return ALONE[why] ?? '';
}

function together(how, expected, real) {
  if (real === null) {
    return expected === null ? `${how}.` : `${how}: ${times(expected)} as fast expected.`;
  }
  const than = expected === null ? '' : ` (${times(expected)} expected)`;
  return `${how}: ${times(real)} as fast${than}.`;
}

function wouldTake(expected) {
  return expected < 1 ? `it would take ${times(1 / expected)} as long`
    : `it would be only ${times(expected)} as fast`;
}

/** With a space at which no line breaks. */
const times = (number) => `${number.toFixed(number < 1.095 ? 2 : 1)}\u00a0×`;

/** @param {import('./recruit.js').Helping} helping @returns {string} */
export const helpingSentence = ({ step, steps, band }) => (band
  ? 'Helping another tab to finish its picture.'
  : `Helping another tab with its picture: step ${Math.min(step + 1, steps)} of ${steps}.`);
