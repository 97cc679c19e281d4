// Links into a room. The password of a private room is in the fragment, which browsers never send to
// a server; whoever has the link can come in, and nobody without it.
//
//   https://site.example/rooms/kitchen/                     a room of a site, which is never private
//   https://host.example/p2p/room.html#kitchen              of exported files: nothing is sent
//   https://host.example/p2p/room.html#...-private/?key=... a private one of those
//
// A server has every room's pictures and prompts, so there private rooms are none: a link that says
// otherwise is refused. The id of a private room made here is a hash of its password. So a page knows from the id alone that
// a password is needed, and whether it has the right one, before it looks for anybody; and there is
// never a public room of the same id. The id does not lead back to the password.

import { NetworkError } from './errors.js';
import { checkRoom } from './trystero.js';

const KEY = /^[A-Za-z0-9_-]{22,128}$/; // 22 characters of base64url are 128 bits
const KEY_BYTES = 24;
const ROOM_BYTES = 16;
const PRIVATE = /^[A-Za-z0-9_-]{22}-private$/;
const IN_PATH = /\/rooms\/([A-Za-z0-9_-]{1,64})\/?$/;

/** @returns {string} a password of 192 random bits */
export const randomPassword = () => randomText(KEY_BYTES);

/** @returns {string} the id of a room that nobody can guess: 128 random bits */
export const randomRoom = () => randomText(ROOM_BYTES);

const randomText = (bytes) => textOf(crypto.getRandomValues(new Uint8Array(bytes)));

const textOf = (bytes) => btoa(String.fromCharCode(...bytes))
  .replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

/** @param {unknown} password @returns {string} @throws {NetworkError} bad-password */
export function checkPassword(password) {
  if (typeof password === 'string' && KEY.test(password)) return password;
  throw new NetworkError(
    'bad-password', 'The password in this link is not whole: copy the link again, to its end.');
}

/**
 * @param {string} password
 * @returns {Promise<string>} the id of its room: 128 bits of a hash, and what says that it is private
 */
export async function privateRoom(password) {
  const text = new TextEncoder().encode(`p2pweb.private-room ${password}`);
  const hash = await crypto.subtle.digest('SHA-256', text);
  return `${textOf(new Uint8Array(hash, 0, ROOM_BYTES))}-private`;
}

/** @param {string} room @returns {boolean} whether its id says that a password is needed */
export const isPrivate = (room) => PRIVATE.test(room);

/**
 * Whether a room may be entered with what a link says, as far as that can be known without asking
 * anybody.
 * @param {string} room @param {string|null} password
 * @returns {Promise<void>}
 * @throws {NetworkError} bad-room, bad-password, password-needed, wrong-password, no-password-needed
 */
export async function checkEntry(room, password) {
  checkRoom(room);
  if (!isPrivate(room)) {
    if (password === null) return;
    throw new NetworkError('no-password-needed', 'The password in this link belongs to no room of this '
      + 'name: private rooms have ids that end in “-private”.');
  }
  if (password === null) {
    throw new NetworkError('password-needed', 'This room is private: its id alone lets nobody in. Ask '
      + 'somebody who is there for the whole link, which carries the password.');
  }
  checkPassword(password);
  // Elsewhere nothing can be hashed, and nobody met either.
  if (globalThis.isSecureContext && await privateRoom(password) !== room) {
    throw new NetworkError('wrong-password', 'The password in this link is not that of this room: copy '
      + 'the link again, to its end.');
  }
}

/**
 * @param {object} invitation
 * @param {string} invitation.page address of the page, whose own query and fragment are dropped
 * @param {string} invitation.room
 * @param {string|null} [invitation.password] of a private room
 * @returns {string} the link
 * @throws {NetworkError} bad-invitation, bad-room, bad-password
 */
export function makeInvitation({ page, room, password = null }) {
  const url = address(page);
  url.search = '';
  const inPath = roomInPath(url) === checkRoom(room);
  if (inPath && password !== null) throw noPrivateRoom();
  const key = password === null ? '' : `/?key=${checkPassword(password)}`;
  url.hash = inPath ? '' : room + key;
  return url.href;
}

/**
 * @param {string} link
 * @returns {{room: string|null, password: string|null}} room: null when the link names none
 * @throws {NetworkError} bad-invitation, bad-room, bad-password; a password in the query is refused,
 *   because a server has seen it
 */
export function readInvitation(link) {
  const url = address(link);
  if (url.searchParams.has('key')) {
    throw new NetworkError(
      'bad-invitation', 'The password of this link was sent to the server: ask for a new link.');
  }
  const inPath = roomInPath(url);
  if (inPath !== null && new URLSearchParams(url.hash.slice(1)).has('key')) throw noPrivateRoom();
  const [way, query = ''] = inPath === null ? url.hash.slice(1).split('?', 2) : [''];
  const [named] = way.split('/');
  const room = inPath ?? (named || null);
  const password = new URLSearchParams(query).get('key');
  return {
    room: room === null ? null : checkRoom(room),
    password: password === null ? null : checkPassword(password),
  };
}

const noPrivateRoom = () => new NetworkError('bad-invitation', 'This link has a password, but rooms of '
  + 'a site have none: a private room is one of exported pages. Ask for its whole link.');

function address(text) {
  if (URL.canParse(text)) return new URL(text);
  throw new NetworkError('bad-invitation', 'This is not the address of a room.');
}

const roomInPath = ({ pathname }) => IN_PATH.exec(pathname)?.[1] ?? null;
