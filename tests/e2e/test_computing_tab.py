"""A tab computes for its room: PRX-Emoji on the software GPU that Chromium has for tests.

One story, because that GPU takes a minute to make the pipelines and seconds for each step. The
site is the real one with its worker, which is kept out of the room until the tab stops.
"""

import json
import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, WebSocket, Worker, expect
from safetensors.numpy import load

from diffusion.backends.torch_backend import TorchBackend
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from diffusion.pictures import settings_from_png
from diffusion.pipeline import generate
from diffusion.settings import Settings
from tests.browser import webgpu_chromium
from tests.e2e.conftest import MODEL
from tests.genqueue.processes import ROOT, until
from tests.js.pictures import decibels, pixels

__all__ = ["webgpu_chromium"]

PATIENCE_MS = 900_000  # with others on the same two cores; alone it takes two minutes in all
ALLOW = "?allow-software-gpu=1"
PROMPT = "a hamburger on a blue background"
SIDE, STEPS, GUIDANCE, SEED = 128, 8, 4, 7
LATENTS, DECIBELS = 2e-2, 38  # what f16 may lose

ROOM_WITHOUT_THE_SERVER = """
INSERT INTO queue_room (id, owner, title, listed, paused, server_helps, tabs_help, created_at,
  visited_at, revision, last_turn)
VALUES ('{}', '', '', 0, 0, 0, 1, datetime('now'), datetime('now'), 0, 0)
"""
# Every socket of the page, and how often a Worker hands work to its GPU
KEEP_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) { super(...given); sockets.push(this); }
};
"""
COUNT_SUBMISSIONS = """() => {
  self.submissions = 0;
  const { submit } = GPUQueue.prototype;
  GPUQueue.prototype.submit = function (commands) {
    self.submissions += commands.length;
    return submit.call(this, commands);
  };
}"""


@pytest.fixture(scope="module")
def chromium(webgpu_chromium):
    return webgpu_chromium


class HandedIn:
    """The results that a tab sends to the site, read from its socket as they leave."""

    def __init__(self, page: Page) -> None:
        self.results: list[dict[str, np.ndarray]] = []
        self._missing = 0
        self._bytes = b""
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framesent", self._sent)

    def _sent(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            message: dict[str, Any] = json.loads(payload)
            complete = message["type"] == "work.complete"
            self._missing, self._bytes = (message["bytes"] if complete else 0), b""
        elif self._missing:
            self._bytes += payload
            if len(self._bytes) == self._missing:
                self.results.append(load(self._bytes))
                self._missing = 0


def ask(person, steps: int, seed: int) -> None:
    settings = {"Steps": steps, "Guidance": GUIDANCE, "Seed": seed}
    person.ask(PROMPT, size=f"{SIDE}x{SIDE}", **settings)


def by_torch(steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Final latent and picture, in f32."""
    backend = TorchBackend(read_model_folder(ROOT / "models" / MODEL))
    [image] = generate(
        backend, Settings(PROMPT, MODEL, SIDE, SIDE, steps=steps, guidance=GUIDANCE, seed=seed)
    )
    return image.latent, image.pixels


def test_a_tab_makes_the_servers_picture_stops_when_told_and_leaves_what_it_has(visit, room, site):
    site.write(ROOM_WITHOUT_THE_SERVER.format(room))
    alice, bob = visit("alice", room, ALLOW), visit("bob", room)
    handed_in = HandedIn(alice.page)
    alice.page.add_init_script(KEEP_SOCKETS)
    alice.page.reload()
    bob.page.get_by_role("button", name="Compute here").click()
    expect(bob.page.locator("#compute-said")).to_contain_text("a software adapter")
    said = alice.page.locator("#compute-said")
    ready = re.compile("^Ready on .*swiftshader: waiting for work.$")

    def is_engine(worker: Worker) -> bool:
        return worker.url.endswith("engine-worker.js")

    with alice.page.expect_event("worker", is_engine) as found:
        alice.page.get_by_role("button", name="Compute here").click()
    engine = found.value
    engine.evaluate(COUNT_SUBMISSIONS)
    expect(said).to_have_text(ready, timeout=PATIENCE_MS)
    expect(bob.page.get_by_role("list", name="Peers")).to_contain_text("google swiftshader")
    expect(bob.page.get_by_role("list", name="Helpers").locator("li")).to_have_count(0)

    # A picture: all of it is the tab's
    ask(bob, STEPS, SEED)
    expect(bob.progress).to_have_count(1, timeout=PATIENCE_MS)
    expect(bob.queue.locator("img")).to_be_visible(timeout=PATIENCE_MS)
    expect(bob.figures).to_have_count(1, timeout=PATIENCE_MS)
    bob.figures.get_by_text("More", exact=True).click()
    made_by = re.compile("tab of guest [0-9a-f]{6} · google swiftshader")
    expect(bob.figures.locator("dl")).to_contain_text(made_by)
    [by_tab] = site.rows(
        "SELECT chunks_done, steps_done, variant FROM queue_worker WHERE kind = 'tab'"
    )
    assert by_tab[0] >= 3
    assert by_tab[1:] == (STEPS, "f16")
    assert site.rows("SELECT sum(chunks_done) FROM queue_worker WHERE kind != 'tab'") == [(0,)]
    assert engine.evaluate("submissions") >= 2 + STEPS + 1  # texts, steps, picture
    latent, picture = by_torch(STEPS, SEED)
    ours = [result["latent"] for result in handed_in.results if "latent" in result][-1]
    assert np.linalg.norm(ours - latent) / np.linalg.norm(latent) <= LATENTS
    noise = initial_noise(SEED, latent.shape)
    assert np.linalg.norm(latent - noise) / np.linalg.norm(noise) > 0.1
    [drawn] = [result["picture"] for result in handed_in.results if "picture" in result]
    png = bob.picture()
    assert np.array_equal(pixels(png), drawn)
    assert decibels(drawn, picture) >= DECIBELS

    # It is the server's, which makes it in another room
    elsewhere = visit("bob", f"{room}-of-the-server")
    ask(elsewhere, STEPS, SEED)
    elsewhere.expect_pictures(1)
    its = elsewhere.picture()
    assert settings_from_png(its) == settings_from_png(png)
    assert decibels(pixels(png), pixels(its)) >= DECIBELS

    # Cancelled while it computes: it waits for work again, and its chunk is over
    ask(bob, 100, SEED)
    expect(said).to_have_text(re.compile("^Computing step .* of 100 "), timeout=PATIENCE_MS)
    bob.page.get_by_role("button", name="Cancel").click()
    expect(said).to_have_text(ready, timeout=PATIENCE_MS)
    assert site.rows(
        "SELECT count(*) FROM queue_chunk WHERE state = 'cancelled' AND kind != 'check'"
    ) == [(1,)]

    # The connection breaks: its chunk goes back unharmed, and it says hello again
    ask(bob, 24, SEED + 1)
    expect(said).to_have_text(re.compile("^Computing step .* of 24 "), timeout=PATIENCE_MS)
    held = "SELECT id, attempt, faults FROM queue_chunk WHERE state "
    [(chunk, attempt, _faults)] = site.rows(held + "= 'leased'")
    alice.page.evaluate("sockets.at(-1).close()")
    [(_id, _attempt, faults)] = until(
        lambda: [row for row in site.rows(held + "!= ''") if row[0] == chunk and row[1] > attempt],
        what="taking back",
    )
    assert faults == 0

    # Stopped while it computes: the server's worker goes on from where it was
    third = re.compile("^Computing step ([3-9]|[12][0-9]) of 24 ")  # two are done
    expect(said).to_have_text(third, timeout=PATIENCE_MS)
    alice.page.get_by_role("button", name="Stop").click()
    until(lambda: not site.rows(held + "= 'leased'"), what="giving back")
    [(left_at,)] = site.rows("SELECT max(step) FROM queue_checkpoint")
    assert 1 <= left_at < 24
    site.call("POST", f"/api/join/{room}", {})
    bob.expect_pictures(2)
    starts = site.rows(
        "SELECT min(c.start) FROM queue_chunk AS c JOIN queue_worker AS w ON w.id = c.worker_id"
        " JOIN queue_job AS j ON j.id = c.job_id"
        " WHERE w.kind != 'tab' AND c.kind = 'denoise' AND j.steps = 24"
    )
    assert starts == [(left_at,)]
    assert decibels(pixels(bob.picture()), by_torch(24, SEED + 1)[1]) >= DECIBELS
    expect(alice.page.get_by_role("button", name="Compute here")).to_be_visible()
