// The page's one WebSocket. It beats, notices silence, and connects again by itself, soon at first
// and then less often. docs/api-websocket.md describes the messages.

export const BEAT_MS = 3000;
export const GONE_AFTER_MS = 10000;
const FIRST_RETRY_MS = 300;
const LONGEST_RETRY_MS = 4000;

export class RoomSocket {
  #url;
  #make;
  #socket = null;
  #timer = null;
  #heardAt = 0;
  #retryMs = FIRST_RETRY_MS;
  #stopped = false;

  // handlers: { message(object), open(), closed(), revision() }; make: for tests, a fake WebSocket.
  constructor(url, handlers, make = (address) => new WebSocket(address)) {
    this.#url = url;
    this.#make = make;
    this.handlers = handlers;
  }

  connect() {
    clearTimeout(this.#timer);
    this.#stopped = false;
    const socket = this.#make(this.#url);
    this.#socket = socket;
    this.#heardAt = Date.now();
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.handlers.open();
      this.#later(() => this.#beat(), BEAT_MS);
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#heardAt = Date.now();
      this.#retryMs = FIRST_RETRY_MS;
      this.handlers.message(JSON.parse(data));
    };
    socket.onclose = () => this.#lost(socket);
  }

  send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  // Right now instead of when the timer says: the network came back, or the tab did.
  hurry() {
    if (this.#stopped) return;
    if (this.#socket === null) this.connect();
    else this.#beat();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #beat() {
    if (this.#socket === null) return;
    if (Date.now() - this.#heardAt > GONE_AFTER_MS) {
      const silent = this.#socket;
      silent.close();
      this.#lost(silent);
      return;
    }
    this.send({ type: 'peer.beat', revision: this.handlers.revision() });
    this.#later(() => this.#beat(), BEAT_MS);
  }

  #lost(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.handlers.closed();
    if (this.#stopped) return;
    // Half of it by chance, so that a restarted server is not met by everybody at once.
    this.#later(() => this.connect(), this.#retryMs * (0.5 + Math.random() / 2));
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
  }

  #later(run, ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, ms);
  }
}
