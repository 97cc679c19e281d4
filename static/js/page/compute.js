// "Compute here": this tab as a worker of the room. The engine, what drives it and what is said of it
// are loaded when the button is pressed; here is the button.

const params = new URLSearchParams(location.search);
const ALLOW = 'allow-software-gpu';
const STATUS_EVERY_MS = 1000; // at most
const NOTHING = { status: null };
const WATCHING = 'You are watching.';
const FIRST = `${WATCHING} Your graphics processor can help to make the pictures of this room.`;

export class Compute {
  #socket;
  #worker = null; // work/tab-worker.js, once it is open
  #opening = null; // AbortController
  #allowed = true; // by the owner of the room
  #pressedOnce = false;
  #wish = null; // a promise of page/computing/wish.js, where it may begin unasked
  #meets; // loads page/mesh/site-mesh.js; null where others are not met by this way
  #mesh = null; // that
  #connected = false;
  #state = { state: 'connecting' }; // of the worker
  #limits = null; // a promise of page/computing/limits.js
  #words = null; // page/computing/sentences.js, with the worker
  #room = { paused: false, waiting: 0 };
  #status = NOTHING; // that the others are told
  #told = JSON.stringify(NOTHING); // that they were told last
  #telling = false; // not again so soon
  #panel = document.getElementById('compute');
  #button = document.getElementById('compute-here');
  #said = document.getElementById('compute-said');
  #software = document.getElementById('compute-software'); // in exported pages
  #bar = document.getElementById('compute-progress');
  #limitsBox = document.getElementById('compute-limits');
  #anyway = document.getElementById('compute-anyway');

  // socket: page/socket.js. unasked: begin at once, where this browser can and nothing speaks against
  // it. meets: gives the mesh
  constructor(socket, { unasked = false, meets = null } = {}) {
    this.#socket = socket;
    this.#meets = meets;
    this.#panel.hidden = false;
    this.#button.addEventListener('click', () => this.#pressed());
    this.#limitsBox.addEventListener('toggle', () => this.#limited());
    this.#anyway.addEventListener('click', async () => (await this.#limited()).ignoreBattery());
    document.getElementById('stored').addEventListener(
      'toggle', ({ target }) => import('page/later/stored.js').then(({ show }) => show(target)));
    this.#rest(FIRST);
    if (unasked && !this.#button.hidden) this.#beginUnasked();
  }

  async #beginUnasked() {
    this.#wish = import('page/computing/wish.js');
    const why = await (await this.#wish).whyWatching(this.#panel.dataset.download);
    if (this.#pressedOnce) return;
    if (why) this.#rest(why);
    else this.#start();
  }

  get #on() {
    return this.#worker !== null || this.#opening !== null;
  }

  // The worker, or what stands between it and those who lease to it.
  get #desk() {
    return this.#mesh?.queues ?? this.#worker;
  }

  opened() {
    this.#connected = true;
    this.#desk?.connected();
    this.#mesh?.opened();
    this.#told = JSON.stringify(NOTHING); // by this connection
    this.#sayStatus();
  }

  closed() {
    this.#connected = false;
    this.#desk?.disconnected();
  }

  message(message) {
    this.#desk?.receive(message);
  }

  bytes(piece) {
    this.#desk?.receiveBytes(piece);
  }

  // head: of the room as it is now; waiting: how many jobs are not finished
  room({ tabs_help: allowed, paused }, waiting) {
    if (this.#room.paused !== paused || this.#room.waiting !== waiting) {
      this.#room = { paused, waiting };
      if (this.#worker && this.#state.state === 'waiting') this.#show(this.#state);
    }
    if (this.#allowed === allowed) return;
    this.#allowed = allowed;
    if (!this.#on) this.#rest(FIRST);
  }

  // Whoever stopped it does not want it to begin by itself the next time.
  #pressed() {
    this.#pressedOnce = true;
    const computes = !this.#on;
    this.#wish?.then(({ remember }) => remember(computes));
    if (this.#on) this.#stop();
    else this.#start();
  }

  async #start() {
    const opening = new AbortController();
    this.#opening = opening;
    this.#button.textContent = 'Stop';
    this.#offerSoftware(false);
    this.#say('Looking for the model.');
    this.#tell({ status: 'loading' });
    try {
      const limits = await this.#limited();
      const { prepared } = await import('page/computing/opening.js');
      const { open, words } = await prepared(this.#panel.dataset.packages, opening.signal);
      this.#words = words;
      this.#mesh ??= await this.#meets?.() ?? null;
      opening.signal.throwIfAborted();
      this.#mesh?.begin();
      const worker = await open({
        allowSoftware: params.get(ALLOW) === '1',
        wire: this.#desk ?? this.#socket,
        exchange: this.#mesh?.exchange,
        mesh: this.#mesh?.tabs ?? this.#socket.mesh,
        strategy: params.get('strategy'),
        onState: (state) => this.#stated(state),
        onBeat: () => this.#socket.hurry(),
        onProgress: (progress) => this.#loading(progress),
      }, () => this.#pressedOnce);
      if (opening.signal.aborted) {
        worker.stop();
        return;
      }
      this.#opening = null;
      this.#worker = worker;
      this.#mesh?.queues.employ(worker);
      this.#apply(limits);
      if (this.#connected) this.#desk.connected();
      else if (!limits.pause) this.#show({ state: 'connecting' });
    } catch (error) {
      if (opening.signal.aborted) return;
      this.#opening = null;
      this.#mesh?.leave();
      this.#rest(error.message);
      this.#tell({ status: 'unable' });
      this.#offerSoftware(error.code === 'software-only');
    }
  }

  #stop() {
    this.#opening?.abort();
    this.#opening = null;
    this.#worker?.stop();
    this.#worker = null;
    this.#mesh?.leave();
    this.#rest(FIRST);
  }

  #limited() {
    this.#limits ??= import('page/computing/limits.js').then(
      ({ Limits }) => Limits.open(async () => this.#apply(await this.#limits)));
    return this.#limits;
  }

  // What the limits allow now.
  #apply({ share, pause, ownFirst }) {
    if (!this.#worker) return;
    this.#worker.limit(share);
    this.#worker.ownFirst = ownFirst;
    if (pause) this.#worker.pause(pause);
    else this.#worker.resume();
  }

  #loading({ kind, done, total, message }) {
    if (kind === 'unstored') {
      this.#say(message);
      return;
    }
    if (this.#worker && (kind === 'compile' || done >= total)) {
      this.#show(this.#state); // of a chunk that has begun; only a long download is worth a word
      return;
    }
    this.#bar.hidden = false;
    this.#bar.max = total || 1;
    this.#bar.value = done;
    this.#say(this.#words.loadingSentence({ kind, done, total }), { aloud: false });
  }

  #stated(state) {
    this.#mesh?.queues?.stated(state);
    this.#show(state);
  }

  #show(state) {
    this.#state = state;
    this.#bar.hidden = true;
    this.#anyway.hidden = state.reason !== 'battery';
    if (state.state === 'ended') {
      this.#worker = null;
      this.#mesh?.leave();
      this.#rest(state.message);
    } else {
      const aloud = !['computing', 'helping', 'resting'].includes(state.state);
      this.#say(this.#words.sentence(state, this.#worker?.device, this.#room), { aloud });
      this.#tell(this.#words.statusOf(state, this.#mesh?.queues?.isAway));
    }
  }

  #offerSoftware(only) {
    if (!this.#software) return;
    const query = new URLSearchParams({ ...Object.fromEntries(params), [ALLOW]: '1' });
    this.#software.href = `?${query}${location.hash}`;
    this.#software.hidden = !only;
    if (only) this.#button.hidden = true;
  }

  // Not computing: why, or that it might.
  #rest(why) {
    this.#bar.hidden = this.#anyway.hidden = true;
    this.#button.textContent = 'Compute here';
    const hindrance = this.#allowed ? hindranceHere() : ownerSaysNo;
    this.#button.hidden = this.#limitsBox.hidden = hindrance !== null;
    this.#tell(this.#allowed && hindrance ? { status: 'unable' } : NOTHING);
    this.#say(hindrance ?? why);
  }

  // The others see why this tab computes no chunk; that it does they see by itself.
  #tell(status) {
    this.#status = status;
    if (!this.#telling) this.#sayStatus();
  }

  // Who says it too often is taken for somebody who floods the room.
  #sayStatus() {
    const said = JSON.stringify(this.#status);
    if (!this.#connected || said === this.#told) return;
    this.#told = said;
    this.#socket.send({ type: 'peer.status', ...this.#status });
    this.#telling = true;
    setTimeout(() => {
      this.#telling = false;
      this.#sayStatus();
    }, STATUS_EVERY_MS);
  }

  // aloud: what changes many times a second is not read out.
  #say(text, { aloud = true } = {}) {
    this.#said.setAttribute('aria-live', aloud ? 'polite' : 'off');
    if (this.#said.textContent !== text) this.#said.textContent = text;
  }
}

const ownerSaysNo = `${WATCHING} The owner of this room does not let tabs compute in it.`;

function hindranceHere() {
  if (!window.isSecureContext) {
    return `${WATCHING} This tab cannot compute: browsers offer the GPU only by https or on this`
      + ' computer.';
  }
  return navigator.gpu ? null : `${WATCHING} This tab cannot compute: this browser has no WebGPU.`
    + ' Recent versions of Chrome, Edge, Safari and Firefox have it.';
}
