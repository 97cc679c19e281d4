// Trystero, loaded when somebody joins a room and not before, and what all our pages must agree on
// to meet: a page of the site and an exported one that share a relay are in the same room.

import { NetworkError } from './errors.js';

export const APP_ID = 'p2p-webgpu-diffusion';
const ROOM_ID = /^[A-Za-z0-9_-]{1,64}$/;

/** @param {unknown} room @returns {string} @throws {NetworkError} bad-room */
export function checkRoom(room) {
  if (typeof room === 'string' && ROOM_ID.test(room)) return room;
  throw new NetworkError(
    'bad-room', 'A room is named by 1 to 64 letters, digits, hyphens and underscores.');
}

const PUBLIC_RELAYS = 5;

/**
 * @returns {Promise<{nostr: object, announcement: (room: string) => Promise<string>,
 *   publicRelays: () => string[]}>}
 *   announcement: the event by which Trystero says that this tab is in a room.
 *   publicRelays: the same for all our pages
 */
export async function loadTrystero() {
  const [nostr, core] = await Promise.all(
    [import('@trystero-p2p/nostr'), import('@trystero-p2p/core')]);
  const announcement = async (room) => nostr.createEvent(
    await core.sha1(['Trystero', APP_ID, room].join('@')),
    JSON.stringify({ peerId: nostr.selfId }));
  const publicRelays = () =>
    core.getRelays({ appId: APP_ID }, nostr.defaultRelayUrls, PUBLIC_RELAYS, true);
  return { nostr, announcement, publicRelays };
}
