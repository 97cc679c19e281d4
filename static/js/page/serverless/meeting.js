// Meeting the others of a room without a server: what they see of this tab is said before, and
// nobody is looked for until somebody here has agreed, once for each room. How they are met is chosen
// in a dialog (connection-form.js); another choice means to leave and to join again, and the work here
// goes on meanwhile.

import { hindrances } from 'page/mesh/hindrances.js';
import { naming, ownName } from 'page/people/own-name.js';
import { whenReleased } from 'page/press.js';
import { agree, agreed } from 'page/serverless/agreements.js';
import { placeIn } from 'page/serverless/place.js';

const box = () => document.getElementById('meeting');
const MET_AT_ONCE_MS = 4000; // nothing moves for those who find others when they come back
const wide = matchMedia('(min-width: 66rem)'); // as in room.css: there the peers are on top
const part = (name) => box().querySelector(`[data-meeting="${name}"]`);

export class Meeting {
  #room;
  #password;
  #relays;
  #coordinator = null;
  #leaving = null; // AbortSignal: the page leaves the room
  #attempt = null; // AbortController of the present way of meeting others
  #turn = Promise.resolve(); // one way after the other
  #settings = null; // connection.js, once it is loaded
  #form = null;
  #network = null;
  #place = null;
  #state = null; // of the relays
  #problem = null; // with somebody who cannot be met
  #ownRelays = false;
  #first = false; // the box comes first on a narrow page, until somebody was met
  #met = false; // that
  #home = null; // where the box is on a wide page

  /** @param {string} room */
  constructor(room) {
    this.#room = room;
    this.#password = placeIn(location.hash).password;
    this.#relays = (document.body.dataset.relays ?? '').split(' ').filter(Boolean);
  }

  /** Whether this page knows a relay over which others could be found. */
  get possible() {
    return this.#relays.length > 0;
  }

  /**
   * @param {import('work/worker-coordinator.js').WorkerCoordinator} coordinator open
   * @param {AbortSignal} signal the page leaves the room
   */
  async begin(coordinator, signal) {
    if (!this.possible) return;
    this.#coordinator = coordinator;
    this.#leaving = signal;
    this.#home = box().parentElement;
    box().hidden = false;
    wide.addEventListener('change', () => this.#settle(), { signal });
    part('choose').addEventListener('click', () => this.#choose(), { signal });
    naming.addEventListener('change', () => this.#network?.announce({ name: ownName() }), { signal });
    this.#settings = await import('page/serverless/connection.js');
    if (!signal.aborted) await this.#meet();
  }

  /** @param {import('work/worker-coordinator.js').Place} place where the queue is now */
  show(place) {
    this.#place = place;
    this.#tell();
  }

  others() {
    this.#tell();
  }

  /** The present way of meeting others ends, whatever it has come to, and the one now chosen begins. */
  #meet() {
    this.#attempt?.abort();
    this.#attempt = new AbortController();
    const signal = AbortSignal.any([this.#leaving, this.#attempt.signal]);
    this.#turn = this.#turn.catch(() => {}).then(() => this.#meetUntil(signal));
    return this.#turn;
  }

  async #meetUntil(signal) {
    const before = this.#network;
    this.#network = this.#state = this.#problem = null;
    await before?.leave();
    if (signal.aborted) return;
    const chosen = this.#settings.ownConnection();
    if (!await this.#mayMeet(chosen, signal)) return;
    this.#say('Looking for others.');
    const { P2PNetwork } = await import('room/p2p-network.js');
    if (signal.aborted) return;
    const network = new P2PNetwork();
    try {
      await this.#coordinator.join(network, {
        ...this.#settings.joinOptions(chosen, this.#relays),
        password: this.#password,
        name: ownName(),
        onState: (state) => {
          this.#state = state;
          this.#tell();
        },
        onProblem: (problem) => {
          this.#problem = problem;
          this.#tell();
        },
      });
    } catch (error) {
      if (error.name !== 'NetworkError') throw error;
      this.#say(error.message);
      return;
    }
    if (this.#leaving.aborted) {
      await network.leave();
      return;
    }
    this.#ownRelays = chosen.relays.length > 0;
    this.#network = network;
    this.#tell();
    setTimeout(() => this.#comeFirst(), MET_AT_ONCE_MS);
  }

  /** True when somebody here has agreed to what others see, or does so now. */
  async #mayMeet({ relayOnly }, signal) {
    if (agreed(this.#room, relayOnly)) return true;
    const { whatOthersSee } = await import('room/settings.js');
    const sentence = () => 'You are alone here until you meet the others. '
      + whatOthersSee({ relayOnly, isPrivate: this.#password !== null, name: ownName() });
    const button = part('agree');
    const asked = new AbortController();
    const until = AbortSignal.any([signal, asked.signal]);
    if (signal.aborted) return false;
    this.#say(sentence());
    this.#comeFirst();
    naming.addEventListener('change', () => this.#say(sentence()), { signal: until });
    button.hidden = false;
    const wanted = await new Promise((resolve) => {
      button.addEventListener('click', () => resolve(true), { once: true, signal: until });
      signal.addEventListener('abort', () => resolve(false), { signal: asked.signal });
    });
    asked.abort();
    button.hidden = true;
    if (wanted) agree(this.#room, relayOnly);
    return wanted;
  }

  async #choose() {
    if (!this.#form) {
      const { ConnectionForm } = await import('page/serverless/connection-form.js');
      this.#form ??= new ConnectionForm({
        signal: this.#leaving,
        changed: (kept) => this.#chosen(kept),
      });
    }
    this.#form.open();
  }

  #chosen(kept) {
    part('kept').textContent = kept
      ? '' : 'This browser keeps nothing: what you chose holds until the page is closed.';
    this.#meet().catch(reportError);
  }

  #tell() {
    if (!this.#network) return;
    const others = this.#network.peers.length;
    const hinders = hindrances({ state: this.#state, problem: this.#problem, met: others });
    if (others && !this.#met) {
      this.#met = true;
      whenReleased(() => this.#settle());
    }
    if (others) {
      const tabs = others === 1 ? 'One other tab is' : `${others} other tabs are`;
      const where = this.#place?.holder === 'here'
        ? 'This one keeps the room’s queue.' : 'Another one keeps the room’s queue.';
      this.#say(`${tabs} here. ${where} ${hinders}`.trimEnd());
    } else if (hinders) {
      this.#say(hinders);
    } else if (this.#ownRelays) {
      this.#say('Nobody else is here yet: send them the link. They need one of your relays too.');
    } else {
      this.#say('Nobody else is here yet: send them the link.');
    }
  }

  // Who came to watch on a narrow page finds the way to the others first, and not below an empty queue.
  // Among them it is one thing of many.
  #comeFirst() {
    this.#first = true;
    whenReleased(() => this.#settle());
  }

  #settle() {
    const first = document.getElementById('meeting-first');
    const place = this.#first && !this.#met && !wide.matches ? first : this.#home;
    if (box().parentElement !== place) place.append(box());
    first.hidden = place !== first;
  }

  #say(text) {
    const said = part('said');
    if (said.textContent !== text) said.textContent = text;
  }
}
