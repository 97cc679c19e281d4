"""Whose pictures a tab makes first, from the panel to the picture: in a room of the site and in one
without a server. By the order of turns it would be the other one's."""

import pytest
from playwright.sync_api import Browser, Page, expect

from genqueue import actions
from genqueue.models import Room, Worker
from tests.browser import ask as ask_in
from tests.genqueue.processes import until
from tests.js.meshed import compute, prepare
from tests.js.test_site_mesh import ask, chromium, finished, packed, tab
from tests.js.visiting import host, peers, relay, visit

__all__ = ["chromium", "host", "packed", "relay", "tab", "visit"]


@pytest.fixture(scope="module")
def rtc_chromium(chromium: Browser) -> Browser:
    """There can be one at a time."""
    return chromium


def put_own_first(page: Page) -> None:
    page.locator("#compute-limits summary").click()
    page.get_by_label("My own pictures first.").check()


def work(page: Page, what: str):
    return page.get_by_role("button", name=f"{what} the work")


def test_a_tab_of_the_site_makes_its_own_persons_picture_first(tab, alice, bob):
    page, _ = tab(bob)
    compute(page)
    room = Room.objects.get(pk="kitchen")
    actions.pause_room(room, True)
    theirs, own = ask(alice, seed=3), ask(bob, seed=4)
    put_own_first(page)
    until(lambda: Worker.objects.filter(own_first=True).exists(), 10, "a claim that says so")
    actions.pause_room(room, False)
    finished(page, own)
    expect(page.get_by_role("figure")).to_have_count(2, timeout=40_000)
    own.refresh_from_db()
    theirs.refresh_from_db()
    assert own.finished_at < theirs.finished_at


def test_a_tab_of_a_room_without_a_server_does_so_too(visit, host):
    ours, theirs = (visit(f"{host.url}room.html#own") for _ in range(2))
    prepare(ours, 150)
    ours.reload()
    for page in (ours, theirs):
        page.get_by_role("button", name="Meet the others").click()
    for page in (ours, theirs):
        expect(peers(page)).to_have_count(2)
    expect(ours.locator("#compute-said")).to_have_text("Ready on Test GPU: waiting for work.")
    put_own_first(ours)
    ask_in(ours, "a rocket", size="64x64", Steps=4)  # from now on it is the other one's turn
    expect(ours.get_by_role("figure")).to_have_count(1, timeout=40_000)
    [owner] = [page for page in (ours, theirs) if work(page, "Pause").is_visible()]
    work(owner, "Pause").click()
    expect(work(owner, "Resume")).to_be_visible()
    ask_in(theirs, "a cat", size="64x64", Steps=12)
    expect(ours.get_by_role("list", name="Queue")).to_contain_text("a cat")
    ask_in(ours, "a dog", size="64x64", Steps=12)
    expect(ours.get_by_role("list", name="Queue")).to_contain_text("a dog")
    work(owner, "Resume").click()
    two = ours.wait_for_function(
        """() => {
          const made = [...document.querySelectorAll('figure .picture-prompt')];
          return made.length > 1 && made.map(({ textContent }) => textContent.trim());
        }""",
        timeout=60_000,
    ).json_value()
    assert sorted(two) == ["a dog", "a rocket"]
