"""The modules of static/js/room on an empty page, with channels to try them on: real ones between
two connections of the page, and ones whose frames the test holds, changes and feeds."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

SCENE = """
const link = await import('/static/js/room/link.js');
const transfer = await import('/static/js/room/transfer.js');
const frames = await import('/static/js/room/transfer/frames.js');
const { Link, TransferError } = link;
const { TransferLine } = transfer;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const until = async (look, forMs = 20000) => {
  for (const began = performance.now(); performance.now() - began < forMs; await sleep(2)) {
    if (look()) return look();
  }
  throw new Error(`not so within ${forMs} ms: ${look}`);
};
const codeOf = (promise) => promise.then(() => 'fine', (error) => error.code ?? error.name);
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
const same = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);

// A generator of numbers below 2^32 by a seed: mulberry32.
const randomFrom = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return (t ^ (t >>> 14)) >>> 0;
};
const noise = (length, seed = 1) => {
  const random = randomFrom(seed);
  const words = Uint32Array.from({ length: Math.ceil(length / 4) }, random);
  return new Uint8Array(words.buffer).subarray(0, length).slice();
};

// One end of a channel in memory. `through(frame)` says which frames arrive instead of one; `held`
// keeps them until it is false and `go` is called.
class FakeChannel {
  sent = [];
  waiting = [];
  held = false;
  readyState = 'open';
  bufferedAmountLowThreshold = 0;
  maxMessageBytes = 65536;
  through = (frame) => [frame];
  get bufferedAmount() { return this.waiting.reduce((sum, frame) => sum + frame.byteLength, 0); }
  send(frame) {
    if (this.readyState !== 'open') throw new DOMException('closed', 'InvalidStateError');
    this.sent.push(frame.slice());
    this.waiting.push(frame.slice());
    if (!this.held) setTimeout(() => this.go());
  }
  go() {
    if (this.held || !this.waiting.length) return;
    const frames = this.waiting;
    this.waiting = [];
    for (const frame of frames) {
      for (const arrives of this.through(frame)) this.other.hear(arrives);
    }
    this.onbufferedamountlow?.();
  }
  hear(data) { if (this.readyState === 'open') this.onmessage?.({ data }); }
  close() {
    if (this.readyState === 'closed') return;
    this.readyState = 'closed';
    setTimeout(() => {
      this.onclose?.();
      this.other.close();
    });
  }
}
const fakes = () => {
  const [a, b] = [new FakeChannel(), new FakeChannel()];
  a.other = b;
  b.other = a;
  return [a, b];
};

// Time that passes when the test says so.
class Clock {
  ms = 0;
  runs = new Set();
  now = () => this.ms;
  every = (ms, run) => { this.runs.add(run); return () => this.runs.delete(run); };
  pass(ms) {
    for (let passed = 0; passed < ms; passed += 1000) {
      this.ms += 1000;
      for (const run of [...this.runs]) run();
    }
  }
}

// Two connections of this page and an open channel between them.
const connected = async () => {
  const [one, two] = [new RTCPeerConnection(), new RTCPeerConnection()];
  one.onicecandidate = ({ candidate }) => candidate && two.addIceCandidate(candidate);
  two.onicecandidate = ({ candidate }) => candidate && one.addIceCandidate(candidate);
  const channels = [one, two].map(
    (end) => end.createDataChannel('bulk', { negotiated: true, id: 12 }));
  const open = channels.map((channel) => new Promise((resolve) => { channel.onopen = resolve; }));
  await one.setLocalDescription();
  await two.setRemoteDescription(one.localDescription);
  await two.setLocalDescription();
  await one.setRemoteDescription(two.localDescription);
  await Promise.all(open);
  connections.push(one, two);
  return channels;
};
const connections = [];

// A link on each of two channels, and what each has heard, in order.
const linked = (channels, options = {}) => {
  const ends = channels.map((channel, n) => {
    const end = { heard: [], ended: null };
    end.link = new Link(channel, {
      receive: (message) => end.heard.push(message),
      receiveBytes: (bytes) => end.heard.push(new Uint8Array(bytes)),
      closed: (error) => { end.ended = error.code; },
      ...(options[n] ?? options.both),
    });
    return end;
  });
  return ends;
};
const nothingLeft = (...ends) => ends.every(({ link }) => {
  const { sending, receiving, heldBytes } = link.unfinished;
  return sending === 0 && receiving === 0 && heldBytes === 0;
});
"""


@pytest.fixture
def run(module_page: Page) -> Callable[..., object]:
    """run(body, *args): a function body after the scene; what it opened is closed behind it."""

    def run_(body: str, *args: object) -> object:
        return module_page.evaluate(
            f"async (args) => {{ {SCENE} try {{ return await (async () => {{ {body} }})(); }}"
            " finally { for (const connection of connections) connection.close(); } }",
            list(args),
        )

    return run_
