// Who is asking, without accounts and without a server: twin of queue/genqueue/clients.py.
//
// A client is a random id of 128 bits that a browser keeps and tells only to who holds the queue.
// Others see its label. Nobody has a secret to make labels with, and a label is also what ownership
// is checked by, so it has 128 bits of a hash, where the server's has 40.

import { sha256Of } from '../engine/package/sha256.js';

const CLIENT = /^[0-9a-f]{32}$/;
const LABEL_DIGITS = 32;

/** @returns {string} 32 hex digits */
export const newClientId = () => hex(crypto.getRandomValues(new Uint8Array(16)));

/** @param {unknown} id @returns {boolean} */
export const isClientId = (id) => typeof id === 'string' && CLIENT.test(id);

/**
 * @param {string} id of a client
 * @returns {Promise<string>} its public name: 32 hex digits that do not lead back to the id
 */
export const clientLabel = async (id) =>
  (await hashOf(`p2pweb.client-label ${id}`)).slice(0, LABEL_DIGITS);

/**
 * The id of a tab as a worker: the same over reloads, and nobody else's, since it is made of the
 * secret client id.
 * @param {string} client id @param {string} room @param {string} key 32 hex digits of the tab
 * @returns {Promise<string>} written as a UUID
 */
export async function workerId(client, room, key) {
  const digits = await hashOf(`p2pweb.worker ${client} ${room} ${key}`);
  return [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]]
    .map(([from, to]) => digits.slice(from, to)).join('-');
}

const hashOf = (text) => sha256Of(new TextEncoder().encode(text));

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
