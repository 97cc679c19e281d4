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
  #beatAt = null; // of the beat that is not answered yet
  #roundTripMs = null;
  #retryMs = FIRST_RETRY_MS;
  #stopped = false;

  // handlers: { message(object), bytes(ArrayBuffer), open(), closed(), revision() }; make: for tests,
  // a fake WebSocket.
  constructor(url, handlers, make = (address) => new WebSocket(address)) {
    this.#url = url;
    this.#make = make;
    this.handlers = handlers;
  }

  connect() {
    clearTimeout(this.#timer);
    this.#stopped = false;
    const socket = this.#make(this.#url);
    socket.binaryType = 'arraybuffer';
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
      if (typeof data === 'string') this.#heard(JSON.parse(data));
      else this.handlers.bytes(data);
    };
    socket.onclose = () => this.#lost(socket);
  }

  #heard(message) {
    if (message.type === 'peer.beat' && this.#beatAt !== null) {
      this.#roundTripMs = performance.now() - this.#beatAt;
      this.#beatAt = null;
    }
    this.handlers.message(message);
  }

  // Milliseconds there and back, by the ids of peers: to the server it is that of this very tab.
  ways(own) {
    return this.#roundTripMs === null ? {} : { [own]: { roundTripMs: this.#roundTripMs } };
  }

  send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  sendBytes(bytes) {
    if (this.#socket?.readyState === 1) this.#socket.send(bytes);
  }

  // Bytes that were sent and have not left yet.
  get buffered() {
    return this.#socket?.bufferedAmount ?? 0;
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
    this.#beatAt ??= performance.now();
    this.send({ type: 'peer.beat', revision: this.handlers.revision() });
    this.#later(() => this.#beat(), BEAT_MS);
  }

  #lost(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#beatAt = this.#roundTripMs = null;
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
