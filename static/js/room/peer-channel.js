// A data channel for bulk data between two tabs, as transfer.js takes it: an RTCDataChannel's
// interface and the size of the largest message.

const MOST_EARLY = 64; // messages that came before anybody listened
const LARGEST_MESSAGE = 262_144;

export class PeerChannel {
  #channel;
  #onmessage = null;
  #early = [];

  /** @type {(() => void)|null} the channel is closed, by either side or with its peer */
  onclose = null;
  /** @type {(() => void)|null} fewer bytes wait than bufferedAmountLowThreshold */
  onbufferedamountlow = null;

  /**
   * @param {RTCDataChannel} channel open
   * @param {{label: string, maxMessageSize: number, heard: () => void,
   *   measured: (bytes: number, ms: number) => void}} options
   *   maxMessageSize: of the connection; heard: called when something comes; measured: told how fast
   *   bytes come, by whoever knows when they do
   */
  constructor(channel, { label, maxMessageSize, heard, measured }) {
    this.#channel = channel;
    this.label = label;
    this.measured = measured;
    /** Bytes that a message may have. */
    this.maxMessageBytes = Math.min(maxMessageSize || LARGEST_MESSAGE, LARGEST_MESSAGE);
    channel.binaryType = 'arraybuffer';
    channel.onmessage = ({ data }) => {
      heard();
      this.#take({ data });
    };
    channel.onclose = () => this.onclose?.();
    channel.onbufferedamountlow = () => this.onbufferedamountlow?.();
  }

  /** @param {ArrayBuffer|ArrayBufferView|string} data of at most maxMessageBytes */
  send(data) {
    this.#channel.send(data);
  }

  /** @type {((event: {data: ArrayBuffer|string}) => void)|null} what came earlier comes at once */
  get onmessage() {
    return this.#onmessage;
  }

  set onmessage(listen) {
    this.#onmessage = listen;
    if (listen) for (const event of this.#early.splice(0)) listen(event);
  }

  /** Bytes that have not been sent yet. */
  get bufferedAmount() {
    return this.#channel.bufferedAmount;
  }

  get bufferedAmountLowThreshold() {
    return this.#channel.bufferedAmountLowThreshold;
  }

  set bufferedAmountLowThreshold(bytes) {
    this.#channel.bufferedAmountLowThreshold = bytes;
  }

  /** @type {RTCDataChannelState} */
  get readyState() {
    return this.#channel.readyState;
  }

  close() {
    this.#channel.close();
  }

  #take(event) {
    if (this.#onmessage) this.#onmessage(event);
    else if (this.#early.length < MOST_EARLY) this.#early.push(event);
    else this.close();
  }
}
