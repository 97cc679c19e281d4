"""The queue of a room without a server, with the players of this folder, on an empty page."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.browser import listen_for_errors
from tests.js.engine.package_host import PackageHost

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def queue_page(chromium: Browser) -> Iterator[Page]:
    errors: list[str] = []
    with PackageHost({}) as host:
        page = chromium.new_page()
        listen_for_errors(page, errors)
        page.route("**/queue-tests/*.js", _file_of_this_folder)
        page.goto(host.url)
        yield page
        page.close()
    assert errors == []


def _file_of_this_folder(route: Route) -> None:
    route.fulfill(path=Path(__file__).parent / route.request.url.rpartition("/")[2])


@pytest.fixture
def run(queue_page: Page) -> Run:
    """run(body, *args): a function body; `module(path)` imports from /static/js/work/queue or from
    here."""
    return lambda body, *args: queue_page.evaluate(
        "async (args) => { const module = (name) => import(name.startsWith('./')"
        " ? `/queue-tests/${name.slice(2)}` : `/static/js/work/queue/${name}`);" + body + " }",
        list(args),
    )
