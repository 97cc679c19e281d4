"""Private rooms of the exported page: who has the link comes in, who has the id alone does not, and
the password goes nowhere."""

import base64
import hashlib
import re
import secrets
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser import violations
from tests.js.exported import StaticHost
from tests.js.room.conftest import rtc_chromium
from tests.js.visiting import Visit, host, peers, relay, visit

__all__ = ["host", "relay", "rtc_chromium", "visit"]

LINK = re.compile(r"/room\.html#[A-Za-z0-9_-]{22}-private/\?key=[A-Za-z0-9_-]{32}$")
OTHER_KEY = "z" * 32


@pytest.fixture
def open_page(visit: Visit, host: StaticHost):
    """open_page(address): in a browser of its own, which logs no error at all."""

    def open_(address: str = host.url, **options) -> Page:
        return visit(address, console=True, **options)

    return open_


@pytest.fixture
def link(host) -> str:
    """Of a private room that nobody has been in."""
    key = secrets.token_urlsafe(24)
    return f"{host.url}room.html#{room_of(key)}/?key={key}"


def room_of(key: str) -> str:
    digest = hashlib.sha256(f"p2pweb.private-room {key}".encode()).digest()
    return f"{base64.urlsafe_b64encode(digest[:16]).decode().rstrip('=')}-private"


def key_in(link: str) -> str:
    [key] = parse_qs(urlsplit(link).fragment.partition("?")[2])["key"]
    return key


def without_key(link: str) -> str:
    return link.partition("?key=")[0]


def meets(page: Page) -> None:
    page.get_by_role("button", name="Meet the others").click()


def test_two_with_the_link_meet_and_nobody_else_hears_the_password(open_page, host, relay, link):
    key, id_ = key_in(link), without_key(link).partition("#")[2].strip("/")
    ours = open_page(link)
    frames: list[str] = []
    ours.on(
        "websocket", lambda socket: socket.on("framesent", lambda sent: frames.append(str(sent)))
    )
    expect(ours.locator("#meeting")).to_contain_text("whoever has the link to this room")
    meets(ours)
    theirs = open_page(link)
    meets(theirs)
    for page in (ours, theirs):
        expect(peers(page)).to_have_count(2)
    ours.get_by_role("textbox", name="Prompt").fill("a rocket")
    ours.get_by_role("button", name="Generate").click()
    expect(theirs.get_by_role("list", name="Queue")).to_contain_text("a rocket")

    assert len(frames) > 2
    assert len(relay.heard) > 4
    assert len(host.asked) > 50
    for text in (*frames, *relay.heard, *host.asked):
        assert key not in text
        assert id_ not in text


def test_who_has_the_id_alone_is_told_why_and_meets_nobody(open_page, host, relay, link):
    inside = [open_page(link), open_page(link)]
    for page in inside:
        meets(page)
    for page in inside:
        expect(peers(page)).to_have_count(2)
    stranger = open_page("about:blank")
    sockets: list[str] = []
    stranger.on("websocket", lambda socket: sockets.append(socket.url))
    stranger.goto(without_key(link))
    expect(stranger.locator("#error-room")).to_contain_text("This room is private: its id alone")
    expect(stranger.get_by_role("textbox", name="or enter a room")).to_be_focused()
    assert sockets == []  # nobody was looked for

    # One who does not use our page: with the id, the relay and no password or another one
    stranger.goto(f"{host.url}room.html#elsewhere")
    id_ = without_key(link).partition("#")[2].strip("/")
    for password in (None, OTHER_KEY):
        seen = stranger.evaluate(
            """async (options) => {
              const { P2PNetwork } = await import('room/p2p-network.js');
              const network = new P2PNetwork();
              let met = 0;
              await network.join({ ...options, iceServers: [], onPeer: () => { met += 1; } });
              await new Promise((resolve) => setTimeout(resolve, 4000));
              const { peers } = network;
              await network.leave();
              return [met, peers.length];
            }""",
            {"room": id_, "relays": [relay.url], "password": password},
        )
        assert seen == [0, 0]
    assert relay.url in sockets
    for page in inside:
        expect(peers(page)).to_have_count(2)


def test_a_reload_recent_rooms_and_every_link_of_the_page_keep_the_password(open_page, link, host):
    page = open_page(link)
    expect(page.locator("body[data-connected]")).to_have_count(1)
    expect(page).to_have_url(link)
    page.reload()
    expect(page.locator("body[data-connected]")).to_have_count(1)
    expect(page).to_have_url(link)
    expect(page.locator(".bar-private")).to_be_visible()
    page.locator(".share summary").click()
    expect(page.get_by_label("The address of this room:")).to_have_value(link)
    expect(page.locator(".share-body")).to_contain_text("Who has the id alone cannot.")
    expect(page.locator(".qr svg")).to_be_visible()

    page.locator(".empty").get_by_role("link").first.click()  # an example: the form filled anew
    expect(page.get_by_role("textbox", name="Prompt")).not_to_be_empty()
    expect(page).to_have_url(link)

    page.get_by_role("link", name="P2P Diffusion").click()
    recent = page.get_by_role("list", name="Your recent rooms")
    expect(recent).to_contain_text("private · just now")
    recent.get_by_role("link").click()
    expect(page).to_have_url(link)
    page.goto("about:blank")
    page.goto(without_key(link))  # as the address of a button in a new tab: this browser was there
    expect(page).to_have_url(link)
    expect(page.locator("body[data-connected]")).to_have_count(1)

    page.goto(host.url)
    page.get_by_role("button", name="Forget these").click()
    page.goto(without_key(link))
    expect(page.locator("#error-room")).to_contain_text("its id alone lets nobody in")


def test_a_link_that_was_damaged_says_how(open_page, link):
    page_address, _, fragment = link.partition("#")
    other_end = "A" if link[-1] != "A" else "B"
    damaged = {
        link[:-15]: "The password in this link is not whole",
        f"{link}%20!": "The password in this link is not whole",
        f"{without_key(link)}?key=": "The password in this link is not whole",
        f"{link[:-1]}{other_end}": "is not that of this room",
        link.replace("-private", ""): "private rooms have ids that end in “-private”",
        f"{page_address}#a b": "1 to 64 letters",
        f"{page_address}#%3Cimg%20src=x%3E/?key=%22": "1 to 64 letters",
        f"{page_address}?room={fragment}": "",  # it names no room at all
    }
    page = open_page()
    said = page.locator("#error-room")
    field = page.get_by_role("textbox", name="or enter a room")
    for address, sentence in damaged.items():
        page.goto("about:blank")
        page.goto(address)
        expect(page).to_have_url(re.compile(r"/index\.html$"))
        expect(said).to_contain_text(sentence)
        if sentence:
            expect(field).to_have_attribute("aria-invalid", "true")
    field.fill(link)
    field.press("Enter")
    expect(page).to_have_url(link)


def test_a_password_that_a_server_has_seen_is_refused(open_page, link, host):
    page = open_page()
    field = page.get_by_role("textbox", name="or enter a room")
    field.fill(f"{host.url}room.html?key={OTHER_KEY}#kitchen")
    field.press("Enter")
    expect(page.locator("#error-room")).to_contain_text("was sent to the server")


def test_what_is_kept_of_a_private_room_is_in_no_public_one(open_page, link):
    """Its id is a hash of its password: nothing else can be opened under the name it is kept by."""
    page = open_page(link)
    expect(page.locator("body[data-connected]")).to_have_count(1)
    page.get_by_role("textbox", name="Prompt").fill("a secret rocket")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("list", name="Queue")).to_contain_text("a secret rocket")
    page.evaluate("localStorage.clear()")
    page.goto("about:blank")
    for address in (without_key(link), f"{without_key(link)}?key={OTHER_KEY}"):
        page.goto(address)
        expect(page.locator("#error-room")).not_to_be_empty()
    page.goto(link)
    expect(page.get_by_role("list", name="Queue")).to_contain_text("a secret rocket")


def test_the_choice_is_explained_and_made_by_keyboard(open_page):
    page = open_page(viewport={"width": 390, "height": 800})
    button = page.get_by_role("button", name="Make a private room")
    expect(button).to_have_accessible_description(
        re.compile("whole link, which carries a password that is never sent anywhere")
    )
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Make a room").focus()
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(LINK)
    first = page.url
    assert room_of(key_in(first)) in first
    page.go_back()
    page.get_by_role("button", name="Make a private room").click()
    page.wait_for_url(LINK)
    assert page.url != first


def test_a_page_without_encryption_makes_no_private_room(open_page, host):
    page = open_page("about:blank")
    insecure = "http://pictures.example/"
    page.route(
        f"{insecure}**",
        lambda route: route.fulfill(path=host.folder / route.request.url.removeprefix(insecure)),
    )
    page.goto(f"{insecure}index.html")
    page.get_by_role("button", name="Make a private room").click()
    expect(page.locator("#error-make")).to_contain_text("came by https or from this computer")
    time.sleep(0.2)
    assert page.url == f"{insecure}index.html"
