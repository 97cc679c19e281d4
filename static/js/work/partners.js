// The tabs that may help with this one's chunks: who is asked, who is left alone, who has been checked.

import { Partner } from './partner.js';

const MOST_ASKED = 4; // at a time, the nearest ones
const AVOIDED_MS = 60_000; // a tab that was late, or with which it was slower than alone

const UNANSWERED = new Error('It has not answered yet.');

export class Partners {
  #mesh;
  #engine;
  #self;
  #partners = new Map(); // by id of the peer
  #avoided = new Map(); // id of the peer -> until when, ms
  #proven = new Set(); // ids of peers whose first check came out right

  /**
   * @param {import('./recruiting.js').Mesh} mesh
   * @param {import('../engine/engine.js').Engine} engine
   * @param {() => string|null} self id of the worker that this tab is
   */
  constructor(mesh, engine, self) {
    this.#mesh = mesh;
    this.#engine = engine;
    this.#self = self;
  }

  /** How many tabs are connected with this one. */
  get others() {
    return this.#mesh.peers().length;
  }

  /** @param {string} id @returns {Partner|undefined} one that was asked */
  get(id) {
    return this.#partners.get(id);
  }

  /** @param {string|null} id @returns {string} what people call it */
  nameOf(id) {
    return this.#mesh.peers().find((peer) => peer.id === id)?.name ?? '';
  }

  /**
   * @param {(partner: Partner) => Promise<void>} question what it is asked
   * @param {number} [withinMs] who has not answered by then is left out this time
   * @returns {Promise<{others: number, busy: number, partners: Partner[]}>} those that would help
   */
  async ask(question, withinMs = Infinity) {
    const peers = this.#mesh.peers();
    const now = performance.now();
    const near = peers
      .filter(({ id }) => !(this.#avoided.get(id) > now))
      .sort((a, b) => (a.roundTripMs ?? Infinity) - (b.roundTripMs ?? Infinity))
      .slice(0, MOST_ASKED);
    const here = new Set(peers.map(({ id }) => id));
    for (const [id, partner] of this.#partners) {
      if (here.has(id)) continue;
      partner.close();
      this.#partners.delete(id);
    }
    let busy = 0;
    const answers = await Promise.all(near.map(async (peer) => {
      const partner = this.#partners.get(peer.id) ?? new Partner(peer, this.#engine, this.#self);
      this.#partners.set(peer.id, partner);
      try {
        await within(question(partner), withinMs);
        return partner;
      } catch (error) {
        if (error.code === 'busy') busy += 1;
        else if (error !== UNANSWERED) this.avoid(peer.id);
        return null;
      }
    }));
    return { others: peers.length, busy, partners: answers.filter(Boolean) };
  }

  /** A tab that has no engine, another model or no wish to help is not asked with every chunk. */
  avoid(id, ms = AVOIDED_MS) {
    this.#avoided.set(id, performance.now() + ms);
  }

  /** Whether what it computed has been checked. */
  isProven(id) {
    return this.#proven.has(id);
  }

  prove(id) {
    this.#proven.add(id);
  }

  close() {
    for (const partner of this.#partners.values()) partner.close();
    this.#partners.clear();
  }
}

async function within(work, ms) {
  if (ms === Infinity) return work;
  let timer = null;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(UNANSWERED), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
