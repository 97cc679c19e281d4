// What can go wrong in the engine, each with a code for programs and a sentence for people.

/**
 * @typedef {'no-webgpu'|'insecure'|'no-adapter'|'software-only'|'too-large'|'out-of-memory'
 *   |'device-lost'|'device-error'|'bad-shader'|'bad-plan'|'bad-package'|'bad-request'|'closed'
 *   |'worker-failed'} EngineErrorCode
 */

export class EngineError extends Error {
  name = 'EngineError';

  /**
   * @param {EngineErrorCode|string} code
   * @param {string} message a sentence for people
   * @param {ErrorOptions} [options] `cause`: what was underneath
   */
  constructor(code, message, options) {
    super(message, options);
    this.code = code;
  }
}

/** Not a plan that may be run; the message says where and why. */
export class PlanError extends EngineError {
  name = 'PlanError';

  /** @param {string} message */
  constructor(message) {
    super('bad-plan', message);
  }
}

/** No expression of the grammar, or one without a value; the message holds its text. */
export class ExpressionError extends PlanError {
  name = 'ExpressionError';
}
