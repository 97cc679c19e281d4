// This tab as a worker of the room: leases chunks over the room's socket and computes them with the
// engine.
//
// - Holds one chunk at a time, renews its lease, shows its steps, leaves checkpoints, hands in.
// - Stops within one step when the lease is lost, when the socket closes, when it is asked to.
// - What it has computed stays at hand, so that the next chunk of an image needs nothing sent; of a
//   chunk that is to be computed afresh, nothing does.
// - Computes at most a share of the time (power.js): it rests between steps, and where a rest is long
//   it gives its chunk back meanwhile. Paused it is no worker.
// - Knows the engine and messages; neither the page nor sockets.

import { openEngine } from '../engine/engine.js';
import { orAborted } from '../engine/package/abort.js';
import { fromBytes, toBytes } from '../engine/safetensors.js';
import { withoutAlpha } from './pixels.js';
import { Ledger } from './ledger.js';
import { Power } from './power.js';
import { Recruiting } from './recruiting.js';
import { helpingSentence, strategySentence } from './strategy-words.js';
import { WorkLine } from './work-line.js';

const SHOWN_EVERY_MS = 125; // steps of a fast device
const CHECKPOINT_EVERY_MS = 2000;
const KEPT = 8; // conditionings and latents
const LONGEST_DEVICE = 120;
const LONGEST_HELD_REST_MS = 10_000; // longer ones are without a chunk: others may go on with it
const FREE_AFTER_MS = 250; // of waiting: between two chunks it is not free to help others

// What the queue is told of an error of the engine; everything else is computation-failed.
const FAULTS = new Map(Object.entries({
  'out-of-memory': 'out-of-memory',
  'too-large': 'out-of-memory',
  'bad-package': 'model-unreadable',
  'bad-plan': 'model-unreadable',
  'device-lost': 'worker-lost',
  closed: 'worker-lost',
  'worker-failed': 'worker-lost',
}));
// After these it would not go better the next time.
const FATAL = ['device-lost', 'closed', 'worker-failed', 'bad-package', 'bad-plan', 'bad-shader'];

/**
 * @typedef {{state: 'connecting'|'waiting'}
 *   | {state: 'computing', kind: 'encode'|'denoise'|'decode', prompt: string, step: number,
 *      steps: number, share: number, strategy?: string}
 *   | {state: 'helping', message: string, whom: string|null}
 *   | {state: 'resting', share: number} | {state: 'paused', reason: string}
 *   | {state: 'ended', code: string, message: string}} TabState
 *   step: how many of the image's are done.  share: of the time, at most.  strategy, message:
 *   sentences, see strategy-words.js.  helping: it computes a part of another tab's picture; whom: id
 *   of that one's worker.
 *   ended: nothing follows
 *
 * @typedef {object} TabOptions
 * @property {{send(message: object): void, sendBytes(bytes: Uint8Array): void, buffered: number}}
 *   wire of the room's socket
 * @property {string} key 32 hex digits, the same over reloads of this tab
 * @property {(state: TabState) => void} onState
 * @property {() => void} [onBeat] called every three seconds, also where nobody sees the page
 * @property {AbortSignal} [signal] gives up opening
 * @property {import('../engine/engine.js').EngineOptions['onProgress']} [onProgress]
 * @property {import('../engine/engine.js').EngineOptions['confirmDownload']} [confirmDownload]
 * @property {boolean} [allowSoftware]
 * @property {Power} [power]
 * @property {import('./exchange.js').Exchange} [exchange] what other tabs have computed
 * @property {import('./recruiting.js').Mesh} [mesh] tabs that may help with a chunk, see recruiting.js
 * @property {'auto'|'alone'|'halves'|'bands'} [strategy]
 */

export class TabWorker {
  #engine;
  #line;
  #key;
  #onState;
  #onBeat;
  #ticker;
  #ticks = 0;
  #renewEverySeconds = 10;
  #power;
  #open = false; // the socket is
  #ownFirst = false;
  #waits = false; // it has claimed, and has no lease of it yet
  #paused = null; // why
  #turn = 0; // of claiming: what rests for an earlier one is over
  #welcome = false; // the server knows this tab as a worker
  #worker = null; // under this id, or has last
  #chunk = null; // { lease, controller, step, latent, shape, savedAt, shownAt, restedMs, ledger }
  #conditionings = new Map(); // by job
  #exchange;
  #recruiting = null;
  #idleSince = 0;
  #latents = new Map(); // by job and image: { job, image, step, latent, shape }

  /**
   * Opens the package and the GPU.
   * @param {string} packageUrl @param {TabOptions} options
   * @returns {Promise<TabWorker>} call `connected` when the socket is open
   * @throws what `openEngine` throws
   */
  static async open(packageUrl, options) {
    const { signal, onProgress, confirmDownload, allowSoftware } = options;
    const engine = await openEngine(packageUrl, {
      signal, onProgress, confirmDownload, allowSoftware,
    });
    return new TabWorker(engine, options);
  }

  /**
   * @param {import('../engine/engine.js').Engine} engine opened; this one closes it
   * @param {TabOptions} options
   */
  constructor(engine, {
    wire, key, onState, onBeat = () => {}, exchange = null, mesh = null, strategy,
    power = new Power(),
  }) {
    this.#engine = engine;
    this.#power = power;
    this.#line = new WorkLine(wire);
    this.#key = key;
    this.#onState = onState;
    this.#onBeat = onBeat;
    this.#exchange = exchange;
    if (mesh) this.#recruiting = this.#recruitingOver(mesh, strategy);
    this.#ticker = new Worker(
      new URL('../room/ticker-worker.js', import.meta.url), { type: 'module' });
    this.#ticker.onmessage = () => this.#tick();
  }

  /** @returns {import('../engine/device.js').DeviceInfo} */
  get device() {
    return this.#engine.device;
  }

  /** The socket is open, for the first time or again: say hello. */
  connected() {
    this.disconnected();
    this.#open = true;
    if (this.#paused) this.#onState({ state: 'paused', reason: this.#paused });
    else this.#hello();
  }

  #hello() {
    const { description, software, variant } = this.#engine.device;
    this.#line.say({
      type: 'work.hello',
      key: this.#key,
      device: oneLine(description),
      software,
      packages: [this.#engine.packageId],
      kernels: variant,
      own_first: this.#ownFirst,
    });
  }

  /** The socket is closed, and the server has taken back what this tab held. */
  disconnected() {
    this.#open = this.#welcome = false;
    this.#line.forget();
    this.#drop();
    this.#onState({ state: 'connecting' });
  }

  /** A message came over the socket; those that are not about work are passed over. */
  receive(message) {
    if (message.type.startsWith('work.')) this.#take(this.#line.hear(message));
  }

  /** @param {ArrayBuffer} piece a binary message */
  receiveBytes(piece) {
    this.#take(this.#line.hearBytes(piece));
  }

  /** Give the chunk back with its newest latent, and say goodbye. Nothing follows. */
  stop() {
    this.#goodbye();
    this.#close();
  }

  /** Of all the time, at most so much is computed. @param {number} share above 0 and at most 1 */
  limit(share) {
    this.#power.limit(share);
  }

  /** Whether what its own person asks for comes before all else. @param {boolean} first */
  set ownFirst(first) {
    if (this.#ownFirst === first) return;
    this.#ownFirst = first;
    if (this.#waits) this.#sayClaim();
  }

  /** No worker until `resume`: the chunk goes back with its newest latent. @param {string} reason */
  pause(reason) {
    this.#paused = reason;
    this.#recruiting?.leave();
    this.#goodbye();
    this.#welcome = false;
    this.#drop();
    this.#onState({ state: 'paused', reason });
  }

  /** A worker again, when the socket is open. */
  resume() {
    if (!this.#paused) return;
    this.#paused = null;
    this.#onState({ state: 'connecting' });
    if (this.#open) this.#hello();
  }

  #goodbye() {
    if (!this.#welcome) return;
    this.#saveNewest();
    this.#line.say({ type: 'work.goodbye' });
  }

  #saveNewest() {
    const chunk = this.#chunk;
    const worthKeeping = chunk?.latent && chunk.step < chunk.lease.stop;
    if (worthKeeping) this.#sayStep(chunk, { save: true });
  }

  #close() {
    this.#welcome = false;
    this.#drop();
    this.#recruiting?.close();
    this.#ticker.terminate();
    this.#power.close();
    this.#engine.close();
  }

  #end(code, message) {
    this.#close();
    this.#onState({ state: 'ended', code, message });
  }

  #drop() {
    this.#waits = false;
    this.#chunk?.controller.abort();
    this.#chunk = null;
  }

  #take(heard) {
    if (!heard) return;
    const { message, bytes } = heard;
    switch (message.type) {
      case 'work.welcome':
        this.#welcome = true;
        this.#worker = message.worker;
        this.#renewEverySeconds = message.renew_seconds;
        if (this.#paused) this.pause(this.#paused); // since it said hello
        if (!this.#chunk) this.#claimRested();
        break;
      case 'work.lease':
        if (this.#welcome) this.#run(message, bytes); // else it crossed a goodbye
        break;
      case 'work.tensors':
        if (this.#isAtHand(message)) this.#chunk.fetched?.(bytes);
        break;
      case 'work.done':
      case 'work.lost':
        if (!this.#isAtHand(message)) break;
        this.#leaseOver({ claimed: this.#waits });
        break;
      case 'work.dismissed':
        this.#end(message.code, message.detail);
        break;
    }
  }

  /** The chunk at hand is over. claimed: what is next was asked for with its result. */
  #leaseOver({ claimed }) {
    this.#drop();
    if (claimed) this.#waitForLease();
    else this.#claimRested();
  }

  #isAtHand({ chunk, attempt }) {
    const lease = this.#chunk?.lease;
    return lease?.chunk === chunk && lease.attempt === attempt;
  }

  async #claimRested() {
    const turn = ++this.#turn;
    if (this.#welcome && this.#power.restMs) {
      this.#onState({ state: 'resting', share: this.#power.share });
      await this.#power.rest();
    }
    if (turn === this.#turn) this.#claim();
  }

  #claim() {
    if (!this.#welcome) return;
    this.#waitForLease();
    this.#sayClaim();
  }

  #waitForLease() {
    this.#waits = true;
    this.#idleSince = performance.now();
    this.#onState({ state: 'waiting' });
  }

  #sayClaim() {
    this.#waits = true;
    const latents = [...this.#latents.values()].map(({ job, image, step }) => [job, image, step]);
    this.#line.say({
      type: 'work.claim', conditionings: [...this.#conditionings.keys()], latents,
      own_first: this.#ownFirst,
    });
  }

  #tick() {
    this.#ticks += 1;
    if (this.#ticks % 3 === 0) this.#onBeat();
    if (this.#chunk && this.#welcome && this.#ticks % this.#renewEverySeconds === 0) {
      this.#line.say(named(this.#chunk.lease, 'work.renew'));
    }
  }

  // One chunk -------------------------------------------------------------------------------------
  async #run(lease, bytes) {
    const controller = new AbortController();
    const chunk = {
      lease, controller, step: lease.start, latent: null, shape: null, shownAt: 0,
      savedAt: performance.now(), restedMs: 0, ledger: new Ledger(),
    };
    this.#chunk = chunk;
    this.#waits = false;
    this.#recruiting?.leave();
    this.#show(chunk);
    try {
      const sent = bytes.length ? fromBytes(bytes) : {};
      if (lease.direct) Object.assign(sent, await this.#fromOthers(chunk));
      const began = performance.now();
      const result = await this.#compute(chunk, sent);
      if (this.#chunk !== chunk) return;
      const seconds = (performance.now() - began - chunk.restedMs) / 1000;
      const { partners } = chunk.ledger;
      const more = partners.length ? { partners } : {};
      this.#line.say({ ...named(lease, 'work.complete'), seconds, ...more }, toBytes(result));
      if (this.#power.restMs) return;
      // Messages are taken in order: what is next comes without waiting for `work.done` first.
      this.#sayClaim();
    } catch (error) {
      if (this.#chunk !== chunk) return; // lost, and therefore ended
      this.#chunk = null;
      const fault = FAULTS.get(error.code) ?? 'computation-failed';
      const detail = `${error.name}: ${error.message}`;
      this.#line.say({ ...named(lease, 'work.fail'), fault, detail });
      if (FATAL.includes(error.code)) {
        this.#line.say({ type: 'work.goodbye' });
        this.#end(error.code, error.message);
      } else {
        this.#claimRested();
      }
    }
  }

  /** The tensors of the result, by name. */
  async #compute(chunk, sent) {
    const { lease: { kind } } = chunk;
    if (kind === 'encode') return this.#timed(() => this.#encode(chunk));
    const start = await this.#latent(chunk.lease, sent);
    return kind === 'denoise'
      ? this.#denoise(chunk, sent, start) : this.#timed(() => this.#decode(chunk, start));
  }

  /** Work of which a rest is owed. */
  async #timed(work) {
    const began = performance.now();
    try {
      return await work();
    } finally {
      this.#power.worked(performance.now() - began);
    }
  }

  /** What other tabs have, and what of it they do not give in time, from the server after all. */
  async #fromOthers(chunk) {
    const { lease, controller: { signal } } = chunk;
    const { tensors, missing, why } = await this.#exchange.take(lease.direct, signal);
    if (!missing.length) return tensors;
    const fetched = orAborted(new Promise((resolve) => { chunk.fetched = resolve; }), signal);
    this.#line.say({ ...named(lease, 'work.fetch'), names: missing, why });
    return { ...tensors, ...fromBytes(await fetched) };
  }

  async #encode({ lease: { job, settings, fresh }, controller: { signal } }) {
    const conditioning = await this.#engine.encode({
      prompt: settings.prompt,
      negativePrompt: settings.negative_prompt,
      guidance: settings.guidance,
    }, { signal });
    const unsure = Object.values(conditioning).flatMap((text) => text.unsure);
    if (unsure.length) {
      throw new Error(`This browser may read these characters differently: ${unsure.join(' ')}`);
    }
    if (!fresh) remember(this.#conditionings, job, conditioning);
    for (const { features } of Object.values(conditioning)) this.#exchange?.keep(features);
    return Object.fromEntries(Object.entries(conditioning).map(
      ([half, { features, tokens }]) => [half, {
        shape: [tokens, tokens ? features.length / tokens : this.#engine.about.text_dim],
        data: features,
      }]));
  }

  async #denoise(chunk, sent, { latent, shape }) {
    const { lease, controller: { signal }, ledger } = chunk;
    const { steps, guidance } = lease.settings;
    chunk.shape = shape;
    const conditioning = this.#conditioning(lease, sent);
    let done = latent;
    for (let start = lease.start; start < lease.stop;) {
      const whole = this.#power.share === 1; // else there is a rest after each step
      const stop = whole ? lease.stop : start + 1;
      const by = this.#helped(lease) ?? this.#engine;
      const request = { conditioning, latent: done, shape, steps, guidance, start, stop };
      done = await this.#timed(() => by.denoise(
        request, { signal, ledger, onStep: (step) => this.#stepped(chunk, step) }));
      start = stop;
      if (start < lease.stop) await this.#rest(chunk);
    }
    this.#keepLatent(lease, lease.stop, done, shape);
    return { latent: { shape, data: done } };
  }

  /** Other tabs, where they may help. */
  #helped({ fresh }) {
    // What is to be computed afresh is this tab's own: it may be another one's that is checked.
    return this.#power.share === 1 && !fresh ? this.#recruiting : null;
  }

  async #decode({ lease, controller: { signal }, ledger }, { latent, shape }) {
    const by = this.#helped(lease) ?? this.#engine;
    const { width, height, rgba } = await by.decode({ latent, shape }, { signal, ledger });
    return { picture: { shape: [height, width, 3], data: withoutAlpha(rgba) } };
  }

  #conditioning({ job, fresh }, sent) {
    const { latent: _latent, ...texts } = sent;
    if (!Object.keys(texts).length) return this.#conditionings.get(job);
    const conditioning = Object.fromEntries(Object.entries(texts).map(
      ([half, { shape, data }]) => [half, { features: data, tokens: shape[0], unsure: [] }]));
    if (!fresh) remember(this.#conditionings, job, conditioning);
    return conditioning;
  }

  /** Where the chunk starts: what came with it, what is at hand, or noise. */
  async #latent({ job, image, kind, start, seed, settings }, sent) {
    if (sent.latent) return { latent: sent.latent.data, shape: sent.latent.shape };
    if (kind === 'denoise' && start === 0) {
      return this.#engine.noise({ seed, width: settings.width, height: settings.height });
    }
    return this.#latents.get(`${job}/${image}`);
  }

  #keepLatent({ job, image, fresh }, step, latent, shape) {
    if (fresh) this.#latents.delete(`${job}/${image}`);
    else remember(this.#latents, `${job}/${image}`, { job, image, step, latent, shape });
    this.#exchange?.keep(latent);
  }

  /** Between two steps. Throws when the chunk is not held any more after it. */
  async #rest(chunk) {
    const { signal } = chunk.controller;
    const ms = this.#power.restMs;
    if (!ms) return;
    if (ms > LONGEST_HELD_REST_MS && this.#chunk === chunk) {
      this.#saveNewest();
      this.#line.say(named(chunk.lease, 'work.release'));
      this.#drop();
      this.#claimRested();
    } else {
      const began = performance.now();
      this.#onState({ state: 'resting', share: this.#power.share });
      await this.#power.rest(signal);
      chunk.restedMs += performance.now() - began;
    }
    signal.throwIfAborted();
    this.#show(chunk);
  }

  // Steps ---------------------------------------------------------------------------------------
  #stepped(chunk, { step, latent, preview }) {
    if (this.#chunk !== chunk) return;
    Object.assign(chunk, { step, latent, preview });
    this.#show(chunk);
    const now = performance.now();
    const save = now - chunk.savedAt >= CHECKPOINT_EVERY_MS && step < chunk.lease.stop;
    if (save || (now - chunk.shownAt >= SHOWN_EVERY_MS && !this.#line.congested)) {
      this.#sayStep(chunk, { save });
    }
  }

  #sayStep(chunk, { save }) {
    const { lease, step, latent, shape, preview } = chunk;
    const tensors = {
      preview: { shape: [preview.height, preview.width, 3], data: withoutAlpha(preview.rgba) },
    };
    if (save) tensors.latent = { shape, data: latent };
    chunk.shownAt = performance.now();
    if (save) chunk.savedAt = chunk.shownAt;
    this.#line.say(
      { ...named(lease, 'work.step'), step, latent: save, preview: true }, toBytes(tensors));
  }

  #show({ lease: { kind, settings }, step, strategy }) {
    this.#onState({
      state: 'computing', kind, prompt: settings.prompt, step, steps: settings.steps,
      share: this.#power.share,
      ...(strategy && { strategy }),
    });
  }

  /** To help others. Who is limited or paused is not. */
  #isFree() {
    const limited = this.#paused !== null || this.#power.share < 1;
    return !limited && !this.#chunk && performance.now() - this.#idleSince > FREE_AFTER_MS;
  }

  // Two tabs at one chunk -------------------------------------------------------------------------
  #recruitingOver(mesh, setting) {
    return new Recruiting({
      engine: this.#engine,
      mesh,
      setting,
      isFree: () => this.#isFree(),
      self: () => this.#worker,
      onStrategy: (strategy) => {
        if (!this.#chunk) return;
        this.#chunk.strategy = strategySentence(strategy);
        this.#show(this.#chunk);
      },
      onHelping: (helping) => {
        if (helping) {
          const { whom } = helping;
          this.#onState({ state: 'helping', message: helpingSentence(helping), whom });
        } else if (this.#welcome && !this.#chunk) this.#onState({ state: 'waiting' });
      },
    });
  }
}

const named = ({ chunk, attempt }, type) => ({ type, chunk, attempt });

function remember(memory, key, value) {
  memory.delete(key);
  memory.set(key, value);
  if (memory.size > KEPT) memory.delete(memory.keys().next().value);
}

const oneLine = (text) =>
  text.replace(/[^\p{L}\p{N}\p{P}\p{S} ]+/gu, ' ').trim().slice(0, LONGEST_DEVICE) || 'unnamed GPU';
