"""Visitors of an exported site whose tabs meet over a relay: each with a browser of their own."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import listen_for_errors
from tests.js.exported import StaticHost, exported_tiny
from tests.js.room.relays import CarelessRelay

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def relay() -> Iterator[CarelessRelay]:
    with CarelessRelay() as relay:
        yield relay


@pytest.fixture(scope="module")
def host(relay: CarelessRelay, tmp_path_factory) -> Iterator[StaticHost]:
    """The exported site, which knows this relay."""
    root = tmp_path_factory.mktemp("exported")
    with exported_tiny(root, "--relay", relay.url) as running:
        yield running


@pytest.fixture
def visit(rtc_chromium: Browser) -> Iterator[Visit]:
    """visit(address, script="", console=False, **options): that page in a browser of its own, with
    the options of a context. script: runs before those of the page. A test fails when a script had
    an error or the policy stopped anything; console: and when the browser logs any error."""
    contexts = []
    errors: list[str] = []

    def visit_(address: str, *, script: str = "", console: bool = False, **options) -> Page:
        contexts.append(rtc_chromium.new_context(**options))
        contexts[-1].set_default_timeout(10_000)
        contexts[-1].add_init_script(script)
        page = contexts[-1].new_page()
        listen_for_errors(page, errors, console=console)
        page.goto(address)
        return page

    yield visit_
    for context in contexts:
        context.close()
    assert errors == []


def peers(page: Page):
    return page.get_by_role("list", name="Peers").locator("> li")
