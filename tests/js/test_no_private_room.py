"""A site has no private rooms: a link that has a password for one opens nothing, and is said to be
one of exported pages. The password is sent nowhere."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser import violations

KEY = "A1b2C3d4E5f6G7h8I9j0-_"
PRIVATE = f"{'x' * 22}-private"
SENTENCE = re.compile(
    "^That link leads to a private room, and there is none on this site: private rooms are those of"
)


def said(page):
    return page.get_by_role("alert").get_by_text(SENTENCE)


@pytest.fixture
def sent(open_page, alice):
    """A page of alice's browser, and all that it asks the site for."""
    page = open_page(alice, "/stats/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.url} {request.post_data}"))
    page.on("websocket", lambda socket: asked.append(socket.url))
    return page, asked


@pytest.mark.parametrize("path", [f"/rooms/kitchen/#key={KEY}", f"/rooms/{PRIVATE}/#?key={KEY}"])
def test_the_link_opens_no_public_room(sent, kitchen, path):
    page, asked = sent
    page.goto(path)
    expect(said(page)).to_be_visible()
    expect(page).not_to_have_url(re.compile("key="))
    assert not any("/ws/" in one or KEY in one for one in asked)
    assert violations(page) == []
    page.goto("/")
    expect(page.get_by_role("textbox", name="or enter a room")).to_be_visible()
    expect(said(page)).to_be_hidden()


@pytest.mark.parametrize(
    "link",
    [
        f"https://site.example/rooms/kitchen/#key={KEY}",
        f"https://host.example/p2p/room.html#{PRIVATE}/?key={KEY}",
    ],
)
def test_what_is_pasted_is_refused_before_it_is_sent(sent, link):
    page, asked = sent
    page.goto("/")
    field = page.get_by_role("textbox", name="or enter a room")
    field.fill(link)
    field.press("Enter")
    expect(said(page)).to_be_visible()
    expect(field).to_have_value(link)
    assert not any(KEY in one for one in asked)
    field.fill("kitchen")
    field.press("Enter")
    expect(page.locator("body[data-connected]")).to_have_count(1)


def test_other_places_of_a_page_are_no_passwords(open_page, alice, kitchen):
    page = open_page(alice, "/rooms/kitchen/#main")
    expect(page.locator("body[data-connected]")).to_have_count(1)
