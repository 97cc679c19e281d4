"""Pages of the site that compute and meet directly: the real worker, queue and connections, and an
engine whose arithmetic shows every step that is lost, done twice or begun from something else."""

import json
from typing import Any

import numpy as np
from playwright.sync_api import Page, Route, WebSocket, expect

GPU = "navigator.__defineGetter__('gpu', () => ({}))"
HEAR = "document.addEventListener('mesh', ({ detail }) => { window.mesh = detail; });"
ENGINE = """
const SHAPE = [16, 8, 8];
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const opaque = (side, byte) => Uint8ClampedArray.from(
  { length: side * side * 4 }, (_, at) => (at % 4 === 3 ? 255 : byte));
class Engine {
  device = { description: 'Test GPU', software: false, variant: '' };
  about = { text_dim: 48 };
  bandChannels = []; // a decoder without bands
  constructor(packageId) { this.packageId = packageId; }
  async encode() {
    const text = (tokens, value) => ({
      features: new Float32Array(tokens * 48).fill(value), tokens, unsure: [] });
    return { prompt: text(200, 2), negative: text(150, 1) };
  }
  async noise({ seed }) {
    return { latent: new Float32Array(1024).fill(seed), shape: SHAPE };
  }
  async denoise({ conditioning, latent, start, stop }, { signal, onStep }) {
    const { prompt, negative } = conditioning;
    const text = prompt.features.at(-1) + negative.features.at(-1);
    for (let step = start; step < stop; step += 1) {
      await rest(window.stepMs);
      signal.throwIfAborted();
      latent = latent.map((value) => (text * value + step) % 251);
      onStep({ step: step + 1, latent, preview: { width: 8, height: 8, rgba: opaque(8, 90) } });
    }
    return latent;
  }
  async decode({ latent }) {
    return { width: 64, height: 64, rgba: opaque(64, latent[0]) };
  }
  close() {}
}
export async function openEngine(url) {
  const digest = await crypto.subtle.digest('SHA-256', await (await fetch(url)).arrayBuffer());
  return new Engine(Array.from(new Uint8Array(digest), (byte) =>
    byte.toString(16).padStart(2, '0')).join(''));
}
"""


def red(seed: int, steps: int) -> int:
    """Of the finished picture."""
    value = np.float32(seed)
    for step in range(steps):
        value = np.float32(np.fmod(3 * value + step, 251))
    return int(value)


class Heard:
    """What the site sends a page over its socket. leases: every message that is one."""

    def __init__(self, page: Page) -> None:
        self.leases: list[dict[str, Any]] = []
        self.bytes = 0
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        if "/ws/rooms/" in socket.url:
            socket.on("framereceived", self._received)

    def _received(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            self.bytes += len(payload)
        elif (message := json.loads(payload))["type"] == "work.lease":
            self.leases.append(message)

    def direct(self) -> set[str]:
        """Names of tensors that leases said another tab has."""
        return {tensor["name"] for lease in self.leases for tensor in lease.get("direct", ())}


def prepare(page: Page, step_ms: int) -> Heard:
    """Before the page is (re)loaded: it has a GPU, which takes so long for a step."""
    page.add_init_script(f"{GPU}; window.stepMs = {step_ms}; {HEAR}")
    page.route("**/js/engine/engine.js", _engine)
    return Heard(page)


def _engine(route: Route) -> None:
    route.fulfill(body=ENGINE, content_type="text/javascript")


def compute(page: Page) -> None:
    page.get_by_role("button", name="Compute here").click()
    expect(page.locator("#compute-said")).to_have_text("Ready on Test GPU: waiting for work.")


def meet(page: Page) -> None:
    page.get_by_role("button", name="Meet the others").click()
    expect(page.locator("#meeting")).not_to_contain_text("Looking")


def until(page: Page, condition: str, seconds: float = 20) -> None:
    """An expression of `mesh`: the newest event of that name."""
    page.wait_for_function(
        f"() => window.mesh && ({condition})", timeout=seconds * 1000, polling=50
    )


def exchanged(page: Page) -> dict[str, int]:
    """What has gone from tab to tab by now: `mesh` may be three seconds old."""
    counts: dict[str, int] = page.evaluate(
        """() => new Promise((resolve) => document.addEventListener(
            'mesh', ({ detail }) => resolve(detail.exchanged), { once: true }))"""
    )
    return counts
