"""One story, told to the real site over its WebSocket and to a host in the tab: the same answers.

Ids, times, revisions, addresses and the paddings of files differ, and two sentences that speak of
the server.
"""

import re

import pytest

from diffusion.random_model import write_random_model

# story(link, ask): plays it and returns all that was said. link: { say, next }; ask: what people
# do.
STORY = """
const [{ RoomHost }, { loopWire }, { modelOfManifest }, { readManifest }, t, { piecesOf }, words] =
  await Promise.all(['work/room-host.js', 'work/loop-wire.js', 'work/models.js',
    'engine/manifest.js', 'engine/safetensors.js', 'work/uploads.js', 'work/clients.js']
    .map((name) => import(`/static/js/${name}`)));
const found = async () => (await (await fetch('/api/packages')).json()).packages
  .find(({ model, variant }) => model === 'tiny' && variant === 'f16');
const { url } = await found();
const manifest = readManifest(new Uint8Array(await (await fetch(url)).arrayBuffer()));
const { package_id: packageId } = await found();

class Link {
  #heard = [];
  #waiting = null;
  #bytes = null;
  message = (message) => {
    if (message.bytes) this.#bytes = { message, left: message.bytes, pieces: [] };
    else this.#take({ message });
  };
  bytes = (buffer) => {
    const { message, pieces } = this.#bytes;
    pieces.push(...new Uint8Array(buffer));
    if ((this.#bytes.left -= buffer.byteLength) > 0) return;
    const tensors = t.fromBytes(Uint8Array.from(pieces));
    this.#take({ message, tensors: Object.fromEntries(Object.entries(tensors)
      .map(([name, { shape }]) => [name, shape]).sort()) });
  };
  #take(heard) {
    this.#heard.push(heard);
    this.#waiting?.();
  }
  async next(type, is = () => true) {
    const fits = ({ message }) => message.type === type && is(message);
    for (let tries = 0; tries < 100; tries++) {
      const at = this.#heard.findIndex(fits);
      if (at >= 0) {
        const found = this.#heard[at];
        this.#heard = this.#heard.filter(({ message }, n) => n > at || message.type !== type);
        return found;
      }
      await Promise.race([new Promise((resolve) => { this.#waiting = resolve; }),
        new Promise((resolve) => setTimeout(resolve, 100))]);
    }
    throw new Error(`no ${type} came`);
  }
}

const story = async (link, ask) => {
  const told = [];
  const hear = async (...what) => {
    const heard = await link.next(...what);
    told.push(heard);
    return heard.message;
  };
  const { text_dim: features } = manifest.about;
  const text = { shape: [3, features], data: new Float32Array(3 * features).fill(0.5) };
  const latent = (value) => ({
    latent: { shape: [16, 8, 8], data: new Float32Array(1024).fill(value) } });
  const preview = { preview: { shape: [8, 8, 3], data: new Uint8Array(192).fill(7) } };
  const named = ({ chunk, attempt }, command) => ({ type: `work.${command}`, chunk, attempt });
  const claim = { type: 'work.claim', conditionings: [], latents: [] };
  const completes = async (lease, tensors) => {
    await link.say({ ...named(lease, 'complete'), seconds: 0.001 }, t.toBytes(tensors));
  };
  const hello = { type: 'work.hello', key: 'd'.repeat(32), device: 'A GPU', software: false,
    packages: [packageId], own_first: 'maybe' };

  await hear('room.state');
  for (const message of [
    {}, { type: 'nonsense' }, { type: 'peer.nonsense' }, { type: 'room.nonsense.x' },
    { type: 'peer.beat' }, { type: 'peer.beat', revision: -1 }, { type: 'work.claim' },
    { type: 'work.nonsense' }, { ...hello, key: 'x' }, { ...hello, packages: [] },
  ]) {
    link.say(message);
    await hear('error');
  }
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  await pause(2000); // a hello counts for twenty messages
  link.say({ ...hello, packages: ['0'.repeat(64)] });
  await hear('work.dismissed');
  link.say(hello);
  await hear('work.welcome');
  await hear('room.peers', ({ peers: [{ worker }] }) => worker);
  await pause(500);
  link.say(hello);
  await hear('error');
  link.say({ ...claim, latents: [['x', 'y']], own_first: true });
  await hear('error');
  link.say({ ...named({ chunk: 10 ** 9, attempt: 0 }, 'renew') });
  await hear('work.lost');
  await pause(500);
  link.say({ type: 'peer.name', name: ' Ann\\n \\u202e& 👩\u200d🚀 ' });
  await hear('room.peers', ({ peers: [{ name }] }) => name);
  await pause(500);
  for (const name of [7, 'x'.repeat(161)]) {
    link.say({ type: 'peer.name', name });
    await hear('error');
  }

  // A picture, with all that may go wrong on the way
  link.say({ ...claim, own_first: true });
  await hear('room.changed');
  const id = await ask.submit({ prompt: 'a rocket', seed: 7, steps: 3, width: 64, height: 64 });
  const encode = await hear('work.lease');
  link.say(claim);
  await hear('error');
  const nothing = { shape: [0, features], data: new Float32Array(0) };
  await completes(encode, { prompt: text, negative: nothing });
  await hear('work.done');
  link.say(claim);
  const denoise = await hear('work.lease');
  link.say({ ...named(denoise, 'step'), step: 99, latent: false, preview: false });
  await hear('error');
  link.say({ ...named(denoise, 'step'), step: 1, latent: true, preview: true },
    t.toBytes({ ...latent(1), ...preview }));
  await hear('room.changed', ({ jobs }) => jobs.some(({ images: [{ step }] }) => step === 1));
  await completes(denoise, latent(NaN));
  await hear('work.lost');
  link.say(claim);
  const again = await hear('work.lease');
  await completes(again, latent(2));
  await hear('work.done');
  link.say(claim);
  let lease = await hear('work.lease');
  while (lease.kind === 'denoise') {
    await completes(lease, latent(3));
    await hear('work.done');
    link.say(claim);
    lease = await hear('work.lease');
  }
  await completes(lease, { picture: { shape: [64, 64, 3], data: new Uint8Array(64 * 64 * 3) } });
  await hear('work.done');
  await hear('room.changed', ({ jobs }) => jobs.some(({ state }) => state === 'done'));

  // A job that is cancelled while it is computed, and one that fails three times
  link.say(claim);
  const second = await ask.submit({ prompt: 'a cat', guidance: 1, steps: 2, seed: 1, num_images: 2,
    width: 64, height: 64, negative_prompt: 'rain' });
  await hear('work.lease');
  await ask.cancel(second);
  await hear('work.lost');
  await ask.submit({ prompt: 'a dog', steps: 1, seed: 3, width: 64, height: 64 });
  for (let i = 0; i < 2; i++) {
    link.say(claim);
    const failing = await hear('work.lease');
    link.say({ ...named(failing, 'fail'), fault: 'out-of-memory', detail: 'x' });
  }
  link.say(claim);
  const last = await hear('work.lease');
  link.say({ ...named(last, 'fail'), fault: 'nonsense', detail: 'x' });
  await hear('work.dismissed');
  await hear('room.peers', ({ peers: [{ worker }] }) => !worker);
  await hear('room.changed', ({ jobs }) => jobs.some(({ state }) => state === 'failed'));
  link.say({ type: 'room.resync' });
  const { revision } = await hear('room.state');
  link.say({ type: 'peer.beat', revision });
  const beat = await hear('peer.beat');
  return { told, id, current: beat.revision === revision };
};

const pieces = (bytes) => [...piecesOf(bytes ?? new Uint8Array(0))];
const atTheSite = async () => {
  const link = new Link();
  const socket = new WebSocket(`ws://${location.host}/ws/rooms/kitchen/`);
  socket.binaryType = 'arraybuffer';
  socket.onmessage = ({ data }) =>
    (typeof data === 'string' ? link.message(JSON.parse(data)) : link.bytes(data));
  await new Promise((resolve) => { socket.onopen = resolve; });
  link.say = (message, bytes) => {
    socket.send(JSON.stringify(bytes ? { ...message, bytes: bytes.length } : message));
    for (const piece of pieces(bytes)) socket.send(piece);
  };
  const json = { method: 'POST', headers: { 'Content-Type': 'application/json' } };
  const result = await story(link, {
    submit: async (request) => (await (await fetch('/api/queue/kitchen',
      { ...json, body: JSON.stringify(request) })).json()).id,
    cancel: (id) => fetch(`/api/jobs/${id}`, { method: 'DELETE' }),
  });
  socket.close();
  return result;
};
const here = async () => {
  const link = new Link();
  const client = words.newClientId();
  const host = await RoomHost.open({ room: 'kitchen', client, keep: false,
    models: [modelOfManifest('tiny', manifest, [packageId])] });
  const wire = loopWire({ receive: link.message, receiveBytes: link.bytes });
  const end = host.attach(wire, { peer: 'this-tab', client });
  const there = loopWire(end);
  link.say = (message, bytes) => {
    there.send(bytes ? { ...message, bytes: bytes.length } : message);
    for (const piece of pieces(bytes)) there.sendBytes(piece);
  };
  const asks = async (message) => {
    let answer;
    const own = loopWire({ receive: (said) => { if (said.to) answer(said); }, receiveBytes() {} });
    const page = host.attach(own, { peer: 'asks', client });
    const answered = new Promise((resolve) => { answer = resolve; });
    page.receive({ ...message, id: 1 });
    const said = await answered;
    page.close();
    return said;
  };
  const result = await story(link, {
    submit: async (request) => (await asks({ type: 'job.submit', request })).job.id,
    cancel: (job) => asks({ type: 'job.cancel', job }),
  });
  await host.close();
  return result;
};
"""

IDS = ("id", "worker", "peer", "job", "chunk", "client", "owner")
NUMBERS = ("revision", "since", "eta_seconds", "seconds", "seconds_a_step")
SENTENCES = {
    "This server has no such model package, or has made it anew: load it again.":
        "This room has no such model package, or has it anew: load it again.",
    "The worker could not compute this. Whoever runs this server finds the reason in its log.":
        "The worker could not compute this.",
}  # fmt: skip
TIMES = ("created_at", "started_at", "finished_at")


class Normal:
    """A message with what may differ replaced by what it stands for: ids by their order."""

    def __init__(self) -> None:
        self.known: dict[object, str] = {}

    def __call__(self, value, name: str = ""):
        if name == "steps_by":
            return {self(worker, "worker"): steps for worker, steps in value.items()}
        if isinstance(value, dict):
            return {key: self(entry, key) for key, entry in sorted(value.items())}
        if isinstance(value, list):
            return [self(entry, name) for entry in value]
        if value is None or isinstance(value, bool):
            return value
        if name in IDS:
            return self.known.setdefault(value, f"{name}-{len(self.known)}")
        if name in NUMBERS:
            return "number"
        if name in TIMES:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(\+00:00|Z)", value), value
            return "time"
        if name == "bytes":
            return value > 0
        if name == "detail":
            return SENTENCES.get(value, value)
        if name in ("url", "preview_url"):
            return "address"
        if name == "name":
            return re.sub(r"[0-9a-f]{10,}", "label", value)
        return value


@pytest.fixture
def computing(site, settings, tmp_path):
    settings.MODEL_ROOTS = [tmp_path / "computing"]
    settings.DATA_DIR = tmp_path / "data"
    write_random_model(tmp_path / "computing" / "tiny")


def test_a_host_in_a_tab_says_what_the_site_says(open_page, alice, kitchen, computing, unchecked):
    page = open_page(alice, "/")
    theirs = page.evaluate(f"async () => {{ {STORY} return atTheSite(); }}")
    ours = page.evaluate(f"async () => {{ {STORY} return here(); }}")
    assert theirs["current"]
    assert ours["current"]
    expected, got = Normal(), Normal()
    for their, our in zip(theirs["told"], ours["told"], strict=True):
        assert got(our) == expected(their)
