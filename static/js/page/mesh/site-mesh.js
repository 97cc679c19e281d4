// A tab of the site among the tabs of its room, directly: loaded when it begins to compute, since
// who only watches needs nobody. Tabs of exported pages that share a relay are there as well.
//
// - What others see of this tab is said before, and nobody is looked for until somebody here agrees,
//   once for each room, as in an exported page. Who hides their address is met over the site's TURN
//   server alone; choosing otherwise means to leave and to meet anew, and work goes on meanwhile.
// - The server hears under which id others reach this tab, and every page can tell by it which of
//   its peers are met and how far away they are: the event `mesh` of the document.
// - While the site has no work for it, it computes for the exported pages (work/two-queues.js).
// - Without it everything works over the server.

import { agree, agreed } from 'page/serverless/agreements.js';
import { ownClient } from 'page/serverless/client.js';
import { Hiding } from 'page/mesh/hiding.js';
import { hindrances } from 'page/mesh/hindrances.js';
import { MeshList } from 'page/mesh/mesh-list.js';
import { naming, ownName } from 'page/people/own-name.js';
import { P2PNetwork } from 'room/p2p-network.js';
import { iceServersOf, whatOthersSee } from 'room/settings.js';
import { CHANNEL, Exchange } from 'work/exchange.js';
import { HostTimers } from 'work/host-timers.js';
import { TwoQueues } from 'work/two-queues.js';

const SAID_BYTES = 1e5; // that came directly
const TELLS_EVERY_MS = 3000; // round trip times are measured as often

/**
 * @typedef {object} MeshPeer a tab that is met
 * @property {string} id as `mesh` of the room's peers
 * @property {string} name as they call themselves
 * @property {boolean} exported it is at an exported page, which has a queue of its own
 * @property {number|null} roundTripMs
 * @property {number|null} mbitPerS
 *
 * @typedef {object} MeshNews `detail` of the event `mesh`
 * @property {string|null} id of this tab
 * @property {'connecting'|'open'|'lost'|null} signalling
 * @property {MeshPeer[]} peers
 * @property {import('work/exchange.js').Counts|null} exchanged
 * @property {boolean} isAway this tab computes for exported pages at the moment
 */

export class SiteMesh {
  #room;
  #socket;
  #relays;
  #ice;
  #hiding;
  #waits;
  #network = null;
  #begun = null; // AbortController, from begin to leave
  #attempt = null; // AbortController of the present way of meeting others
  #turn = Promise.resolve(); // one way after the other: a tab is in one room at a time
  #here = false; // it looks for others
  #state = null; // of the relays
  #problem = null; // with somebody who cannot be met
  #timers = null; // once it was here
  #list;
  #box = document.getElementById('meeting');
  #served = new Map(); // label -> what becomes of a channel that others open under it
  /** @type {Exchange|null} while others can be met */
  exchange = null;
  /** @type {TwoQueues|null} between the worker of this tab and those who lease to it */
  queues = null;

  /** @type {import('work/recruiting.js').Mesh} */
  tabs = {
    peers: () => this.#network?.peers ?? [],
    serve: (label, take) => {
      if (take) this.#served.set(label, take);
      else this.#served.delete(label);
    },
  };

  /**
   * @param {object} page
   * @param {string} page.room
   * @param {import('work/two-queues.js').Wire} page.socket to the site
   * @param {() => boolean} page.waits whether something waits in the room's queue at the site
   * @param {string[]} page.relays besides the site's own
   * @param {Parameters<typeof iceServersOf>[0] & {relayOnly: boolean}} page.ice what the site's
   *   owner has set; relayOnly: nobody shows their address
   */
  constructor({ room, socket, waits, relays, ice }) {
    this.#room = room;
    this.#ice = ice;
    this.#hiding = new Hiding(ice.relayOnly, () => this.#network && this.#meet());
    this.#socket = socket;
    this.#waits = waits;
    this.#relays = [ownRelay(), ...relays];
    this.#list = new MeshList(this.#box);
  }

  /** Looks for the others, when somebody agrees to it. Returns at once. */
  begin() {
    this.#begun = new AbortController();
    this.#network = new P2PNetwork();
    this.exchange = new Exchange(this.#network);
    this.queues = new TwoQueues(this.#socket, this.#waits);
    this.#meet();
  }

  /** The connection to the site is there, for the first time or anew. */
  opened() {
    if (this.#here) this.#tellSite(this.#network.id);
  }

  /** Others are told at once. */
  leave() {
    this.#begun?.abort();
    this.exchange?.close();
    this.queues?.close();
    this.#timers?.close();
    const network = this.#network;
    this.#turn = this.#turn.then(() => network?.leave());
    this.#isGone();
    this.#network = this.#begun = this.#attempt = this.#timers = null;
    this.exchange = this.queues = null;
    this.#box.hidden = true;
    this.#tell();
  }

  /** The present way of meeting others ends, whatever it has come to, and the one now chosen
   * begins. */
  #meet() {
    this.#attempt?.abort();
    this.#attempt = new AbortController();
    const signal = AbortSignal.any([this.#begun.signal, this.#attempt.signal]);
    const network = this.#network;
    this.#box.hidden = false;
    this.#isGone();
    this.#turn = this.#turn.then(() => this.#meetUntil(signal, network)).catch((error) => {
      if (signal.aborted) return;
      this.#say('The others could not be looked for. Everything goes over the server.');
      reportError(error);
    });
  }

  async #meetUntil(signal, network) {
    await network.leave();
    if (signal.aborted) return;
    const hidden = this.#hiding.chosen;
    if (!agreed(this.#room, hidden) && !await this.#ask(hidden, signal)) return;
    agree(this.#room, hidden);
    this.#say('Looking for others.');
    const { id: client } = await ownClient();
    if (signal.aborted) return;
    const tell = () => {
      if (network !== this.#network) return;
      this.queues.met();
      this.#tell();
    };
    await network.join({
      room: this.#room,
      relays: this.#relays,
      iceServers: iceServersOf(this.#ice),
      relayOnly: hidden,
      name: nameOfTab(),
      about: { site: {} },
      onPeer: tell,
      onChange: tell,
      onLeave: tell,
      onChannel: (_peer, channel) => this.#visited(channel),
      onState: (state) => {
        this.#state = state;
        tell();
      },
      onProblem: (problem) => {
        this.#problem = problem;
        tell();
      },
    });
    if (signal.aborted) return; // whoever comes after this leaves
    naming.addEventListener('change', () => network.announce({ name: nameOfTab() }), { signal });
    this.#here = true;
    if (!this.#timers) {
      this.#timers = new HostTimers();
      this.#timers.every(TELLS_EVERY_MS, tell);
      this.queues.meets({ network, client, timers: this.#timers, moved: tell });
    }
    this.#tellSite(network.id);
    tell();
  }

  #isGone() {
    if (this.#here) this.#tellSite(null);
    this.#here = false;
    this.#state = this.#problem = null;
  }

  #visited(channel) {
    const take = this.#served.get(channel.label);
    if (channel.label === CHANNEL && this.exchange) this.exchange.visited(channel);
    else if (take) take(channel);
    else channel.close();
  }

  #ask(relayOnly, signal) {
    const button = this.#part('agree');
    this.#say(`${whatOthersSee({ relayOnly, name: ownName() })} Tabs that have met give each other what they have computed, and `
      + 'this one also computes for exported pages of this room while nothing waits here.');
    button.hidden = false;
    return new Promise((resolve) => {
      const answer = (agrees) => {
        button.hidden = true;
        resolve(agrees);
      };
      button.addEventListener('click', () => answer(true), { once: true, signal });
      signal.addEventListener('abort', () => answer(false), { once: true });
    });
  }

  #tellSite(id) {
    this.#socket.send({ type: 'peer.mesh', id });
  }

  #tell() {
    const id = this.#here ? this.#network.id : null;
    const peers = id === null ? [] : this.#network.peers.map(shown);
    const exchanged = this.exchange && { ...this.exchange.counts };
    const isAway = this.queues?.isAway ?? false;
    const detail = { id, signalling: this.#state?.signalling ?? null, peers, exchanged, isAway };
    document.dispatchEvent(new CustomEvent('mesh', { detail }));
    this.#list.show(peers);
    if (id === null) return;
    const hinders = hindrances({ state: this.#state, problem: this.#problem, met: peers.length });
    this.#say(sentence(detail, hinders));
  }

  #part(name) {
    return this.#box.querySelector(`[data-meeting="${name}"]`);
  }

  #say(text) {
    const said = this.#part('said');
    if (said.textContent !== text) said.textContent = text;
  }
}

/** Tabs of exported pages show it: where this tab comes from is said in it. */
const nameOfTab = () => `${ownName() || 'tab'} at ${location.host}`;

/** @param {import('room/peer.js').Peer} peer @returns {MeshPeer} */
const shown = ({ id, name, about, roundTripMs, mbitPerS }) =>
  ({ id, name, exported: !Object.hasOwn(about, 'site'), roundTripMs, mbitPerS });

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** @param {MeshNews} news @param {string} hinders what keeps others from being met */
export function sentence({ peers, exchanged, isAway }, hinders) {
  if (!peers.length) return hinders || 'No other tab that computes is met yet.';
  const met = peers.length === 1
    ? 'One other tab is met directly.' : `${peers.length} other tabs are met directly.`;
  const spared = exchanged.takenBytes >= SAID_BYTES
    ? `${megabytes(exchanged.takenBytes)} MB came from there and not from the server.` : '';
  const away = isAway ? 'This one computes for the exported pages of this room.' : '';
  return [met, spared, away, hinders].filter(Boolean).join(' ');
}

function ownRelay() {
  const { protocol, host } = location;
  return `${protocol === 'https:' ? 'wss:' : 'ws:'}//${host}/relay/`;
}
