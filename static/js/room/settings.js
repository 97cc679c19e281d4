// The ways to others that a page is told of: relays, which carry the first few messages of two tabs,
// and STUN and TURN servers, through which browsers find a path between them.

import { NetworkError } from './errors.js';

const MOST_RELAYS = 12;
const MOST_ICE_SERVERS = 8;
const LONGEST_ADDRESS = 256;
const ICE_ADDRESS = /^(?:stun|stuns|turn|turns):[^\s/@]+$/;
const TURN_ADDRESS = /^turns?:/;

/** STUN servers that say to a browser under which address others see it. */
export const PUBLIC_ICE_SERVERS = [
  { urls: 'stun:stun.cloudflare.com:3478' },
  { urls: 'stun:stun.l.google.com:19302' },
];

/**
 * @param {unknown} relays addresses
 * @param {string} [page] address of the page: one that came over http may use its own host's ws
 * @returns {string[]} each once, as the browser writes it
 * @throws {NetworkError} bad-relay
 */
export function checkRelays(relays, page = globalThis.location?.href) {
  if (!Array.isArray(relays) || relays.length > MOST_RELAYS) {
    throw new NetworkError('bad-relay', `A list of at most ${MOST_RELAYS} relays is needed.`);
  }
  return [...new Set(relays.map((relay) => relayAddress(relay, page)))];
}

function relayAddress(relay, page) {
  const text = typeof relay === 'string' ? relay.trim() : '';
  const url = text.length <= LONGEST_ADDRESS && URL.canParse(text) ? new URL(text) : null;
  const safe = url?.protocol === 'wss:' || (url?.protocol === 'ws:' && mayBePlain(url, page));
  if (!safe || url.username || url.password || url.hash) {
    throw new NetworkError(
      'bad-relay', `“${text.slice(0, 80)}” is not the address of a relay, such as wss://relay.example/.`);
  }
  return url.href;
}

/** Without encryption only to this very computer, or to the host that the page came from. */
function mayBePlain({ hostname }, page) {
  if (['localhost', '127.0.0.1', '[::1]'].includes(hostname)) return true;
  const from = page && URL.canParse(page) ? new URL(page) : null;
  return from?.protocol === 'http:' && from.hostname === hostname;
}

/**
 * @param {unknown} servers as RTCPeerConnection takes them
 * @returns {RTCIceServer[]} with nothing but addresses and credentials
 * @throws {NetworkError} bad-ice-server
 */
export function checkIceServers(servers) {
  if (!Array.isArray(servers) || servers.length > MOST_ICE_SERVERS) {
    throw new NetworkError(
      'bad-ice-server', `A list of at most ${MOST_ICE_SERVERS} STUN and TURN servers is needed.`);
  }
  return servers.map((server) => {
    const urls = [server?.urls ?? []].flat();
    const right = urls.length > 0 && urls.every((url) =>
      typeof url === 'string' && url.length <= LONGEST_ADDRESS && ICE_ADDRESS.test(url));
    const needsPassword = urls.some((url) => TURN_ADDRESS.test(url));
    const { username, credential } = server ?? {};
    if (!right || (needsPassword && !(isText(username) && isText(credential)))) {
      throw new NetworkError(
        'bad-ice-server', 'A STUN server is given as stun:host:port, a TURN server as '
          + 'turn:host:port with a user name and a password.');
    }
    return needsPassword ? { urls, username, credential } : { urls };
  });
}

const isText = (value) => typeof value === 'string' && value.length > 0 && value.length <= 512;

/**
 * @param {{iceServers?: RTCIceServer[], relayOnly?: boolean}} settings
 *   relayOnly: the others see the address of the TURN server instead of this computer's
 * @returns {RTCConfiguration}
 * @throws {NetworkError} bad-ice-server, relay-only-without-turn
 */
export function rtcConfig({ iceServers = PUBLIC_ICE_SERVERS, relayOnly = false }) {
  const servers = checkIceServers(iceServers);
  if (!relayOnly) return { iceServers: servers };
  const turns = servers.filter(({ urls }) => [urls].flat().some((url) => TURN_ADDRESS.test(url)));
  if (!turns.length) {
    throw new NetworkError(
      'relay-only-without-turn',
      'To hide this computer’s address a TURN server is needed, and none is set: nobody can be met.');
  }
  return { iceServers: turns, iceTransportPolicy: 'relay' };
}

/**
 * The servers that were chosen, as RTCPeerConnection takes them.
 * @param {object} chosen
 * @param {string[]|null} chosen.stun addresses; empty: public ones; null: none
 * @param {string[]} chosen.turn addresses of one TURN server, or none
 * @param {string} chosen.username of that @param {string} chosen.credential
 * @returns {RTCIceServer[]} not checked
 */
export function iceServersOf({ stun, turn, username, credential }) {
  const asked = stun?.length ? [{ urls: stun }] : PUBLIC_ICE_SERVERS;
  return [...(stun ? asked : []), ...(turn.length ? [{ urls: turn, username, credential }] : [])];
}

/**
 * What one agrees to by joining, in one sentence.
 * @param {{relayOnly?: boolean, isPrivate?: boolean, name?: string}} settings name: that others see
 */
export function whatOthersSee({ relayOnly = false, isPrivate = false, name = '' }) {
  const who = isPrivate ? 'whoever has the link to this room' : 'whoever knows the name of this room';
  const called = name ? `the name “${name}”` : 'the name you give yourself, if you do';
  const address = relayOnly
    ? 'the address of the TURN server instead of this computer’s, which only that server and the '
      + 'relays see'
    : 'this computer’s internet address';
  return `Others here, that is ${who}, see what you write in prompts, the pictures, ${called}, what `
    + `kind of graphics device computes, and ${address}.`;
}
