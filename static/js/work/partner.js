// Another tab that may compute a half of this one's steps, or a band of its picture: the holder's end
// of docs/recruiting.md.

import { sha256Of } from '../engine/package/sha256.js';
import { Link } from '../room/link.js';
import { bandTaskBytes, bandWire, sidesOf } from './bands-wire.js';
import {
  LABEL, latentBytes, readPlace, readSeconds, readWorker, taskBytes, velocityWire,
} from './halves-wire.js';
import { StepsExchange } from './steps-exchange.js';

const OPENS_WITHIN_MS = 5000;
const PREPARED_WITHIN_MS = 60_000; // it fetches, compiles and practises; this tab goes on meanwhile
const BEGUN_WITHIN_MS = 15_000;
const TELLING_BYTES = 2 ** 16; // fewer take as long as none, and a picture has more
const DEFAULT_ROUND_TRIP_MS = 100; // before the heartbeat has measured one
export const ITS_HALF = 'negative'; // the recruit never sees what the picture shows

export class Partner {
  #peer;
  #link = null;
  #opening = null; // a promise
  #engine;
  #prepared = null; // { features, key }
  #exchange = null;
  #runs = 0;
  #shape = null;
  #files = new Map(); // what it may fetch, by SHA-256
  #bytesPerS = Infinity;
  #manyBytesPerS = Infinity; // of files large enough to tell what a picture takes
  #halfS = null;
  #decodeS = null;
  #self;
  #moved = { received: 0, sent: 0 };
  /** Id of the worker that it is, as it says; null: of none. @type {string|null} */
  worker = null;

  /**
   * @param {{id: string, name: string, roundTripMs: number|null, openChannel: Function}} peer
   * @param {import('../engine/engine.js').Engine} engine
   * @param {() => string|null} self id of the worker that this tab is
   */
  constructor(peer, engine, self) {
    this.#peer = peer;
    this.#engine = engine;
    this.#self = self;
  }

  get id() {
    return this.#peer.id;
  }

  /** @returns {{received: number, sent: number}} bytes that went from it and to it for what it
   *   computes, since this was asked last */
  takeMoved() {
    const { received, sent } = this.#moved;
    Object.assign(this.#moved, { received: 0, sent: 0 });
    return { received, sent };
  }

  /** What the planner is told. @param {number[]} shape of a velocity */
  candidate(shape) {
    const bytes = shape.reduce((all, side) => all * side, 4);
    return {
      id: this.#peer.id,
      halfS: this.#halfS,
      crossingS: this.#roundTripS / 2 + bytes / this.#bytesPerS,
    };
  }

  /**
   * What the planner of bands is told.
   * @param {number[]} shape of the latent @returns {import('./bands-planner.js').Decoder}
   */
  decoder([, rows, columns]) {
    const { vae_scale: scale } = this.#engine.about;
    return {
      id: this.#peer.id,
      decodeS: this.#decodeS,
      crossingS: this.#roundTripS / 2,
      pictureS: (3 * rows * columns * scale ** 2) / this.#manyBytesPerS,
    };
  }

  get #roundTripS() {
    return (this.#peer.roundTripMs ?? DEFAULT_ROUND_TRIP_MS) / 1000;
  }

  /**
   * Would it compute a half of such a latent now?
   * @param {number[]} shape
   * @throws {Error} with a code: busy, other-model, or what a link that fails has
   */
  async ask(shape) {
    const { half_s: halfS } = await this.#offer('halves.ask', shape);
    this.#halfS = readSeconds(halfS) ?? this.#halfS;
  }

  /**
   * Would it compute a band of such a picture now?
   * @param {number[]} shape of the latent @throws {Error} as `ask`
   */
  async askForBand(shape) {
    const { decode_s: decodeS } = await this.#offer('bands.ask', shape);
    this.#decodeS = readSeconds(decodeS);
  }

  /** What it answers to an offer of such a latent. */
  async #offer(type, shape) {
    if (!this.#link) await (this.#opening ??= this.#open());
    const { modelId: model, variant } = this.#engine;
    const worker = this.#self();
    const answer = await this.#link.request(
      { type, model, variant, shape, worker }, { timeoutMs: OPENS_WITHIN_MS });
    this.worker = readWorker(answer.worker);
    return answer;
  }

  /**
   * It gets ready for its half of this picture, where it is not yet.
   * @param {{text: object, latent: Float32Array, shape: number[], steps: number, guidance: number}}
   *   picture text: of its half
   * @param {AbortSignal} signal
   * @throws {Error} as `ask`
   */
  async prepare({ text, latent, shape, steps, guidance }, signal) {
    const key = [shape, steps, guidance].join();
    if (this.#prepared?.features === text.features && this.#prepared.key === key) return;
    const { modelId: model, variant, about } = this.#engine;
    const bytes = taskBytes(text, latent, shape, about.text_dim);
    const file = await sha256Of(bytes);
    this.#prepared = null;
    this.#files.set(file, bytes);
    try {
      const answer = await this.#link.request({
        type: 'halves.prepare', model, variant, shape, half: ITS_HALF, steps, guidance,
        tokens: text.tokens, file,
      }, { timeoutMs: PREPARED_WITHIN_MS, signal });
      this.#halfS = readSeconds(answer.half_s) ?? this.#halfS;
      this.#noteFetch(bytes, answer);
      this.#shape = shape;
      this.#prepared = { features: text.features, key };
    } finally {
      this.#files.delete(file);
    }
  }

  /**
   * It begins with steps `start` to `stop` of what it has prepared.
   * @param {{latent: Float32Array, start: number, stop: number}} run
   * @returns {StepsExchange|null} null where it is not there, or not ready, any more
   */
  begin({ latent, start, stop }) {
    if (!this.#link || !this.#prepared) return null;
    this.#runs += 1;
    this.#exchange = new StepsExchange(
      this.#link,
      { run: this.#runs, start, wire: velocityWire(this.#runs, this.#shape), moved: this.#moved });
    const bytes = latentBytes(this.#runs, start, stop, latent, this.#shape);
    this.#moved.sent += bytes.length;
    this.#link.sendBytes(bytes);
    return this.#exchange;
  }

  /**
   * It begins with a band of a picture. What it gives at step n are the moments at norm n, and after
   * the last one its rows of the picture, RGB; where it refuses, the exchange ends.
   * @param {{latent: Float32Array, shape: number[], band: import('../engine/bands.js').Rows}} task
   * @returns {StepsExchange|null} null where it is not there any more
   */
  beginBand({ latent, shape, band }) {
    if (!this.#link) return null;
    const { bandChannels: channels, about } = this.#engine;
    this.#runs += 1;
    const run = this.#runs;
    const sides = sidesOf(band, shape, about);
    const wire = bandWire({ run, channels, sides, pictures: true });
    const exchange = new StepsExchange(this.#link, { run, start: 0, wire, moved: this.#moved });
    this.#exchange = exchange;
    this.#askToBegin(bandTaskBytes(latent, shape), shape, { run, ...band }).catch((error) => {
      exchange.end(error.code === 'busy' ? 'busy' : 'gone');
    });
    return exchange;
  }

  async #askToBegin(bytes, shape, more) {
    const { modelId: model, variant } = this.#engine;
    const file = await sha256Of(bytes);
    this.#files.set(file, bytes);
    try {
      const answer = await this.#link.request(
        { type: 'bands.begin', model, variant, shape, file, ...more },
        { timeoutMs: BEGUN_WITHIN_MS });
      this.#noteFetch(bytes, answer);
    } finally {
      this.#files.delete(file);
    }
  }

  /** How fast bytes get there, by what it says. */
  #noteFetch({ length }, answer) {
    const fetchS = readSeconds(answer.fetch_s) ?? 0;
    this.#bytesPerS = length / Math.max(fetchS - this.#roundTripS, 1e-6);
    if (length >= TELLING_BYTES) this.#manyBytesPerS = this.#bytesPerS;
  }

  /** That run is over, where it still goes on. */
  endOf(exchange) {
    if (this.#exchange === exchange) this.end();
  }

  /** The run is over before its end. */
  end() {
    this.#exchange?.end('over');
    if (this.#exchange) this.#link?.send({ type: 'halves.end', run: this.#exchange.run });
    this.#exchange = null;
  }

  close() {
    this.#link?.close();
  }

  async #open() {
    let channel;
    try {
      channel = await this.#peer.openChannel(LABEL);
    } finally {
      this.#opening = null;
    }
    const link = new Link(channel, {
      provide: (name) => {
        const file = this.#files.get(name) ?? null;
        this.#moved.sent += file?.length ?? 0;
        return file;
      },
      receive: (message) => this.#receive(message),
      receiveBytes: (bytes) => this.#receiveBytes(bytes),
      closed: () => {
        if (this.#link !== link) return;
        this.#link = null;
        this.#prepared = null;
        this.#exchange?.end('gone');
      },
    });
    this.#link = link;
  }

  #receive({ type, run, code }) {
    if (type !== 'halves.end') {
      this.close();
      return;
    }
    if (code === 'busy') this.#prepared = null;
    if (run === this.#exchange?.run) this.#exchange.end(code === 'busy' ? 'busy' : 'gone');
  }

  #receiveBytes(buffer) {
    const exchange = this.#exchange;
    try {
      if (readPlace(buffer).run === exchange?.run) exchange.take(buffer);
    } catch (error) {
      if (!['TensorError', 'WireError'].includes(error.name)) throw error;
      exchange?.end('nonsense');
      this.close();
    }
  }
}
