"""A real Chromium at the real site."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.cache import cache
from playwright.sync_api import Browser, BrowserContext, Page

from genqueue import actions
from genqueue.clients import COOKIE_NAME, signed
from tests.browser import chromium, listen_for_errors
from tests.cast import Person
from tests.js.engine.package_host import PackageHost
from tests.js.site import LiveSite
from tests.studio import Studio, write_model

__all__ = ["chromium"]

# Playwright runs an event loop in this thread; the tests' own queries are not made inside it.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"


@pytest.fixture
def site(live_site: LiveSite, transactional_db, tmp_path: Path, settings) -> Iterator[LiveSite]:
    write_model(tmp_path / "models")
    settings.MODEL_ROOTS = [tmp_path / "models"]
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    cache.clear()
    live_site.blocked = False
    yield live_site
    live_site.let_go()


@pytest.fixture
def studio(site) -> Studio:
    return Studio()


@pytest.fixture
def kitchen(site, alice: Person) -> str:
    actions.make_room("kitchen", alice.client_id)
    return "kitchen"


Open = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser, site: LiveSite) -> Iterator[Open]:
    """open_page(person, "/rooms/kitchen/", ...): a page in that person's browser. A test fails when
    any of its pages had an error in a script or broke its content security policy."""
    contexts: dict[tuple[str, str], BrowserContext] = {}
    errors: list[str] = []

    def open_(person: Person, path: str, **options) -> Page:
        key = (person.client_id, repr(sorted(options.items())))
        if key not in contexts:
            contexts[key] = chromium.new_context(base_url=site.url, **options)
            cookie = {"name": COOKIE_NAME, "value": signed(person.client_id), "url": site.url}
            contexts[key].add_cookies([cookie])
            contexts[key].set_default_timeout(10_000)
        page = contexts[key].new_page()
        listen_for_errors(page, errors)
        page.goto(path)
        return page

    yield open_
    for context in contexts.values():
        context.close()
    assert errors == []


@pytest.fixture(scope="module")
def module_page(chromium: Browser) -> Iterator[Page]:
    """An empty page of a plain host of files, nothing of the site. Fails when a script of a
    module's tests had an error or broke the policy."""
    errors: list[str] = []
    with PackageHost({}) as host:
        page = chromium.new_page()
        listen_for_errors(page, errors)
        page.goto(host.url)
        yield page
        page.close()
    assert errors == []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """WhiteNoise sends files from synchronous iterators; Django warns and reads them anyway."""
    quiet = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(quiet)
