// How this browser meets others: relays, STUN and TURN servers, and whether they may see its address.
// Kept in this browser for all rooms of the page, and never part of a link.

import { NetworkError } from 'room/errors.js';
import { checkIceServers, checkRelays, iceServersOf, rtcConfig } from 'room/settings.js';

const KEY = 'p2pweb.connection';
const MOST_ADDRESSES = 8; // of STUN, and of a TURN server
const NO_TURN = 'A TURN server is given as turn:host:port or turns:host:port.';

/**
 * @typedef {object} Connection empty lists: those of the page, and public STUN servers
 * @property {string[]} relays
 * @property {string[]} stun
 * @property {string[]} turn addresses of one server
 * @property {string} username of it
 * @property {string} credential
 * @property {boolean} relayOnly others see the TURN server's address instead of this computer's
 *
 * @typedef {Partial<Record<keyof Connection, string>>} Wrong a sentence for each that is
 */

/** @type {Connection} */
const PLAIN = { relays: [], stun: [], turn: [], username: '', credential: '', relayOnly: false };

let unkept = null; // where this browser keeps nothing

/** @returns {Connection} what was chosen here. What is no longer right in it is as if not chosen, but
 *   for `relayOnly`: who wanted to be hidden is not shown because something else is wrong */
export function ownConnection() {
  const chosen = unkept ?? stored();
  const wrong = whatIsWrong(chosen);
  if (wrong.turn || wrong.username || wrong.credential) {
    Object.assign(chosen, { turn: [], username: '', credential: '' });
  }
  for (const list of ['relays', 'stun']) if (wrong[list]) chosen[list] = [];
  return chosen;
}

/** @param {Connection} chosen @returns {boolean} whether it is kept, or only until the page closes */
export function keepConnection(chosen) {
  unkept = chosen;
  try {
    localStorage.setItem(KEY, JSON.stringify(chosen));
    unkept = null;
  } catch {
    // The page says so.
  }
  return unkept === null;
}

/** @param {Connection} chosen @returns {Wrong} */
export function whatIsWrong({ relays, stun, turn, username, credential, relayOnly }) {
  const wrong = {
    relays: reason(() => checkRelays(relays, '')) ?? unnamable(relays),
    stun: reason(() => checkStun(stun)) ?? unusable(stun.map((urls) => ({ urls }))),
  };
  const server = { urls: turn, username, credential };
  if (turn.length || username || credential) {
    if (!turn.length || !turn.every((url) => /^turns?:/.test(url))) wrong.turn = NO_TURN;
    else if (turn.length > MOST_ADDRESSES) wrong.turn = tooMany();
    else {
      if (!username) wrong.username = 'A TURN server asks for a user name.';
      if (!credential) wrong.credential = 'A TURN server asks for a password.';
      if (username && credential) {
        wrong.turn = reason(() => checkIceServers([server])) ?? unusable([server]);
      }
    }
  }
  if (relayOnly && !wrong.turn && !wrong.username && !wrong.credential) {
    const iceServers = turn.length ? [server] : [];
    wrong.relayOnly = reason(() => rtcConfig({ iceServers, relayOnly }));
  }
  return Object.fromEntries(Object.entries(wrong).filter(([, sentence]) => sentence));
}

/**
 * @param {Connection} chosen
 * @param {string[]} pageRelays those of the export
 * @returns {{relays: string[], iceServers?: RTCIceServer[], relayOnly: boolean}} for P2PNetwork.join
 */
export function joinOptions({ relays, relayOnly, ...ice }, pageRelays) {
  return {
    relays: relays.length ? relays : pageRelays, iceServers: iceServersOf(ice), relayOnly,
  };
}

/** @returns {Connection} of the right shape, whatever is in the store */
function stored() {
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(KEY));
  } catch {
    // as if nothing had been chosen
  }
  const entries = Object.entries(PLAIN).map(([name, plain]) => {
    const value = kept?.[name];
    const fits = typeof value === typeof plain && Array.isArray(value) === Array.isArray(plain)
      && (!Array.isArray(value) || value.every((one) => typeof one === 'string'));
    return [name, fits ? value : plain];
  });
  return structuredClone(Object.fromEntries(entries));
}

function checkStun(addresses) {
  if (addresses.length > MOST_ADDRESSES) throw new NetworkError('bad-ice-server', tooMany());
  if (addresses.some((url) => !/^stuns?:/.test(url))) {
    throw new NetworkError('bad-ice-server', 'A STUN server is given as stun:host:port.');
  }
  checkIceServers(addresses.map((urls) => ({ urls })));
}

const tooMany = () => `At most ${MOST_ADDRESSES} addresses can be given.`;

/** The page's policy can name no host by its IPv6 address. */
function unnamable(relays) {
  return relays.some((relay) => /^\s*ws:\/\/\[/i.test(relay))
    ? 'A relay on this computer is given as ws://localhost:port or ws://127.0.0.1:port.' : undefined;
}

/** What looks right may still be nothing that this browser takes, such as port 99999. */
function unusable(iceServers) {
  for (const server of iceServers) {
    try {
      new RTCPeerConnection({ iceServers: [server] }).close();
    } catch {
      return `This browser cannot use “${[server.urls].flat().join(' ').slice(0, 80)}”.`;
    }
  }
  return undefined;
}

/** The sentence of what a check throws. */
function reason(check) {
  try {
    check();
    return undefined;
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    return error.message;
  }
}
