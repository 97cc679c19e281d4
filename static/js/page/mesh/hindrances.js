// What keeps this tab from meeting others, in sentences, for a page of a site as for an exported one:
// said as long as it is true, also beside those who are met already.

const ALONE = {
  connecting: 'No relay has answered yet; trying again. Work here goes on.',
  lost: 'The way to others is interrupted; trying again. Work here goes on.',
};
const AMONG_OTHERS =
  'No relay is within reach: whoever comes now cannot be met until one is back; trying again.';

/**
 * @param {object} now
 * @param {import('../../room/supervisor.js').SignallingState|null} now.state of the relays
 * @param {import('../../room/unmet.js').Problem|null} now.problem
 * @param {number} now.met how many others are
 * @returns {string} empty where nothing does
 */
export function hindrances({ state, problem, met }) {
  const said = [];
  if (state && state.signalling !== 'open') {
    said.push(met ? AMONG_OTHERS : ALONE[state.signalling]);
  }
  if (state?.clock) said.push(clockSentence(state.clock));
  if (problem) said.push(problem.message);
  return said.join(' ');
}

function clockSentence({ aheadS }) {
  const off = aheadS === null
    ? 'This computer’s clock seems to be wrong'
    : `This computer’s clock is about ${duration(Math.abs(aheadS))} `
      + `${aheadS > 0 ? 'ahead of' : 'behind'} the relay’s`;
  return `${off}: nothing is taken from here, and nobody new can be met until the clock is set right.`;
}

const UNITS = [['day', 86_400], ['hour', 3600], ['minute', 60], ['second', 1]];

/** In the largest unit that it has one and a half of. */
function duration(seconds) {
  const [name, length] = UNITS.find(([, unit]) => seconds >= 1.5 * unit) ?? UNITS.at(-1);
  return `${Math.round(seconds / length)} ${name}s`; // two at least: see above
}
