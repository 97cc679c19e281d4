// How a transfer ends when it does not end well.

/**
 * Codes in the order of their numbers in frames, which begin at 1; never change the order.
 *
 * - cancelled: one of the two sides did not want it any more
 * - stalled: no progress for 15 seconds
 * - too-large: more bytes than this kind may have
 * - over-budget: this peer has too much unfinished already
 * - unexpected: nobody asked for it, or nobody waits for it any more
 * - corrupt: what arrived is not what was sent
 */
export const REASONS = [
  'cancelled', 'stalled', 'too-large', 'over-budget', 'unexpected', 'corrupt',
];

const SENTENCES = new Map(Object.entries({
  cancelled: 'The other side did not want the transfer any more.',
  stalled: 'The transfer made no progress for 15 seconds.',
  'too-large': 'These are more bytes than such a transfer may have.',
  'over-budget': 'Too much is unfinished between these two peers.',
  unexpected: 'The other side does not wait for this.',
  corrupt: 'What arrived is not what was sent.',
  flood: 'The other side began far more than it finished.',
  closed: 'The connection to the other side is closed.',
  timeout: 'The other side did not answer in time.',
  busy: 'The other side has too much to answer.',
  'not-served': 'The other side does not answer such requests.',
  'not-found': 'The other side does not have it.',
  failed: 'The other side could not answer.',
}));

/**
 * @typedef {'cancelled'|'stalled'|'too-large'|'over-budget'|'unexpected'|'corrupt'|'bad-frame'
 *   |'bad-message'|'flood'|'closed'|'timeout'|'busy'|'not-served'|'not-found'|'failed'}
 *   TransferErrorCode  and whatever code the other side's handler of requests has given
 */

export class TransferError extends Error {
  name = 'TransferError';

  /**
   * @param {TransferErrorCode|string} code
   * @param {string} [message] a sentence for people
   * @param {ErrorOptions} [options]
   */
  constructor(code, message = SENTENCES.get(code) ?? code, options) {
    super(message, options);
    this.code = code;
  }
}

/** Bytes that no peer of this kind sends, or not at this moment: the connection ends. */
export class FrameError extends TransferError {
  name = 'FrameError';

  /** @param {string} why */
  constructor(why) {
    super('bad-frame', `The other side sent what cannot be: ${why}.`);
  }
}
