// The steps of this tab's chunks, with the help of another tab where that is faster. Their pictures
// are shared in banding.js.
//
// - Begins alone, looks meanwhile for a tab that is free, and shares the rest where the planner says.
// - Whatever the other tab does, the chunk goes on from the step it had reached: alone.
// - What the other tab computes is checked now and then by computing it here as well.
// - Needs of the network no more than peers that open channels.

import { otherHalf } from '../engine/halves.js';
import { Banding } from './banding.js';
import { LABEL } from './halves-wire.js';
import { Ledger } from './ledger.js';
import { ITS_HALF } from './partner.js';
import { Partners } from './partners.js';
import { choose, goesOn, SETTINGS } from './planner.js';
import { Recruit } from './recruit.js';
import { median, Speeds } from './speeds.js';

const LATE_MS = 1000; // beside several times what a step should take
const LATE_TIMES = 4;
const CHECKED_RUNS = 0.25; // after the first run with a tab, which always is
const TOLERANCE = 2e-2; // relative L2 of a velocity: f16 beside f32 stays below 5e-3
const IN_VAIN = ['wrong', 'nonsense']; // nothing of it is kept
const SWITCH = new Error('Another tab is ready to compute one half.');

/**
 * @typedef {object} MeshPeer another tab, such as room/peer.js has it
 * @property {string} id @property {string} name @property {number|null} roundTripMs
 * @property {(label: string) => Promise<import('../room/transfer.js').Channel>} openChannel
 *
 * @typedef {object} Mesh the tabs that are connected with this one
 * @property {() => MeshPeer[]} peers
 * @property {(label: string, take: ((channel: object) => void)|null) => void} serve what becomes of
 *   channels that others open under a label; null: they are refused
 *
 * @typedef {(import('./planner.js').Choice | import('./bands-planner.js').BandsChoice)
 *   & {real: number|null, ended: string|null, name: string}}
 *   Strategy real: how many times as fast as alone, measured.  ended: why another tab does not
 *   help any more, an Ending of steps-exchange.js or 'wrong', 'slow' or 'memory'.  name: of the other tab
 *
 * @typedef {object} RecruitingOptions
 * @property {import('../engine/engine.js').Engine} engine
 * @property {Mesh} mesh
 * @property {'auto'|'alone'|'halves'|'bands'} [setting]
 * @property {() => boolean} isFree whether this tab could help another one
 * @property {() => string|null} [self] id of the worker that this tab is
 * @property {(strategy: Strategy) => void} onStrategy what was chosen for the chunk at hand, whenever
 *   more is known
 * @property {import('./recruit.js').RecruitOptions['onHelping']} onHelping
 * @property {() => number} [random] 0 to 1
 */

export class Recruiting {
  #engine;
  #mesh;
  #setting;
  #onStrategy;
  #random;
  #speeds = new Speeds();
  #recruit;
  #partners;
  #banding;

  /** @param {RecruitingOptions} options */
  constructor({
    engine, mesh, setting, isFree, onStrategy, onHelping, self = () => null, random = Math.random,
  }) {
    this.#engine = engine;
    this.#mesh = mesh;
    this.#setting = SETTINGS.includes(setting) ? setting : 'auto';
    this.#onStrategy = onStrategy;
    this.#random = random;
    this.#recruit = new Recruit({ engine, isFree, self, onHelping, speeds: this.#speeds });
    this.#partners = new Partners(mesh, engine, self);
    this.#banding = new Banding({
      engine, partners: this.#partners, speeds: this.#speeds, setting: this.#setting, onStrategy,
      random,
    });
    mesh.serve(LABEL, (channel) => this.#recruit.serve(channel));
  }

  /** This tab has work of its own now: it stops helping within a step. */
  leave() {
    this.#recruit.leave();
  }

  close() {
    this.#mesh.serve(LABEL, null);
    this.#recruit.close();
    this.#partners.close();
  }

  /** As `Engine.decode`, which it calls. ledger: of who helped. */
  decode(request, options) {
    return this.#banding.decode(request, options);
  }

  /** As `Engine.denoise`, which it calls. ledger: of who helped. */
  async denoise(request, { signal, onStep, ledger = new Ledger() }) {
    const chunk = { request, signal, onStep, ledger, start: request.start, latent: request.latent };
    const found = this.#find(chunk).catch((error) => {
      reportError(error); // the chunk does not depend on it
      return null;
    });
    if (this.#setting === 'halves') await found;
    while (chunk.start < request.stop) {
      const partner = await this.#alone(chunk, found);
      if (partner && chunk.start < request.stop) await this.#together(chunk, partner);
    }
    signal.throwIfAborted();
    return chunk.latent;
  }

  // Alone -----------------------------------------------------------------------------------------
  /** Steps until the end, or until a partner is ready: then that one. */
  async #alone(chunk, found) {
    if (chunk.left) return this.#steps(chunk, chunk.signal).then(() => null);
    const early = await Promise.race([found, null]);
    if (early) return early;
    const switching = new AbortController();
    let ready = null;
    found.then((partner) => {
      ready = partner;
      if (partner) switching.abort(SWITCH);
    });
    try {
      await this.#steps(chunk, AbortSignal.any([chunk.signal, switching.signal]));
    } catch (error) {
      if (error !== SWITCH || chunk.signal.aborted) throw error;
    }
    return ready;
  }

  async #steps(chunk, signal) {
    const { request, start, latent } = chunk;
    let last = null; // the first step opens a run as well
    const done = await this.#engine.denoise({ ...request, start, latent }, {
      signal,
      onStep: (step) => {
        const now = performance.now();
        const two = request.guidance > 1;
        if (last !== null && two) this.#speeds.note('alone', request.shape, (now - last) / 1000);
        last = now;
        this.#stepped(chunk, step);
      },
    });
    Object.assign(chunk, { start: request.stop, latent: done });
  }

  #stepped(chunk, step) {
    chunk.start = step.step;
    chunk.latent = step.latent;
    chunk.onStep(step);
  }

  // Looking for somebody --------------------------------------------------------------------------
  /** @returns {Promise<Partner|null>} one that is ready, where a split is chosen */
  async #find(chunk) {
    const { request, signal } = chunk;
    const tell = (choice) => this.#tell(chunk, choice);
    const decided = (more) => this.#choose(chunk, more);
    const { others } = this.#partners;
    const first = decided({ others, busy: 0, partners: [] });
    if (first.why !== 'nobody' || !others) {
      tell(first);
      return null;
    }
    const asked = await this.#partners.ask((partner) => partner.ask(request.shape));
    if (signal.aborted) return null;
    const choice = decided(asked);
    if (choice.strategy === 'alone') {
      tell(choice);
      return null;
    }
    const partner = this.#partners.get(choice.peer);
    const { conditioning, latent, shape, steps, guidance } = request;
    try {
      await partner.prepare(
        { text: conditioning[ITS_HALF], latent, shape, steps, guidance }, signal);
    } catch (error) {
      if (signal.aborted) return null;
      const isBusy = error.code === 'busy';
      if (!isBusy) this.#partners.avoid(partner.id);
      tell({ ...choice, strategy: 'alone', why: isBusy ? 'busy' : 'nobody' });
      return null;
    }
    // What it practised and how long the way is are known now.
    const last = decided({ ...asked, partners: [partner] });
    tell(last);
    return last.strategy === 'halves' ? partner : null;
  }

  #choose({ request, start }, { others, busy, partners }) {
    const { shape, guidance, stop } = request;
    const halfS = this.#speeds.of('half', shape);
    const aloneS = this.#speeds.of('alone', shape);
    const underWay = this.#setting === 'halves' ? 0 : 1; // the step at hand is ended alone
    return choose({
      setting: this.#setting, guidance, steps: Math.max(0, stop - start - underWay), aloneS, halfS,
      setupS: this.#speeds.of('opening', shape) ?? 0,
      others, busy, candidates: partners.map((partner) => ({
        ...partner.candidate(shape),
        checks: this.#partners.isProven(partner.id) ? CHECKED_RUNS : 1,
      })),
    });
  }

  #tell(chunk, choice, more = {}) {
    const name = this.#partners.nameOf(choice.peer);
    chunk.strategy = { real: null, ended: null, name, ...choice, ...more };
    this.#onStrategy(chunk.strategy);
  }

  // Together --------------------------------------------------------------------------------------
  /** Steps until the end or until the partner is of no use any more; `chunk` is as far as it got. */
  async #together(chunk, partner) {
    const { request, signal, start, latent } = chunk;
    const { shape, stop } = request;
    chunk.left = true; // once a chunk
    const exchange = partner.begin({ latent, start, stop });
    let why = 'gone';
    let moved;
    if (exchange) {
      const givenUp = () => exchange.end('over');
      signal.addEventListener('abort', givenUp);
      try {
        why = await this.#share(chunk, partner, exchange);
      } finally {
        signal.removeEventListener('abort', givenUp);
        partner.end();
        moved = partner.takeMoved();
      }
    }
    const steps = chunk.start - start;
    if (steps && !IN_VAIN.includes(why)) chunk.ledger.note(partner.worker, { steps, ...moved });
    if (!why) return;
    if (IN_VAIN.includes(why)) {
      Object.assign(chunk, { start, latent }); // nothing that it had a part in is kept
      this.#partners.avoid(partner.id, Infinity);
    } else if (why !== 'busy') {
      this.#partners.avoid(partner.id);
    }
    this.#tell(chunk, chunk.strategy, { strategy: 'alone', ended: why });
  }

  /** @returns {Promise<string|null>} why it ended early */
  async #share(chunk, partner, exchange) {
    const { request, signal, start, latent } = chunk;
    const checkAt = this.#checkAt(partner, start, request.stop);
    const split = { began: null, beganAt: performance.now(), last: null, checkAt, took: [], why: null };
    await this.#engine.denoiseHalf({
      ...request, start, latent, half: otherHalf(ITS_HALF), checks: checkAt === null ? [] : [checkAt],
    }, {
      signal,
      onStep: (step) => {
        this.#measure(chunk, split, step.step);
        this.#stepped(chunk, step);
      },
      exchange: (mine) => this.#exchanged(chunk, partner, exchange, split, mine),
    });
    return split.why ?? exchange.ended;
  }

  async #exchanged({ request: { shape } }, partner, exchange, split, { step, velocity, expected }) {
    const now = performance.now();
    if (split.began !== null && !expected) {
      this.#speeds.note('half', shape, (now - split.began) / 1000);
    }
    if (split.why) return null;
    const given = await exchange.give(step, velocity, this.#patienceMs(partner, shape));
    split.began = performance.now();
    if (!given || !expected) return given;
    if (near(given, expected)) {
      this.#partners.prove(partner.id);
      return given;
    }
    split.why = 'wrong';
    return null;
  }

  /** A step is done: is it worth it? */
  #measure(chunk, split, done) {
    const { request: { shape } } = chunk;
    const now = performance.now();
    const checked = done - 1 === split.checkAt; // that one took longer
    if (split.last === null) split.openingS = checked ? null : (now - split.beganAt) / 1000;
    else if (!checked) split.took.push((now - split.last) / 1000);
    split.last = now;
    const aloneS = this.#speeds.of('alone', shape);
    if (!split.took.length || aloneS === null) return;
    const stepS = median(split.took);
    if (split.took.length === 1 && split.openingS !== null) {
      this.#speeds.note('opening', shape, Math.max(0, split.openingS - stepS));
    }
    this.#tell(chunk, chunk.strategy, { real: aloneS / stepS });
    const still = { setting: this.#setting, aloneS, stepS, measured: split.took.length };
    if (!goesOn(still)) split.why = 'slow';
  }

  /** The step of a run that is computed here too. */
  #checkAt({ id }, start, stop) {
    if (!this.#partners.isProven(id)) return start;
    if (this.#random() >= CHECKED_RUNS) return null;
    return start + Math.floor(this.#random() * (stop - start));
  }

  #patienceMs(partner, shape) {
    const { halfS, crossingS } = partner.candidate(shape);
    const stepS = (halfS ?? this.#speeds.of('alone', shape) ?? 0) + crossingS;
    return LATE_MS + LATE_TIMES * 1000 * stepS;
  }
}

/** Whether two velocities are as near as devices and packings make them. */
function near(given, expected) {
  let apart = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i += 1) {
    apart += (given[i] - expected[i]) ** 2;
    size += expected[i] ** 2;
  }
  return apart <= TOLERANCE ** 2 * size;
}
