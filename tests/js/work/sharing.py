"""Tabs that share a room's queue, with an engine whose arithmetic shows every step that is lost or
done twice. The way from tab to tab is the real one: relay, connections, storage."""

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Error

from tests.js.room.tabs import Tab, Tabs
from tests.relay import BareRelay

# Defines `openedEngine`; `options` and PACKAGE are there.
ARITHMETIC = """
  const SHAPE = [2, 8, 8];
  const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const opaque = (side, byte) => Uint8ClampedArray.from(
    { length: side * side * 4 }, (_, at) => (at % 4 === 3 ? 255 : byte));
  class Engine {
    device = { description: 'Test GPU', software: false };
    packageId = PACKAGE;
    about = { text_dim: 3 };
    steps = 0;
    async encode() {
      const text = (tokens) => ({ features: new Float32Array(tokens * 3), tokens, unsure: [] });
      return { prompt: text(4), negative: text(0) };
    }
    async noise({ seed }) {
      return { latent: new Float32Array(128).fill(seed), shape: SHAPE };
    }
    async denoise({ latent, start, stop }, { signal, onStep }) {
      for (let step = start; step < stop; step += 1) {
        await rest(options.stepMs);
        signal.throwIfAborted();
        latent = latent.map((value) => (3 * value + step) % 251);
        this.steps += 1;
        onStep({ step: step + 1, latent, preview: { width: 8, height: 8, rgba: opaque(8, 90) } });
      }
      return latent;
    }
    async decode({ latent }) {
      return { width: 64, height: 64, rgba: opaque(64, latent[0]) };
    }
    close() {}
  }
  const openedEngine = async () => new Engine();
"""

START = """async ([options]) => {
  const { WorkerCoordinator } = await import('work/worker-coordinator.js');
  const { P2PNetwork } = await import('room/p2p-network.js');
  const { TabWorker } = await import('work/tab-worker.js');
  const { Room } = await import('page/room.js');
  const PACKAGE = options.packageId;
  const tiny = { name: 'tiny', title: 'Tiny', default: true, side_multiple: 16, min_side: 16,
    max_side: 512, default_width: 64, default_height: 64, default_steps: 4, default_guidance: 4,
    examples: [], latent_channels: 2, vae_scale: 8, text_dim: 3, max_tokens: 5,
    packages: [PACKAGE], variants: { [PACKAGE]: 'f32' }, ...options.model };
  ENGINE
  const room = new Room();
  const engine = await openedEngine();
  const log = [];
  const troubles = [];
  const leases = [];
  let worker = null;
  const answers = new Map();
  const coordinator = new WorkerCoordinator({
    room: options.room, client: options.client, models: [tiny], checks: options.checks,
    capable: options.capable,
    onTrouble: (error) => troubles.push(error.message),
    handlers: {
      open() { log.push('open'); worker?.connected(); },
      closed() { log.push('closed'); worker?.disconnected(); },
      message(message) {
        if (message.type === 'work.lease') leases.push(message);
        if (answers.has(message.to)) answers.get(message.to)(message);
        worker?.receive(message);
        if (!room.apply(message)) coordinator.send({ type: 'room.resync' });
      },
      bytes: (piece) => worker?.receiveBytes(piece),
      revision: () => room.revision,
      place: ({ holder }) => log.push(holder),
    },
  });
  let number = 0;
  const ask = (message) => new Promise((resolve) => {
    const id = ++number;
    answers.set(id, resolve);
    coordinator.send({ ...message, id });
  });
  const pictures = async () => {
    const found = {};
    for (const job of room.jobs) {
      for (const { seed, url } of job.images) {
        const bytes = url && await coordinator.blob(url);
        if (!bytes) continue;
        const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
        canvas.getContext('2d').drawImage(bitmap, 0, 0);
        found[seed] = canvas.getContext('2d').getImageData(0, 0, 1, 1).data[0];
      }
    }
    return found;
  };
  const network = new P2PNetwork();
  Object.assign(window, { coordinator, network, room, engine, log, troubles, leases, ask,
    pictures });
  await coordinator.open();
  const key = [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, '0')).join('');
  if (options.computes) {
    worker = new TabWorker(engine, { wire: coordinator, key, onState() {} });
    worker.connected();
  }
  if (options.relay) {
    await coordinator.join(network, { relays: [options.relay], iceServers: [] });
  }
}"""


class Member:
    """A tab in the room."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page

    def asks(self, seed: int, *, steps: int = 4, images: int = 1) -> None:
        self.submits({"prompt": "a rocket", "seed": seed, "steps": steps, "num_images": images})

    def submits(self, request: dict[str, Any]) -> None:
        answer = self.page.evaluate(
            "(message) => ask(message)", {"type": "job.submit", "request": request}
        )
        assert answer["type"] == "answer", answer

    def waits(self, condition: str, seconds: float = 20) -> None:
        self.page.wait_for_function(f"() => ({condition})", timeout=seconds * 1000, polling=50)

    def place(self) -> str:
        return str(self.page.evaluate("coordinator.place.holder"))

    def pictures(self) -> dict[int, int]:
        found = self.page.evaluate("pictures()")
        return {int(seed): value for seed, value in found.items()}

    def has(self, *seeds: int, steps: int = 4, seconds: float = 30) -> None:
        """Until it shows exactly the pictures of these seeds, each what all its steps make."""
        self.waits(
            f"room.jobs.flatMap(({{ images }}) => images).filter(({{ url }}) => url).length"
            f" === {len(seeds)}",
            seconds,
        )
        assert self.pictures() == {seed: picture(seed, steps) for seed in seeds}

    def steps(self) -> int:
        return int(self.page.evaluate("engine.steps"))


def picture(seed: int, steps: int) -> int:
    """The red of the finished picture."""
    value = np.float32(seed)
    for step in range(steps):
        value = np.float32(np.fmod(3 * value + step, 251))
    return int(value)


def member(
    tabs: Tabs,
    relay: BareRelay | None,
    client: str,
    *,
    page: Any = None,
    engine: str = ARITHMETIC,
    **options: Any,
) -> Member:
    """computes: whether it is a worker; stepMs: how long its steps take; engine: JavaScript that
    defines `openedEngine`; model: what its model has otherwise; checks: whether it has others
    check what is computed while it holds the queue; packageId: of the package that it has; capable:
    of holding the queue for others."""
    tab = Tab(page) if page is not None else tabs.open()
    defaults = {
        "room": "kitchen", "computes": True, "stepMs": 30, "checks": False, "packageId": "f" * 64,
        "capable": True,
    }  # fmt: skip
    tab.page.evaluate(
        START.replace("ENGINE", engine),
        [{**defaults, "client": client * 32, "relay": relay and relay.url, **options}],
    )
    return Member(tab)


def settled(*members: Member, seconds: float = 20) -> Member:
    """Until one of them holds the queue and the others are its pages; the holder."""
    for one in members:
        one.waits(f"network.peers.length === {len(members) - 1}", seconds)
        one.waits("coordinator.place.holder !== 'nowhere'", seconds)
        one.waits(f"room.peers.length === {len(members)}", seconds)
    holders = [one for one in members if one.place() == "here"]
    assert len(holders) == 1
    return holders[0]


def kill(one: Member) -> None:
    with pytest.raises(Error, match="ERR_ABORTED"):
        one.page.goto("chrome://crash")
