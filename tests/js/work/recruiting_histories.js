// Random histories of tabs that compute pictures together, in virtual time. Frames are lost, late,
// doubled and damaged; channels break and stall; tabs come, go, have work of their own, become slow
// and give up what they compute.
//
// - Whatever one tab makes with the help of others must be what it makes alone, each step once.
// - No chunk may take longer than alone and the few waits that a helper may cost; where nothing
//   happens, than alone, two steps and two ways to and fro.
// - In the end nobody computes for anybody.

import { VirtualTime } from './virtual_time.js';

const FAULTS = ['lost', 'twice', 'late', 'bent'];
const EVENTS = ['cut', 'leaves', 'joins', 'busy', 'busy', 'stalls', 'slows', 'cancels'];
const HALVES_MS = [10, 30, 100, 300];
const CROSSINGS_MS = [1, 20, 20, 150];
const SETTINGS = ['auto', 'auto', 'auto', 'halves', 'bands'];
const BYTES_A_MS = 2000;
const SLOWER = 8; // times
const LATE_MS = 20_000;
const MOST_TABS = 5;
const PICTURES = 2; // of each tab
const LASTS_MS = 40_000; // events happen within
const ENDS_WITHIN_MS = 30 * 60_000;
const LEFT_WITHIN_MS = 60_000;
const LEFT_AT_ONCE_MS = 1000;
const LATE_TIMES = 5; // as recruiting.js and banding.js wait for what a step should take, and more
const READY_WITHIN_MS = 65_000; // as partner.js does, before a split that is forced

/**
 * @param {object} scene what test_banding.py's scene has: tab, everybody, channels, randomFrom, ...
 * @param {number} seed
 * @param {{faults?: number, events?: number, settings?: string[]}} options faults: of all frames
 * @returns {Promise<Record<string, number>>} how often what happened; ms of chunks that two have
 *   computed because that is faster, and of the same alone
 */
export async function history(scene, seed, options = {}) {
  const time = new VirtualTime();
  time.begin();
  try {
    return await new History(scene, seed, options, time).play();
  } finally {
    time.end();
  }
}

class History {
  #scene;
  #options;
  #time;
  #random;
  #tabs = [];
  #working = 0;
  #error = null;
  #counted = {};
  #crossingMs;

  constructor(scene, seed, options, time) {
    this.#scene = scene;
    this.#options = { faults: 0.02, events: 6, settings: SETTINGS, ...options };
    this.#time = time;
    this.#random = scene.randomFrom(seed);
    this.#crossingMs = this.#one(CROSSINGS_MS);
  }

  async play() {
    const { everybody, channels } = this.#scene;
    everybody.length = 0;
    channels.length = 0;
    channels.opened = ({ mine, theirs }) => {
      for (const end of [mine, theirs]) this.#carry(end);
    };
    for (let count = 2 + this.#upTo(MOST_TABS - 2); count > 0; count -= 1) this.#joins();
    for (let at = 0; at < this.#options.events; at += 1) {
      setTimeout(() => this.#happens(this.#one(EVENTS)), this.#upTo(LASTS_MS));
    }
    await this.#time.until(() => this.#working === 0 || this.#error, ENDS_WITHIN_MS);
    if (this.#error) throw this.#error;
    await this.#time.pass(this.#isCalm ? LEFT_AT_ONCE_MS : LEFT_WITHIN_MS);
    for (const { place, helping, engine } of this.#tabs) {
      if (helping.length && helping.at(-1) !== null) throw new Error(`${place.id} helps yet`);
      this.#count('halves of others', engine.halves.negative);
      this.#count('bands', engine.bands);
    }
    return this.#counted;
  }

  get #isCalm() {
    return !this.#options.faults && !this.#options.events;
  }

  #upTo(number) {
    return Math.floor(this.#share() * number);
  }

  #share() {
    return this.#random() / 2 ** 32;
  }

  #one(list) {
    return list[this.#upTo(list.length)];
  }

  #count(name, times = 1) {
    this.#counted[name] = (this.#counted[name] ?? 0) + times;
  }

  // What happens ----------------------------------------------------------------------------------
  #happens(event) {
    if (!this.#working) return;
    const it = this.#one(this.#tabs);
    const channel = this.#one(this.#scene.channels);
    const ends = channel ? [channel.mine, channel.theirs] : [];
    this.#count(event);
    switch (event) {
      case 'cut':
        channel?.mine.close();
        break;
      case 'stalls':
        for (const end of ends) {
          end.held = true;
          setTimeout(() => {
            end.held = false;
            end.go();
          }, this.#upTo(LATE_MS));
        }
        break;
      case 'joins':
        if (this.#tabs.length < MOST_TABS) this.#joins();
        break;
      case 'leaves':
        this.#leaves(it);
        break;
      case 'busy':
        if (!it.free) break;
        it.free = false;
        it.recruiting.leave();
        setTimeout(() => { it.free = it.here; }, this.#upTo(3000));
        break;
      case 'slows':
        it.engine.halfMs *= 1 + this.#upTo(SLOWER);
        break;
      default: // cancels
        it.stop?.abort(new Error('cancelled'));
    }
  }

  #joins() {
    const halfMs = this.#one(HALVES_MS) + this.#upTo(10);
    const it = this.#scene.tab(`tab ${this.#tabs.length}`, {
      halfMs,
      aloneMs: Math.round(halfMs * (1.2 + 0.8 * this.#share())),
      setting: this.#one(this.#options.settings),
      random: () => this.#share(),
    });
    Object.assign(it, { here: true, stop: null });
    it.place.roundTripMs = 2 * this.#crossingMs;
    it.engine.decodeMs = 4 * halfMs;
    this.#tabs.push(it);
    this.#works(it);
  }

  #leaves(it) {
    const { everybody } = this.#scene;
    if (!it.here || everybody.length === 1) return;
    it.here = it.free = false;
    it.stop?.abort(new Error('left'));
    it.recruiting.close();
    everybody.splice(everybody.indexOf(it.place), 1);
  }

  /** Frames take their time, and some have a fate. */
  #carry(end) {
    const { faults } = this.#options;
    let sentAt = 0;
    end.go = () => {
      if (end.held || end.readyState !== 'open') return;
      for (const frame of end.waiting.splice(0)) {
        const fault = this.#share() < faults ? this.#one(FAULTS) : null;
        if (fault) this.#count(fault);
        sentAt = Math.max(sentAt, this.#time.ms) + frame.byteLength / BYTES_A_MS;
        const ms = sentAt - this.#time.ms + this.#crossingMs
          + (fault === 'late' ? this.#upTo(LATE_MS) : 0);
        if (fault === 'bent') bend(frame, this.#upTo(frame.byteLength));
        const copies = { lost: 0, twice: 2 }[fault] ?? 1;
        for (let copy = 0; copy < copies; copy += 1) {
          setTimeout(() => end.other.hear(frame.slice()), ms + copy * this.#upTo(500));
        }
      }
      end.onbufferedamountlow?.();
    };
  }

  // What tabs compute -----------------------------------------------------------------------------
  async #works(it) {
    this.#working += 1;
    try {
      for (let picture = 0; picture < PICTURES && it.here; picture += 1) {
        await this.#scene.sleep(this.#upTo(4000));
        if (!it.free) continue;
        it.free = false;
        it.recruiting.leave();
        it.stop = new AbortController();
        await this.#picture(it, it.stop.signal);
        Object.assign(it, { stop: null, free: it.here });
      }
    } catch (error) {
      this.#error ??= error;
    }
    this.#working -= 1;
  }

  async #picture(it, signal) {
    const { STEPS, noiseOf, decoded, off } = this.#scene;
    try {
      for (let start = 0, latent = noiseOf(7); start < STEPS;) {
        const stop = Math.min(STEPS, start + 1 + this.#upTo(STEPS));
        latent = await this.#chunk(it, { start, stop, latent }, signal);
        start = stop;
      }
      const began = this.#time.ms;
      const apart = off(await decoded(it, signal));
      if (!(apart <= 1)) throw new RangeError(`a picture is ${apart} off`);
      this.#judge('a decoding', it, began, 4 * it.engine.decodeMs);
      this.#count('picture');
    } catch (error) {
      if (!signal.aborted) throw error;
      this.#count('given up');
    }
  }

  async #chunk(it, range, signal) {
    const { denoised } = this.#scene;
    const began = this.#time.ms;
    it.steps.length = 0;
    const made = await it.denoise(range, signal);
    const { start, stop } = range;
    const wished = Array.from({ length: stop - start }, (_, at) => start + at + 1);
    if (it.steps.join() !== wished.join()) throw new RangeError(`steps ${it.steps} of ${wished}`);
    if (made.join() !== (await denoised(stop)).join()) throw new RangeError(`another step ${stop}`);
    const aloneMs = (stop - start) * it.engine.aloneMs;
    this.#judge(`steps ${start}..${stop}`, it, began, aloneMs);
    const { strategy, ended, why } = it.told.at(-1);
    this.#count(`${strategy}, ${ended ?? why}`);
    if (strategy === 'halves' && why === 'gain') {
      this.#count('ms alone', aloneMs);
      this.#count('ms together', this.#time.ms - began);
    }
    return Float32Array.from(made);
  }

  /** mostMs: alone. */
  #judge(what, it, began, mostMs) {
    const took = this.#time.ms - began;
    const most = mostMs + this.#waits(it);
    if (took > most) throw new RangeError(`${what} took ${took} of ${most} ms`);
  }

  /** What helpers may cost at most: nothing is waited for twice. */
  #waits({ engine, told }) {
    const forced = told.some(({ why }) => why === 'forced');
    if (this.#isCalm && !forced) return 2 * engine.aloneMs + 4 * this.#crossingMs;
    const slowest = Math.max(...this.#tabs.map((one) => (
      Math.max(one.engine.aloneMs, one.engine.halfMs, one.engine.decodeMs))));
    const late = LATE_TIMES * (slowest + this.#crossingMs + LATE_MS); // a way may seem so long
    return late + (forced ? READY_WITHIN_MS : 0);
  }
}

function bend(frame, at) {
  new Uint8Array(frame.buffer ?? frame)[at] ^= 4;
}
