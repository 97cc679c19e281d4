"""Two tabs make one picture of PRX-Emoji on the software GPU: without any server, and at a site
whose own worker is kept out of the room.

`TWO_TABS=1 pytest tests/e2e/test_two_tabs.py` takes minutes. The tab that begins is told to stop in
the middle, and the other one goes on from its checkpoint.
"""

import io
import os
import re
from collections.abc import Iterator

import numpy as np
import pytest
from django.test import override_settings
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from diffusion.backends.torch_backend import TorchBackend
from diffusion.model_folder import read_model_folder
from diffusion.pipeline import generate
from diffusion.settings import Settings
from tests.browser import WEBGPU, _browser, ask, listen_for_errors
from tests.e2e.conftest import MODEL, Eyes, Visitor
from tests.e2e.test_computing_tab import ALLOW, ROOM_WITHOUT_THE_SERVER
from tests.genqueue.processes import ROOT, Site, until
from tests.js.exported import exported
from tests.js.panel import ready
from tests.js.pictures import DECODED, decibels, pixels
from tests.js.room.conftest import RTC, relay
from tests.js.test_exported_room import saved

__all__ = ["relay"]

pytestmark = pytest.mark.skipif("TWO_TABS" not in os.environ, reason="minutes; set TWO_TABS=1")

PATIENCE_MS = 900_000
GLYPH, COLOUR = "hamburger", "blue"
PROMPT = f"a {GLYPH} on a {COLOUR} background"
SIDE, STEPS, GUIDANCE, SEED = 128, 8, 4, 7
ASKED = {"size": f"{SIDE}x{SIDE}", "Steps": STEPS, "Guidance": GUIDANCE, "Seed": SEED}
HANDED_OVER_AT = 3
SCREENSHOT = ROOT / "docs/images/two-tabs.webp"
LATENTS, DECIBELS = 2e-2, 38  # what f16 may lose


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from _browser(*WEBGPU, RTC)


@pytest.fixture(scope="module")
def theirs() -> tuple[np.ndarray, np.ndarray]:
    """torch's final latent and picture, in f32."""
    backend = TorchBackend(read_model_folder(ROOT / "models" / MODEL))
    wanted = Settings(PROMPT, MODEL, SIDE, SIDE, steps=STEPS, guidance=float(GUIDANCE), seed=SEED)
    [image] = generate(backend, wanted)
    return image.latent, image.pixels


def hand_over_in_the_middle(asking: Page, tabs: list[Page]) -> None:
    """Whoever computes is told to stop."""
    asking.wait_for_function(
        "step => document.querySelector('#queue progress')?.value >= step",
        arg=HANDED_OVER_AT,
        timeout=PATIENCE_MS,
    )

    def computing() -> list[Page]:
        return [page for page in tabs if "Computing" in page.locator("#compute-said").inner_text()]

    until(computing, 60, "a tab that computes")[0].get_by_role("button", name="Stop").click()
    expect(asking.get_by_role("figure")).to_have_count(1, timeout=PATIENCE_MS)


def is_right(asking: Page, tabs: list[Page], png: bytes, theirs, eyes: Eyes) -> None:
    latent, picture = theirs
    [made] = [one for page in tabs for one in page.evaluate("decoded")]
    off = np.asarray(made, np.float32).reshape(latent.shape) - latent
    assert np.linalg.norm(off) / np.linalg.norm(latent) <= LATENTS
    assert decibels(pixels(png), picture) >= DECIBELS
    assert eyes.rank(GLYPH, png) == 1
    assert eyes.background(png) == COLOUR
    asking.locator(".picture-link").click()
    entries = asking.locator("#lightbox .event")
    steps = entries.filter(has_text=re.compile(r"Steps? \d"))
    expect(steps.first).to_be_visible()
    words = [" ".join(text.split()) for text in steps.locator("p:first-child").all_inner_texts()]
    makers = {re.sub(r"^Steps? \d+( to \d+)? ", "", text) for text in words}
    assert len(makers) == 2, words
    expect(asking.locator("#lightbox .timeline-summary")).to_contain_text("2 workers")


def beside(one: Page, other: Page) -> Image.Image:
    shots = [Image.open(io.BytesIO(page.screenshot())).convert("RGB") for page in (one, other)]
    both = Image.new("RGB", (sum(shot.width for shot in shots) + 8, shots[0].height), "#808080")
    both.paste(shots[0])
    both.paste(shots[1], (shots[0].width + 8, 0))
    return both


def test_without_a_server(chromium: Browser, relay, theirs, eyes, tmp_path, request) -> None:
    """Without spot checks, as at the site. With --update-screenshots the README gets what both tabs
    show at the end."""
    errors: list[str] = []
    tabs = []
    site = override_settings(DATA_DIR=tmp_path / "data", DEFAULT_MODEL=MODEL)
    with site, exported(tmp_path / "host", "--relay", relay.url, "--no-checks") as host:
        for _ in range(2):
            size = {"width": 640, "height": 1180}
            page = chromium.new_context(viewport=size, reduced_motion="reduce").new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.add_init_script(DECODED)
            listen_for_errors(page, errors)
            page.goto(f"{host.url}room.html{ALLOW}#kitchen")
            page.get_by_role("button", name="Meet the others").click()
            tabs.append(page)
        for page in tabs:
            ready(page, PATIENCE_MS)
            expect(page.get_by_role("list", name="Peers").locator("> li")).to_have_count(2)
        ask(tabs[0], PROMPT, **ASKED)
        hand_over_in_the_middle(tabs[0], tabs)
        is_right(tabs[0], tabs, saved(tabs[0]), theirs, eyes)
        update = request.config.getoption("update_screenshots", default=False)
        expect(tabs[1].get_by_role("figure")).to_have_count(1)
        tabs[1].get_by_role("figure").scroll_into_view_if_needed()
        tabs[0].locator("#lightbox .event").last.scroll_into_view_if_needed()
        beside(*tabs).save(SCREENSHOT if update else tmp_path / "two-tabs.webp", quality=88)
        for page in tabs:
            page.context.close()
    assert errors == []


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    """Without spot checks, for which no third worker is there."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "models").mkdir()
    running = Site(
        folder / "data", folder / "models", folder / "log",
        P2PWEB_DEFAULT_MODEL=MODEL, P2PWEB_SPOT_CHECKS="0",
    )  # fmt: skip
    try:
        yield running.ready()
    finally:
        stopped = running.stop()
    assert stopped == 0


def test_at_a_site(visit, room: str, site: Site, theirs, eyes: Eyes) -> None:
    site.write(ROOM_WITHOUT_THE_SERVER.format(room))
    visitors: list[Visitor] = [visit(name, room, ALLOW) for name in ("alice", "bob")]
    tabs = [visitor.page for visitor in visitors]
    for page in tabs:
        page.add_init_script(DECODED)
        page.reload()
        expect(page.locator("body[data-connected]")).to_have_count(1, timeout=20_000)
        page.get_by_role("button", name="Compute here").click()
    for page in tabs:
        ready(page, PATIENCE_MS)
    ask(tabs[0], PROMPT, **ASKED)
    hand_over_in_the_middle(tabs[0], tabs)
    assert site.rows("SELECT sum(chunks_done) FROM queue_worker WHERE kind != 'tab'") == [(0,)]
    is_right(tabs[0], tabs, visitors[0].picture(), theirs, eyes)
