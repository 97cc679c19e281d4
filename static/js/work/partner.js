// Another tab that may compute a half for this one's chunk: the holder's end of docs/recruiting.md.

import { sha256Of } from '../engine/package/sha256.js';
import { Link } from '../room/link.js';
import { HalvesExchange } from './halves-exchange.js';
import {
  LABEL, latentBytes, readNumbers, readSeconds, taskBytes, WireError,
} from './halves-wire.js';

const OPENS_WITHIN_MS = 5000;
const PREPARED_WITHIN_MS = 60_000; // it fetches, compiles and practises; this tab goes on meanwhile
const DEFAULT_ROUND_TRIP_MS = 100; // before the heartbeat has measured one
export const ITS_HALF = 'negative'; // the recruit never sees what the picture shows

export class Partner {
  #peer;
  #link = null;
  #engine;
  #prepared = null; // { features, key }
  #exchange = null;
  #runs = 0;
  #shape = null;
  #files = new Map(); // what it may fetch, by SHA-256
  #bytesPerS = Infinity;
  #halfS = null;

  /**
   * @param {{id: string, name: string, roundTripMs: number|null, openChannel: Function}} peer
   * @param {import('../engine/engine.js').Engine} engine
   */
  constructor(peer, engine) {
    this.#peer = peer;
    this.#engine = engine;
  }

  get id() {
    return this.#peer.id;
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

  get #roundTripS() {
    return (this.#peer.roundTripMs ?? DEFAULT_ROUND_TRIP_MS) / 1000;
  }

  /**
   * Would it compute a half of such a latent now?
   * @param {number[]} shape
   * @throws {Error} with a code: busy, other-model, or what a link that fails has
   */
  async ask(shape) {
    if (!this.#link) await this.#open();
    const { modelId: model, variant } = this.#engine;
    const answer = await this.#link.request(
      { type: 'halves.ask', model, variant, shape }, { timeoutMs: OPENS_WITHIN_MS });
    this.#halfS = readSeconds(answer.half_s) ?? this.#halfS;
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
      const fetchS = readSeconds(answer.fetch_s) ?? 0;
      this.#bytesPerS = bytes.length / Math.max(fetchS - this.#roundTripS, 1e-6);
      this.#shape = shape;
      this.#prepared = { features: text.features, key };
    } finally {
      this.#files.delete(file);
    }
  }

  /**
   * It begins with steps `start` to `stop` of what it has prepared.
   * @param {{latent: Float32Array, start: number, stop: number}} run
   * @returns {HalvesExchange|null} null where it is not there, or not ready, any more
   */
  begin({ latent, start, stop }) {
    if (!this.#link || !this.#prepared) return null;
    this.#runs += 1;
    this.#exchange = new HalvesExchange(
      this.#link, { run: this.#runs, shape: this.#shape, start });
    this.#link.sendBytes(latentBytes(this.#runs, start, stop, latent, this.#shape));
    return this.#exchange;
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
    const channel = await this.#peer.openChannel(LABEL);
    const link = new Link(channel, {
      provide: (name) => this.#files.get(name) ?? null,
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
    if (!this.#shape) return;
    try {
      const numbers = readNumbers(buffer, this.#shape);
      if (numbers.stop !== null) throw new WireError('nonsense', 'A recruit sends no latent.');
      if (numbers.run === exchange?.run) exchange.take(numbers);
    } catch (error) {
      if (!['TensorError', 'WireError'].includes(error.name)) throw error;
      exchange?.end('nonsense');
      this.close();
    }
  }
}
