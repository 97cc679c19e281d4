"""`manage.py serve` with its worker and PRX-Emoji, and visitors in a real Chromium."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, Page, expect

from diffusion.training import glyphs
from diffusion.training.judge import Judge
from tests.browser import ask, chromium, listen_for_errors
from tests.genqueue.processes import ROOT, Site
from tests.js.pictures import pixels

__all__ = ["chromium"]

MODEL = "prx-emoji"
PATIENCE_MS = 120_000  # for pictures: a hundred steps, on a machine that does much else
REFERENCE = ROOT / "queue/diffusion/training/reference"
UNSURE_RIM = 2  # pixels: the decoder is off in the very corners, which the judge takes for objects


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-screenshots", action="store_true", help="write the README's into docs/images"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "models").mkdir()
    running = Site(
        folder / "data", folder / "models", folder / "log", P2PWEB_DEFAULT_MODEL=MODEL
    )  # fmt: skip
    try:
        yield running.ready()
    finally:
        stopped = running.stop()
    assert stopped == 0
    assert "Traceback" not in (folder / "log").read_text()


_numbers = itertools.count(1)


@pytest.fixture
def room() -> str:
    """A room that nobody has used."""
    return f"room-{next(_numbers)}"


class Visitor:
    """A person's tab at the page of one room, with the words that they look for."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site
        self.prompt = page.get_by_role("textbox", name="Prompt")
        self.queue = page.get_by_role("list", name="Queue").locator("> li")
        self.progress = page.get_by_role("progressbar")
        self.figures = page.get_by_role("figure")

    def ask(self, prompt: str, **settings: Any) -> None:
        """See `tests.browser.ask`."""
        ask(self.page, prompt, **settings)

    def begin_long(self, prompt: str, step: int, size: str = "") -> str:
        """Ask for a picture of many steps, wait until it has come to `step`; the job's id."""
        self.ask(prompt, size=size, Steps=100, Seed=7)
        self.until_step(step)
        return (self.queue.get_attribute("id") or "").removeprefix("job-")

    def until_step(self, step: int) -> None:
        expect(self.progress).to_have_count(1, timeout=PATIENCE_MS)
        self.page.wait_for_function(
            "step => document.querySelector('progress')?.value >= step", arg=step
        )

    def expect_pictures(self, count: int) -> None:
        expect(self.figures).to_have_count(count, timeout=PATIENCE_MS)

    def picture(self, number: int = 0) -> bytes:
        """A finished picture, newest first, as this page shows it."""
        image = self.figures.nth(number).get_by_role("img")
        image.scroll_into_view_if_needed()
        self.page.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())
        answer = self.page.request.get(image.get_attribute("src") or "")
        assert answer.headers["content-type"] == "image/png"
        return answer.body()


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(chromium: Browser, site: Site) -> Iterator[Visit]:
    """visit("alice", room): their tab, in a browser of their own; query: of its address. A test
    fails when any tab logged an error, a script of it failed, or its content security policy
    stopped anything."""
    contexts: dict[str, BrowserContext] = {}
    errors: list[str] = []

    def visit_(person: str, room: str, query: str = "", **options: object) -> Visitor:
        if person not in contexts:
            base = f"http://127.0.0.1:{site.port}"
            contexts[person] = chromium.new_context(base_url=base, **options)
            contexts[person].set_default_timeout(PATIENCE_MS)
        page = contexts[person].new_page()
        listen_for_errors(page, errors, console=True)
        page.goto(f"/rooms/{room}/{query}")
        if options.get("java_script_enabled", True):
            expect(page.locator("body[data-connected]")).to_have_count(1, timeout=20_000)
        return Visitor(page, site)

    yield visit_
    for context in contexts.values():
        context.close()
    assert errors == []


class Eyes:
    """Says what a picture shows."""

    def __init__(self) -> None:
        known, atlas = glyphs.load(REFERENCE)
        self._glyphs = {name: index for index, glyph in enumerate(known) for name in glyph.names}
        self._judge = Judge(atlas)

    def rank(self, name: str, png: bytes) -> int:
        """Place of the glyph among all that the picture might show: 1 is the nearest."""
        seen = _pixels_for_the_judge(png)[:, UNSURE_RIM:-UNSURE_RIM, UNSURE_RIM:-UNSURE_RIM]
        return self._judge.rank_of(self._glyphs[name], self._judge.ranking(seen))

    def background(self, png: bytes) -> str:
        return self._judge.colour(_pixels_for_the_judge(png))


def _pixels_for_the_judge(png: bytes) -> torch.Tensor:
    """f32 [3, h, w] in 0..1."""
    return torch.from_numpy(pixels(png)).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return Eyes()
