// Refusals, as people and programs read them: twin of queue/genqueue/problems.py and of the errors
// in rooms/messages.py.

/** A request that cannot be granted. */
export class Problem extends Error {
  name = 'Problem';

  /**
   * @param {string} code stable, for programs
   * @param {string} detail a sentence for people
   * @param {string|null} [field] the name of the wrong field, if it is one
   * @param {Problem[]} [others] what else is wrong, for a form that says everything at once
   */
  constructor(code, detail, field = null, others = []) {
    super(detail);
    this.code = code;
    this.field = field;
    this.others = others;
  }

  /** @returns {{code: string, detail: string, field: string|null}} */
  toJSON() {
    return { code: this.code, detail: this.message, field: this.field };
  }
}

/** A message that was not understood. Whoever sent it is told the code; nothing is done. */
export class MessageError extends Error {
  name = 'MessageError';

  /** @param {string} code @param {string} detail a sentence for people */
  constructor(code, detail) {
    super(detail);
    this.code = code;
  }
}

export const unknownType = () =>
  new MessageError('unknown-type', 'There is no message of this type.');

/**
 * A member that must be a whole number from 0 on.
 * @param {object} message @param {string} name
 * @returns {number}
 * @throws {MessageError}
 */
export function whole(message, name) {
  const value = message[name];
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new MessageError('bad-message', `${name} must be a whole number.`);
  }
  return value;
}

/**
 * A member that must be a text.
 * @param {object} message @param {string} name @param {number} longest in characters
 * @returns {string}
 * @throws {MessageError}
 */
export function text(message, name, longest) {
  const value = message[name];
  if (typeof value !== 'string' || [...value].length > longest) {
    throw new MessageError(
      'bad-message', `${name} must be a text of at most ${longest} characters.`);
  }
  return value;
}
