// This tab as a recruit: while it has no work of its own it computes one half of guidance, or a band
// of the picture, of the chunk of another tab. docs/recruiting.md describes the conversation.
//
// - It helps one tab at a time, and stops within a step when it gets work of its own.
// - It answers for nothing: whoever holds the chunk does, and goes on alone when this tab goes.
// - Knows links and the engine; neither the queue nor pages.

import { Link } from '../room/link.js';
import {
  bandWire, readBandOffer, readBandTask, readBandTaskBytes, sidesOf,
} from './bands-wire.js';
import {
  readNumbers, readOffer, readPlace, readTask, readTaskBytes, readWorker, velocityWire, WireError,
} from './halves-wire.js';
import { withoutAlpha } from './pixels.js';
import { StepsExchange } from './steps-exchange.js';

const PATIENCE_MS = 15_000; // for the other side's velocity, and so many halves of a step
const PATIENCE_HALVES = 10;
const PATIENCE_DECODES = 4; // and so many whole decodes, for what all bands have at a norm
const KEPT_FOR_MS = 30_000; // a place that nobody uses
const REHEARSED_STEPS = 2; // the first one of a size also measures dispatches, see pace.js

/**
 * @typedef {object} RecruitOptions
 * @property {import('../engine/engine.js').Engine} engine
 * @property {import('./speeds.js').Speeds} speeds
 * @property {() => boolean} isFree whether this tab has no work of its own
 * @property {() => string|null} self id of the worker that this tab is
 * @property {(helping: Helping|null) => void} onHelping null: not any more
 *
 * @typedef {({step: number, steps: number}|{band: import('../engine/bands.js').Rows})
 *   & {whom: string|null}} Helping step: of the image, how many are done; whom: id of the other tab's
 *   worker, as that one says
 */

export class Recruit {
  #options;
  #links = new Map(); // what others opened -> id of their worker, as they say
  #guest = null; // the one that is helped, or prepared for: { link, task, text, exchange, controller }
  #timer = null;

  /** @param {RecruitOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /** @param {import('../room/transfer.js').Channel} channel another tab opened it */
  serve(channel) {
    const link = new Link(channel, {
      answer: (message) => this.#answer(link, message),
      receive: (message) => this.#receive(link, message),
      receiveBytes: (bytes) => this.#receiveBytes(link, bytes),
      closed: () => {
        this.#links.delete(link);
        if (this.#guest?.link === link) this.#letGo('gone');
      },
    });
    this.#links.set(link, null);
  }

  /** This tab has work of its own now. */
  leave() {
    this.#letGo('busy');
  }

  close() {
    for (const link of [...this.#links.keys()]) link.close();
    this.#letGo('gone');
  }

  // What is asked ---------------------------------------------------------------------------------
  #answer(link, message) {
    switch (message.type) {
      case 'halves.ask':
        return this.#offered(link, message);
      case 'halves.prepare':
        return this.#prepare(link, message);
      case 'bands.ask':
        return this.#offeredBand(link, message);
      case 'bands.begin':
        return this.#beginBand(link, message);
      default:
        throw new WireError('unknown-type', 'There is no such question.');
    }
  }

  #offered(link, message) {
    const { shape } = readOffer(message, this.#options.engine);
    this.#asked(link, message);
    return { half_s: this.#options.speeds.of('half', shape), worker: this.#options.self() };
  }

  #offeredBand(link, message) {
    const { shape } = readBandOffer(message, this.#options.engine);
    this.#asked(link, message);
    return { decode_s: this.#options.speeds.of('decode', shape), worker: this.#options.self() };
  }

  #asked(link, { worker }) {
    this.#links.set(link, readWorker(worker));
    this.#checkFree(link);
  }

  /** Fetches text and latent, and computes a step for practice: what it takes is the answer. */
  async #prepare(link, message) {
    const { engine, speeds } = this.#options;
    const task = readTask(message, engine);
    this.#checkFree(link);
    this.#letGo('over');
    const guest = { link, task, text: null, exchange: null, controller: new AbortController() };
    this.#guest = guest;
    this.#expire(guest);
    const { signal } = guest.controller;
    try {
      const { bytes, fetchS } = await fetched(link, task.file, signal);
      const { text, latent } = readTaskBytes(bytes, task, engine.about.text_dim);
      if (speeds.of('half', task.shape) === null) await this.#rehearse(task, text, latent, signal);
      signal.throwIfAborted();
      guest.text = text;
      return { half_s: speeds.of('half', task.shape), fetch_s: fetchS };
    } catch (error) {
      const left = signal.aborted;
      if (this.#guest === guest) this.#letGo('over');
      if (left) throw new WireError('busy', 'This tab has work of its own.');
      throw error;
    }
  }

  async #rehearse({ half, shape, steps, guidance }, text, latent, signal) {
    let began = null;
    const run = {
      conditioning: { [half]: text }, half, latent, shape, steps, guidance,
      start: 0, stop: Math.min(REHEARSED_STEPS, steps),
    };
    let last = 0;
    await this.#options.engine.denoiseHalf(run, {
      signal,
      exchange: ({ velocity }) => {
        const now = performance.now();
        last = (now - (began ?? now)) / 1000;
        began = now;
        return velocity;
      },
    });
    if (last) this.#options.speeds.note('half', shape, last);
  }

  /** What was prepared for one tab, and is not used now, keeps no other one away. */
  #checkFree(link) {
    const guest = this.#guest;
    const taken = guest && guest.link !== link && (guest.exchange || (guest.task && !guest.text));
    if (taken || !this.#options.isFree()) {
      throw new WireError('busy', 'This tab has work of its own.');
    }
  }

  #expire(guest) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#guest === guest && !guest.exchange) this.#letGo('over');
    }, KEPT_FOR_MS);
  }

  // A run -----------------------------------------------------------------------------------------
  #receive(link, message) {
    if (message.type !== 'halves.end') {
      link.close();
      return;
    }
    const exchange = this.#guest?.link === link ? this.#guest.exchange : null;
    if (exchange?.run === message.run) this.#stop('over');
  }

  #receiveBytes(link, buffer) {
    const guest = this.#guest?.link === link ? this.#guest : null;
    try {
      const { run, stop } = readPlace(buffer);
      if (stop !== null && !guest?.text) this.#sayBusy(link, run); // what was prepared has gone
      else if (stop !== null) this.#begin(guest, readNumbers(buffer, guest.task.shape));
      else if (guest?.exchange?.run === run) {
        guest.exchange.take(buffer);
      }
    } catch (error) {
      if (!['TensorError', 'WireError'].includes(error.name)) throw error;
      link.close();
    }
  }

  #begin(guest, { run, step: start, stop, data: latent }) {
    const { link, task: { shape, steps } } = guest;
    if (guest.exchange || start >= stop || stop > steps) {
      throw new WireError('nonsense', 'There is no such run.');
    }
    if (!this.#options.isFree()) {
      this.#sayBusy(link, run);
      return;
    }
    const exchange = new StepsExchange(link, { run, start, wire: velocityWire(run, shape) });
    Object.assign(guest, { exchange, controller: new AbortController() });
    this.#options.onHelping({ step: start, steps, whom: this.#links.get(link) });
    this.#run(guest, exchange, (signal) => this.#half(guest, exchange, { latent, start, stop }, signal));
  }

  async #half(guest, exchange, run, signal) {
    const { link, task: { half, shape, steps, guidance }, text } = guest;
    const { engine, speeds, onHelping } = this.#options;
    const helping = (step) => onHelping({ step, steps, whom: this.#links.get(link) ?? null });
    let began = null;
    await engine.denoiseHalf({
      conditioning: { [half]: text }, half, shape, steps, guidance, ...run,
    }, {
      signal,
      onStep: ({ step }) => guest.exchange === exchange && helping(step),
      exchange: async ({ step, velocity }) => {
        if (began !== null) speeds.note('half', shape, (performance.now() - began) / 1000);
        const halfMs = 1000 * (speeds.of('half', shape) ?? 0);
        const given = await exchange.give(
          step, velocity, PATIENCE_MS + PATIENCE_HALVES * halfMs);
        began = performance.now();
        return given;
      },
    });
  }

  /** Fetches the latent, and begins at once; what was prepared for the same tab stays. */
  async #beginBand(link, message) {
    const { engine, onHelping } = this.#options;
    const { run, shape, band, file } = readBandTask(message, engine);
    this.#checkFree(link);
    if (this.#guest?.link !== link) {
      this.#letGo('over');
      this.#guest = { link, task: null, text: null, exchange: null, controller: null };
    }
    const guest = this.#guest;
    if (guest.exchange) throw new WireError('bad-request', 'Another run goes on.');
    clearTimeout(this.#timer);
    const wire = bandWire({
      run, channels: engine.bandChannels, sides: sidesOf(band, shape, engine.about), pictures: false,
    });
    const exchange = new StepsExchange(link, { run, start: 0, wire });
    const controller = new AbortController();
    Object.assign(guest, { exchange, controller });
    onHelping({ band, whom: this.#links.get(link) });
    try {
      const { bytes, fetchS } = await fetched(link, file, controller.signal);
      const latent = readBandTaskBytes(bytes, shape);
      controller.signal.throwIfAborted();
      this.#run(guest, exchange, (signal) =>
        this.#band(exchange, { latent, shape, bands: [band] }, signal));
      return { fetch_s: fetchS };
    } catch (error) {
      if (controller.signal.aborted) throw new WireError('busy', 'This tab has work of its own.');
      this.#stop('over');
      this.#expire(guest);
      throw error;
    }
  }

  async #band(exchange, request, signal) {
    const { engine, speeds } = this.#options;
    const decodeMs = 1000 * (speeds.of('decode', request.shape) ?? 0);
    const made = await engine.decodeBands(request, {
      signal,
      exchange: ({ norm, moments: [own] }) =>
        exchange.give(norm, own, PATIENCE_MS + PATIENCE_DECODES * decodeMs),
    });
    if (made) exchange.send(engine.bandChannels.length, withoutAlpha(made[0].rgba));
  }

  async #run(guest, exchange, work) {
    const { link, controller: { signal } } = guest;
    try {
      await work(signal);
    } catch {
      if (!signal.aborted) {
        exchange.end('gone');
        link.send({ type: 'halves.end', run: exchange.run, code: 'failed' });
      }
    }
    if (guest.exchange !== exchange) return;
    guest.exchange = null;
    this.#options.onHelping(null);
    this.#expire(guest);
  }

  /** The run ends; what was prepared stays. */
  #stop(why) {
    const guest = this.#guest;
    const { exchange, controller } = guest;
    guest.exchange = null;
    exchange?.end(why);
    controller.abort();
    if (exchange) this.#options.onHelping(null);
  }

  #letGo(why) {
    const guest = this.#guest;
    if (!guest) return;
    clearTimeout(this.#timer);
    if (why === 'busy' && guest.exchange) this.#sayBusy(guest.link, guest.exchange.run);
    this.#stop(why);
    this.#guest = null;
  }

  #sayBusy(link, run) {
    link.send({ type: 'halves.end', run, code: 'busy' });
  }
}

async function fetched(link, file, signal) {
  const began = performance.now();
  const bytes = await link.fetchBlob(file, { signal });
  return { bytes, fetchS: (performance.now() - began) / 1000 };
}
