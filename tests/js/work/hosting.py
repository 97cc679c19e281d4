"""A RoomHost in a page, and pages at the other ends of wires that the test scripts."""

import pytest

__all__ = ["run"]

# `page(who)` attaches a scripted page: what it was sent is in `sent`; `says` sends and waits until
# nothing more comes of it; `works` is a tab that computes, whose tensors the test makes.
SCENE = """
const { RoomHost } = await import('/static/js/work/room-host.js');
const { Blobs } = await import('/static/js/work/blobs.js');
const { RoomQueue } = await import('/static/js/work/queue/room-queue.js');
const { piecesOf } = await import('/static/js/work/uploads.js');
const { clientLabel } = await import('/static/js/work/clients.js');
const t = await import('/static/js/engine/safetensors.js');
const ALICE = 'a'.repeat(32), BOB = 'b'.repeat(32), CHARLIE = 'c'.repeat(32);
const PACKAGE = 'f'.repeat(64), KEY = '1'.repeat(32);
const tiny = { name: 'tiny', title: 'Tiny', default: true, side_multiple: 16, min_side: 16,
  max_side: 512, default_width: 64, default_height: 64, default_steps: 4, default_guidance: 4,
  examples: [], latent_channels: 2, vae_scale: 8, text_dim: 3, max_tokens: 5, packages: [PACKAGE],
  variants: { [PACKAGE]: 'f32' } };
const clock = { ms: 1_700_000_000_000, due: [] };
const now = () => clock.ms;
const timers = {
  after(ms, run) {
    const timer = { at: clock.ms + ms, run };
    clock.due.push(timer);
    return () => { timer.run = () => {}; };
  },
  every(ms, run) {
    const again = () => { timers.after(ms, again); run(); };
    timers.after(ms, again);
  },
  close() { clock.due.length = 0; },
};
// Everything that runs without a timer has run: messages, hashes, pictures.
const { port1, port2 } = new MessageChannel(); // setTimeout waits 4 ms each time
const turn = () => new Promise((resolve) => { port1.onmessage = resolve; port2.postMessage(0); });
const attached = [];
const quiet = async () => {
  for (let round = 0; round < 3; round++) { // what one page has done may be news to another
    await Promise.all(attached.map(({ settled }) => settled));
    for (let i = 0; i < 3; i++) await turn();
  }
};
const passes = async (ms) => {
  const end = clock.ms + ms;
  for (;;) {
    clock.due.sort((one, other) => one.at - other.at);
    if (!clock.due.length || clock.due[0].at > end) break;
    const timer = clock.due.shift();
    clock.ms = Math.max(clock.ms, timer.at);
    timer.run();
    await quiet();
  }
  clock.ms = end;
};
const troubles = [];
const open = async (options = {}) => {
  const owner = await clientLabel(ALICE);
  return RoomHost.restore(null, { room: 'kitchen', models: [tiny], now, timers, self: owner,
    blobs: new Blobs({ now }), about: { owner, title: '' },
    onTrouble: (error) => troubles.push(error.message), ...options });
};
let number = 0;
const page = async (host, client = ALICE, more = {}) => {
  const it = { sent: [], received: [], closed: null };
  it.wire = {
    buffered: 0,
    send: (message) => it.sent.push(JSON.parse(JSON.stringify(message))),
    sendBytes: (bytes) => it.received.push(bytes.slice()),
  };
  it.end = host.attach(it.wire, { peer: `peer${++number}`, client,
    onClosed: (code) => { it.closed = code; }, ...more });
  attached.push(it.end);
  it.of = (...types) => it.sent.filter(({ type }) => types.includes(type));
  it.last = (type) => it.of(type).at(-1);
  it.says = async (message, bytes) => {
    it.end.receive(bytes ? { ...message, bytes: bytes.length } : message);
    for (const piece of bytes ? piecesOf(bytes) : []) it.end.receiveBytes(piece.slice().buffer);
    await quiet();
  };
  it.asks = async (type, members = {}) => {
    const id = ++number;
    await it.says({ type, id, ...members });
    return it.sent.find(({ to }) => to === id);
  };
  it.tensors = () => {
    const all = it.received.splice(0).flatMap((piece) => [...piece]);
    const { bytes } = it.last('work.lease'); // those of earlier leases came before
    return bytes ? t.fromBytes(Uint8Array.from(all.slice(-bytes))) : {};
  };
  await quiet();
  return it;
};
const hello = { type: 'work.hello', key: KEY, device: 'Test GPU', software: false,
  packages: [PACKAGE] };
const claim = { type: 'work.claim', conditionings: [], latents: [] };
const worker = async (host, client = ALICE, more = {}) => {
  const it = await page(host, client, more);
  await it.says({ ...hello, key: `${number}`.padStart(32, '0') });
  it.id = it.last('work.welcome')?.worker;
  it.claims = async (more = {}) => {
    const before = it.of('work.lease').length;
    await it.says({ ...claim, ...more });
    return it.of('work.lease')[before];
  };
  it.named = ({ chunk, attempt }, type) => ({ type, chunk, attempt });
  it.completes = (lease, tensors = result(lease), seconds = 0.5) => it.says(
    { ...it.named(lease, 'work.complete'), seconds },
    tensors instanceof Uint8Array ? tensors : t.toBytes(tensors));
  it.steps = (lease, step, tensors = {}) => it.says(
    { ...it.named(lease, 'work.step'), step,
      latent: 'latent' in tensors, preview: 'preview' in tensors },
    Object.keys(tensors).length ? t.toBytes(tensors) : undefined);
  it.worksUntil = async (kind) => {
    for (;;) {
      const lease = await it.claims();
      if (!lease || lease.kind === kind) return lease;
      await it.completes(lease);
    }
  };
  return it;
};
const latent = (value, shape = [2, 8, 8]) => ({
  shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value) });
const preview = (value) => ({ shape: [8, 8, 3], data: new Uint8Array(192).fill(value) });
const text = (tokens) => ({ shape: [tokens, 3], data: new Float32Array(tokens * 3).fill(tokens) });
const result = ({ kind, stop, settings: { width, height } }) => ({
  encode: () => ({ prompt: text(4), negative: text(0) }),
  denoise: () => ({ latent: latent(stop) }),
  decode: () => ({ picture: { shape: [height, width, 3],
    data: new Uint8Array(height * width * 3).fill(99) } }),
})[kind]();
const asked = (more = {}) => ({ request: { prompt: 'a rocket', seed: 7, ...more } });
const failed = (promise) => promise.then(() => null, (error) => error.message);
"""


@pytest.fixture
def run(module_page):
    """run(body): what a function body with all of SCENE returns."""
    return lambda body, *args: module_page.evaluate(
        f"async (args) => {{ {SCENE} {body} }}", list(args)
    )
