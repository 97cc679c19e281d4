"""A page of the site and an exported one that share a relay are in one room: each sees the other's
tabs, and a tab of the site computes for the exported pages while nothing waits at the site."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from genqueue.models import Chunk, Worker
from tests.browser import _browser, listen_for_errors
from tests.js.exported import StaticHost, exported
from tests.js.meshed import compute, meet, until
from tests.js.room.conftest import RTC
from tests.js.test_site_mesh import STEPS, ask, finished, packed, tab

__all__ = ["packed", "tab"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from _browser(RTC)


@pytest.fixture
def host(site, tab, tmp_path: Path) -> Iterator[StaticHost]:
    """The room page as files, which knows the site by nothing but its relay."""
    relay = f"ws://127.0.0.1:{site.port}/relay/"
    with exported(tmp_path / "host", "--relay", relay) as running:
        yield running


@pytest.fixture
def visitor(chromium: Browser, host) -> Iterator[Page]:
    """At the exported page, in a browser without WebGPU: it can ask and watch."""
    errors: list[str] = []
    page = chromium.new_context().new_page()
    page.set_default_timeout(10_000)
    page.add_init_script("navigator.__defineGetter__('gpu', () => undefined)")
    listen_for_errors(page, errors)
    page.goto(f"{host.url}room.html#kitchen")
    page.get_by_role("button", name="Meet the others").click()
    yield page
    page.context.close()
    assert errors == []


def generate(page: Page, seed: int, steps: int = STEPS) -> None:
    page.get_by_role("textbox", name="Prompt").fill("a rocket")
    page.get_by_label("Size", exact=True).select_option("64x64")
    if not page.get_by_label("Seed", exact=True).is_visible():
        page.locator("#more-settings summary").click()
    for label, value in (("Steps", steps), ("Guidance", 4), ("Seed", seed)):
        page.get_by_label(label, exact=True).fill(str(value))
    page.get_by_role("button", name="Generate").click()


def test_a_tab_of_the_site_computes_for_an_exported_page_and_the_site_goes_first(
    tab, visitor, alice
):
    page, _ = tab(alice)
    compute(page)
    meet(page)
    # Each sees the other
    until(page, "mesh.peers.some(({ exported }) => exported)")
    elsewhere = page.get_by_role("list", name="Tabs of exported pages").locator("> li")
    expect(elsewhere).to_have_count(1)
    expect(elsewhere).to_have_text(re.compile(r"guest \w{6}.*at an exported page"))
    expect(visitor.locator("#meeting")).to_contain_text("One other tab is here.")
    peers = visitor.get_by_role("list", name="Peers").locator("> li")
    expect(peers).to_have_count(2)
    # What the exported page asks for is computed
    generate(visitor, seed=5)
    expect(visitor.get_by_role("figure")).to_have_count(1, timeout=30_000)
    assert not Chunk.objects.exists()
    # The site's queue goes first: the tab comes back in the middle of a long picture
    page.evaluate("window.stepMs = 100")
    generate(visitor, seed=6, steps=100)
    expect(page.locator("#compute-said")).to_contain_text("of 100 for “a rocket”", timeout=20_000)
    expect(page.locator("#meeting")).to_contain_text("computes for the exported pages")
    own = page.get_by_role("list", name="Peers").locator("> li")
    expect(own).to_contain_text("computing for the exported pages of this room")
    page.evaluate("window.stepMs = 20")
    job = ask(alice, seed=7)
    finished(page, job)
    expect(own).not_to_contain_text("exported")
    assert Worker.objects.get(kind="tab").chunks_done >= 3
    assert visitor.get_by_role("figure").count() == 1
    expect(visitor.get_by_role("figure")).to_have_count(2, timeout=40_000)
    # When it stops, it is gone from both
    page.get_by_role("button", name="Stop").click()
    expect(peers).to_have_count(1)
    expect(elsewhere).to_have_count(0)
