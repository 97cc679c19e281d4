// Keeps the relays within reach, however long they were away.
//
// Trystero tries a lost relay five times within about a minute and then never again, says that this
// tab is here only once a minute, after an outage perhaps in 15 minutes, and gives a relay up that
// refuses anything. So here:
// - Trystero's own tries are locked, which is meant for browsers that are offline; the lock is opened
//   for a moment whenever it is time to try again, for as long as it takes.
// - A relay that is back is told that this tab is here.
// - A relay from which nothing comes is told the same, which it must answer. One that does not, and
//   one that refused, is met anew under an address with another query, because Trystero keeps what it
//   knows by address. For that the room is joined anew; connections to others stay.

const LONGEST_RETRY_MS = 10_000;
const FIRST_RETRY_MS = 1000;
const QUIET_MS = 15_000;
const ANSWERS_WITHIN_MS = 10_000;
const CONNECTS_WITHIN_MS = 12_000;
const AGAIN_AFTER_OPEN_MS = 5000;
const FIRST_RETURN_MS = 5000; // to a relay that refused
const LONGEST_RETURN_MS = 15 * 60_000; // while another relay is open
const LONGEST_RETURN_ALONE_MS = 20_000;
const FRIENDLY_AFTER_MS = 60_000; // open for so long: what it refused earlier is forgotten
const LONGEST_REASON = 200;

const used = new Set(); // addresses that Trystero has known in this page

/**
 * @typedef {{url: string, state: 'connecting'|'open'|'closed'|'refused', reason: string}} RelayState
 * @typedef {{aheadS: number|null}} WrongClock seconds before the relay's clock, negative behind it; null
 *   if it does not say
 * @typedef {{signalling: 'connecting'|'open'|'lost', relays: RelayState[], clock: WrongClock|null}}
 *   SignallingState clock: this computer's is so wrong that no relay takes what it says
 */

export class Supervisor {
  #nostr;
  #announcement;
  #relays;
  #onState;
  #rejoin;
  #now;
  #said = '';
  #everOpen = false;
  #retryMs = FIRST_RETRY_MS;
  #retryAt = null;

  /**
   * @param {object} options
   * @param {object} options.nostr Trystero's Nostr strategy
   * @param {string[]} options.relays
   * @param {() => Promise<string>} options.announcement makes the event that says this tab is here
   * @param {(state: SignallingState) => void} options.onState
   * @param {() => void} options.rejoin join the room anew, with `addresses` as they are then
   * @param {() => number} [options.now] milliseconds
   */
  constructor({ nostr, relays, announcement, onState, rejoin, now = () => performance.now() }) {
    this.#nostr = nostr;
    this.#announcement = announcement;
    this.#onState = onState;
    this.#rejoin = rejoin;
    this.#now = now;
    this.#relays = relays.map((url) => ({
      url, address: freshAddress(url), socket: null, state: 'connecting', reason: '', heardAt: 0,
      askedAt: null, triedAt: null, openedAt: null, wasOpen: false, announceAt: null, leftAt: null,
      returnAt: null, returnMs: FIRST_RETURN_MS, takes: false, clock: null,
    }));
    nostr.pauseRelayReconnection();
  }

  /** The relays' addresses for Trystero. */
  get addresses() {
    return this.#relays.map(({ address }) => address);
  }

  /** @returns {SignallingState} */
  get state() {
    const relays = this.#relays.map(({ url, state, reason }) => ({ url, state, reason }));
    const open = relays.some(({ state }) => state === 'open');
    const taken = this.#relays.some(({ state, takes }) => state === 'open' && takes);
    const clock = taken ? null : this.#relays.find((relay) => relay.clock)?.clock ?? null;
    return { signalling: open ? 'open' : this.#everOpen ? 'lost' : 'connecting', relays, clock };
  }

  /** Called every second, and once after the room was joined. */
  tick() {
    this.#nostr.pauseRelayReconnection();
    const sockets = this.#nostr.getRelaySockets();
    for (const relay of this.#relays) {
      const socket = sockets[relay.address];
      if (socket && socket !== relay.socket) this.#watch(relay, socket);
      this.#listen(relay);
    }
    this.#retry();
    if (this.#relays.some((relay) => this.#isDue(relay))) this.#replace();
    this.#report();
  }

  /** Whoever has no other relay cannot wait for long until one takes them back. */
  #isDue({ returnAt, leftAt }) {
    if (returnAt === null) return false;
    const alone = !this.#relays.some(({ state }) => state === 'open');
    const due = alone ? Math.min(returnAt, leftAt + LONGEST_RETURN_ALONE_MS) : returnAt;
    return due <= this.#now();
  }

  /** Try at once: the network is said to be back. */
  hurry() {
    this.#retryMs = FIRST_RETRY_MS;
    if (this.#relays.some(({ state }) => state === 'closed')) this.#unlock();
  }

  /** Say now, and once more soon, that this tab is here: somebody was lost. */
  announce() {
    for (const relay of this.#relays) this.#announce(relay);
  }

  /** Leave all relays. */
  stop() {
    for (const relay of this.#relays) this.#retire(relay);
    this.#nostr.resumeRelayReconnection();
  }

  #watch(relay, socket) {
    relay.socket = socket;
    relay.triedAt = this.#now();
    const current = (run) => (event) => relay.socket === socket && run(event);
    socket.addEventListener('open', current(() => this.#opened(relay)));
    socket.addEventListener('message', current(({ data }) => this.#heard(relay, data)));
    socket.addEventListener('close', current(() => this.#closed(relay)));
    if (socket.readyState === WebSocket.OPEN) this.#opened(relay);
    if (socket.readyState === WebSocket.CLOSED) this.#closed(relay);
  }

  #opened(relay) {
    const now = this.#now();
    Object.assign(relay, { state: 'open', reason: '', heardAt: now, askedAt: null, openedAt: now });
    if (relay.wasOpen) this.#announce(relay); // the first time Trystero does
    relay.wasOpen = true;
    this.#everOpen = true;
    this.#retryMs = FIRST_RETRY_MS;
    this.#report();
  }

  #heard(relay, data) {
    relay.heardAt = this.#now();
    relay.askedAt = null;
    const answer = answerIn(data);
    if (!answer) return;
    Object.assign(relay, takenOf(answer));
    const reason = refusal(answer);
    if (reason !== null && relay.returnAt === null) { // once: it may refuse each of several messages
      this.#giveUp(relay, 'refused', reason, relay.returnMs); // as Trystero has
    }
    this.#report();
  }

  #giveUp(relay, state, reason, waitMs) {
    const leftAt = this.#now();
    Object.assign(relay, { state, reason, leftAt, returnAt: leftAt + waitMs });
    relay.returnMs = Math.min(2 * relay.returnMs, LONGEST_RETURN_MS);
  }

  #closed(relay) {
    if (relay.returnAt !== null) return; // given up
    relay.state = 'closed';
    this.#retryAt ??= this.#now() + this.#retryMs * (0.5 + Math.random() / 2);
    this.#report();
  }

  #listen(relay) {
    const now = this.#now();
    const { socket } = relay;
    if (socket?.readyState === WebSocket.CONNECTING && now - relay.triedAt >= CONNECTS_WITHIN_MS) {
      socket.close(); // a browser would wait for minutes
    }
    if (relay.state !== 'open') return;
    if (now - relay.openedAt >= FRIENDLY_AFTER_MS) relay.returnMs = FIRST_RETURN_MS;
    if (relay.announceAt !== null && relay.announceAt <= now) {
      relay.announceAt = null;
      this.#send(relay);
    }
    if (relay.askedAt !== null && now - relay.askedAt >= ANSWERS_WITHIN_MS) {
      const waitMs = relay.returnMs - FIRST_RETURN_MS; // at once, the first time
      this.#giveUp(relay, 'closed', 'It does not answer.', waitMs);
    } else if (relay.askedAt === null && now - relay.heardAt >= QUIET_MS) {
      relay.askedAt = now;
      this.#send(relay);
    }
  }

  #retry() {
    if (this.#retryAt === null || this.#retryAt > this.#now()) return;
    this.#retryAt = null;
    this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
    this.#unlock();
  }

  /** Open the lock for the relays that wait for it, and lock it before they can fail again. */
  async #unlock() {
    for (const relay of this.#relays) if (relay.state === 'closed') relay.state = 'connecting';
    this.#nostr.resumeRelayReconnection();
    for (let turn = 0; turn < 8; turn += 1) await null;
    this.#nostr.pauseRelayReconnection();
    this.tick();
  }

  #announce(relay) {
    relay.announceAt = this.#now() + AGAIN_AFTER_OPEN_MS;
    this.#send(relay);
  }

  async #send({ socket }) {
    if (socket?.readyState !== WebSocket.OPEN) return;
    const event = await this.#announcement();
    if (socket.readyState === WebSocket.OPEN) socket.send(event);
  }

  /** New addresses for all relays that are not open, and the room anew. */
  #replace() {
    for (const relay of this.#relays) {
      if (relay.state === 'open') continue;
      this.#retire(relay);
      Object.assign(relay, {
        address: freshAddress(relay.url), socket: null, state: 'connecting', returnAt: null,
        askedAt: null,
      });
    }
    this.#rejoin();
  }

  /** Trystero forgets a relay for good only when the relay refuses: say so in its name. */
  #retire(relay) {
    const { socket } = relay;
    relay.socket = null;
    socket?.dispatchEvent(new MessageEvent('message', { data: '["CLOSED","","error: left"]' }));
  }

  #report() {
    const { state } = this;
    const text = JSON.stringify(state);
    if (text === this.#said) return;
    this.#said = text;
    this.#onState(state);
  }
}

/** The relay's address under a query that Trystero has not met. */
function freshAddress(relay) {
  const url = new URL(relay);
  for (let again = 1; used.has(url.href); again += 1) url.searchParams.set('again', `${again}`);
  used.add(url.href);
  return url.href;
}

/** @returns {unknown[]|null} what a relay says that is no event */
function answerIn(data) {
  if (typeof data !== 'string' || data.startsWith('["EVENT"') || data.length > 4096) return null;
  try {
    const message = JSON.parse(data);
    return Array.isArray(message) ? message : null;
  } catch {
    return null;
  }
}

/** Why a relay refuses, if this answer makes Trystero give it up; null otherwise. */
function refusal([kind, , accepted, why]) {
  const closed = kind === 'CLOSED';
  const reason = closed && typeof accepted === 'string' ? accepted : why;
  const text = typeof reason === 'string' ? reason : '';
  if (closed) return text.slice(0, LONGEST_REASON);
  const harmless = /^(?:rate-limited|duplicate):/.test(text);
  return kind === 'OK' && accepted === false && !harmless ? text.slice(0, LONGEST_REASON) : null;
}

/** Whether this answer says that the relay takes what is sent, or that a wrong clock is why not. Ours
 * says so in a notice, too, and by how much; others in words of their own. */
function takenOf([kind, text, accepted, why]) {
  if (kind === 'OK' && accepted === true) return { takes: true, clock: null };
  const said = kind === 'NOTICE' ? text : kind === 'OK' && accepted === false ? why : null;
  if (typeof said !== 'string' || !/^clock:|created_at|too much in the/.test(said)) return {};
  const [, seconds, side] = /(\d{1,12}) s (ahead of|behind)/.exec(said) ?? [];
  const aheadS = seconds ? (side === 'behind' ? -seconds : Number(seconds)) : null;
  return { takes: false, clock: { aheadS } };
}
