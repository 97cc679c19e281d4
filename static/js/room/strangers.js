// What comes from other tabs is data from strangers: everything is checked here before it is used.

import { NetworkError } from './errors.js';

export const LONGEST_NAME = 40;
export const LONGEST_MESSAGE = 16_384; // characters of JSON
const LONGEST_ABOUT = 4096; // characters of JSON
const LONGEST_LABEL = 64;

const PEER_ID = /^[0-9A-Za-z]{20}$/;
const TYPE = /^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)*$/;
const LONGEST_TYPE = 64;

/** @param {unknown} id whether it may be a peer's id: never `__proto__` and the like */
export const isPeerId = (id) => typeof id === 'string' && PEER_ID.test(id);

// Controls, what turns the direction of writing, what is not assigned, all kinds of spaces. Two that
// join letters and parts of emoji are needed.
const NOT_PLAIN = /(?:(?![\u200c\u200d])[\p{C}\p{Z}])+/gu;
const SEEN = /[\p{L}\p{N}\p{P}\p{S}]/u;

/**
 * A name as one short line of plain text.
 * @param {unknown} name @returns {string} may be empty
 */
export function plainName(name) {
  if (typeof name !== 'string') return '';
  const line = name.slice(0, 4 * LONGEST_NAME).replace(NOT_PLAIN, ' ').trim();
  const short = [...line].slice(0, LONGEST_NAME).join('').trim();
  return SEEN.test(short) ? short : '';
}

/** @param {unknown} value @returns {boolean} a JSON object, not an array */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * @param {unknown} data what came over a channel
 * @returns {object|null} the message, whose `type` is a word or words with dots; null if it is none
 */
export function readMessage(data) {
  if (typeof data !== 'string' || data.length > LONGEST_MESSAGE) return null;
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    return null;
  }
  if (!isObject(message) || typeof message.type !== 'string') return null;
  return message.type.length <= LONGEST_TYPE && TYPE.test(message.type) ? message : null;
}

/**
 * @param {object} message with a `type`
 * @returns {string} what readMessage takes
 * @throws {NetworkError} bad-message: others would not take it
 */
export function writeMessage(message) {
  const text = JSON.stringify(message);
  if (readMessage(text)) return text;
  throw new NetworkError(
    'bad-message', `A message is an object with a type, at most ${LONGEST_MESSAGE} characters long.`);
}

/** @param {unknown} about @returns {object} what a peer announced, or an empty object */
export function readAbout(about) {
  return isObject(about) && JSON.stringify(about).length <= LONGEST_ABOUT ? about : {};
}

/**
 * @param {object} about what this tab announces @returns {object} a copy as JSON makes it
 * @throws {NetworkError} bad-message
 */
export function checkAbout(about) {
  const text = JSON.stringify(about);
  if (isObject(about) && text.length <= LONGEST_ABOUT) return JSON.parse(text);
  throw new NetworkError(
    'bad-message', `What is announced is an object of at most ${LONGEST_ABOUT} characters.`);
}

/** @param {unknown} label of a channel */
export const isLabel = (label) =>
  typeof label === 'string' && label.length <= LONGEST_LABEL && TYPE.test(label);

/** How many messages one may send: 100 a second in the mean, 1000 at once. */
export class Allowance {
  #left = 1000;
  #at = performance.now();

  /** @returns {boolean} whether one more is allowed */
  spend() {
    const now = performance.now();
    this.#left = Math.min(1000, this.#left + (now - this.#at) / 10);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
