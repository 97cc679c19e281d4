// Where an exported room page is. The room stands after the #, which no browser sends to a host:
//
//   room.html#kitchen/                        the room
//   room.html#...-private/?key=<password>     a private one (room/invitation.js)
//   room.html#kitchen/?like=<job>/<number>    its form filled like a picture of it
//   room.html#kitchen/jobs/<job>/cancel/      what a button means; nobody goes there
//
// What comes after the room is what comes after /rooms/<room>/ on a server.

import { makeInvitation, readInvitation } from 'room/invitation.js';

const ROOM_PAGE = 'room.html';

/**
 * @param {string} hash such as location.hash
 * @returns {{room: string, path: string, query: URLSearchParams, password: string|null}} as it stands
 *   there: nothing of it is checked
 */
export function placeIn(hash) {
  const [way, text = ''] = hash.replace(/^#/, '').split('?', 2);
  const [room, ...path] = way.split('/');
  const query = new URLSearchParams(text);
  const password = query.get('key');
  query.delete('key');
  return { room, path: path.join('/'), query, password };
}

/**
 * The address of a room on this host, which is also its link.
 * @param {string} room @param {string|null} password @param {string} [base]
 */
export const addressOf = (room, password, base = location.href) =>
  makeInvitation({ page: new URL(ROOM_PAGE, base).href, room, password });

/** The same within the page: where a form filled so is. query: of its members */
export function hashOf(room, password, query = {}) {
  const said = new URLSearchParams({ ...(password && { key: password }), ...query });
  return `#${room}/${said.size ? `?${said}` : ''}`;
}

/**
 * What somebody entered: an id, or the link of a server's or an exported page's room.
 * @param {string} text
 * @returns {{room: string|null, password: string|null}}
 * @throws {import('room/errors.js').NetworkError} as readInvitation
 */
export function placeEntered(text, base = location.href) {
  const said = text.trim();
  const link = /[/#]/.test(said) ? said : `#${said}`;
  const page = new URL(ROOM_PAGE, base);
  return readInvitation(URL.canParse(link, page) ? new URL(link, page).href : link);
}
