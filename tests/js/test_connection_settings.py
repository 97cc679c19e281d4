"""The settings of how one meets others, in the exported page: checked, kept in this browser, and in
force without a reload."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser import violations
from tests.genqueue.processes import until
from tests.js.exported import StaticHost
from tests.js.room.conftest import RTC_SPY, rtc_chromium
from tests.js.room.relays import CarelessRelay
from tests.js.visiting import Visit, host, peers, relay, visit

__all__ = ["host", "relay", "rtc_chromium", "visit"]

Open = Callable[..., Page]

TURN = "turn:127.0.0.1:9?transport=udp"  # where nobody answers


@pytest.fixture(scope="module")
def other_relay() -> Iterator[CarelessRelay]:
    with CarelessRelay() as relay:
        yield relay


@pytest.fixture
def open_room(visit: Visit, host: StaticHost) -> Open:
    """open_room("kitchen", agreed=True): a browser of its own in that room, which has agreed to
    what others see there."""

    def open_(room: str, *, agreed: bool = False, **options) -> Page:
        page = visit(f"{host.url}room.html#{room}", script=RTC_SPY, **options)
        if agreed:
            page.get_by_role("button", name="Meet the others").click()
        return page

    return open_


def dialog(page: Page):
    return page.get_by_role("dialog", name="How you meet others")


def choose(page: Page, **fields: str | bool) -> None:
    """Opens the dialog, fills it and saves."""
    page.get_by_role("button", name="Connection settings").click()
    for label, value in fields.items():
        field = dialog(page).get_by_label(LABELS[label])
        if isinstance(value, bool):
            field.set_checked(value)
        else:
            field.fill(value)
    dialog(page).get_by_role("button", name="Save").click()


LABELS = {
    "name": "Name that others see", "relays": "Relays, one in each line",
    "stun": "STUN servers, one in each line", "turn": "Its addresses, one in each line",
    "username": "User name", "credential": "Password", "hidden": "Hide this computer",
}  # fmt: skip


def said(page: Page):
    return page.locator('[data-meeting="said"]')


def test_another_relay_is_used_at_once_and_remembered_but_is_in_no_link(
    open_room, relay, other_relay
):
    ours = open_room("relays", agreed=True)
    theirs = open_room("relays", agreed=True)
    for page in (ours, theirs):
        expect(peers(page)).to_have_count(2)
    ours.evaluate("window.notReloaded = true")

    # Elsewhere nobody is, and the room goes on with what it holds
    theirs.get_by_role("textbox", name="Prompt").fill("a rocket")
    theirs.get_by_role("button", name="Generate").click()
    expect(ours.get_by_role("list", name="Queue")).to_contain_text("a rocket")
    choose(ours, relays=f"  {other_relay.url}\n")
    expect(dialog(ours)).to_be_hidden()
    expect(said(ours)).to_have_text(
        "Nobody else is here yet: send them the link. They need one of your relays too."
    )
    expect(peers(ours)).to_have_count(1)
    expect(peers(theirs)).to_have_count(1)
    expect(ours.get_by_role("list", name="Queue")).to_contain_text("a rocket")
    assert other_relay.heard
    ours.locator(".share summary").click()
    address = ours.get_by_label("The address of this room:").input_value()
    assert address.endswith("room.html#relays")
    ours.locator(".share summary").click()

    # Who uses it too is met, and a reload keeps it
    choose(theirs, relays=other_relay.url)
    for page in (ours, theirs):
        expect(peers(page)).to_have_count(2)
    assert ours.evaluate("window.notReloaded")
    ours.reload()
    expect(peers(ours)).to_have_count(2)
    ours.get_by_role("button", name="Connection settings").click()
    expect(ours.get_by_label(LABELS["relays"])).to_have_value(other_relay.url)

    # Back to the page's own
    dialog(ours).get_by_role("button", name="Empty the fields").click()
    before = len(relay.heard)
    dialog(ours).get_by_role("button", name="Save").click()
    expect(said(ours)).to_have_text("Nobody else is here yet: send them the link.")
    until(lambda: len(relay.heard) > before)


WRONG = [
    ({"relays": "https://relay.example"}, "relays", "is not the address of a relay"),
    ({"relays": "wss://a.example\nws://b.example"}, "relays", "“ws://b.example” is not"),
    ({"relays": "ws://[::1]:7"}, "relays", "ws://localhost:port"),
    ({"relays": "wss://me:secret@a.example"}, "relays", "is not the address of a relay"),
    ({"relays": "\n".join(f"wss://{n}.example" for n in range(13))}, "relays", "at most 12"),
    ({"stun": "stun.example"}, "stun", "A STUN server is given as stun:host:port."),
    ({"stun": "stun:a.example:99999"}, "stun", "This browser cannot use “stun:a.ex"),
    ({"stun": " ".join(f"stun:{n}.example" for n in range(9))}, "stun", "At most 8"),
    ({"turn": "stun:a.example"}, "turn", "A TURN server is given as turn:host:port"),
    ({"turn": TURN}, "username", "asks for a user name"),
    ({"turn": TURN, "username": "u"}, "credential", "asks for a password"),
    ({"username": "u", "credential": "c"}, "turn", "A TURN server is given as turn:host:port"),
    ({"turn": "turn:a.example?transport=x", "username": "u", "credential": "c"}, "turn",
     "This browser cannot use"),
    ({"hidden": True}, "hidden", "a TURN server is needed, and none is set"),
]  # fmt: skip


def test_what_is_wrong_is_said_next_to_its_field_and_nothing_changes(open_room):
    page = open_room("kitchen")
    for fields, wrong, sentence in WRONG:
        choose(page, name="Ann", **fields)
        field = dialog(page).get_by_label(LABELS[wrong])
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(re.escape(sentence)))
        page.keyboard.press("Escape")
        expect(dialog(page)).to_be_hidden()
    assert page.evaluate("Object.keys(localStorage).filter((key) => /connec|name/.test(key))") == []
    page.get_by_role("button", name="Connection settings").click()
    for name in ("relays", "stun", "turn", "username", "credential", "name"):
        expect(dialog(page).get_by_label(LABELS[name])).to_have_value("")
    expect(dialog(page).locator("[aria-invalid]")).to_have_count(0)
    page.get_by_label(LABELS["relays"]).fill("nothing")
    dialog(page).get_by_role("button", name="Save").click()
    page.get_by_label(LABELS["relays"]).fill("wss://relay.example")  # mended: no longer said
    expect(dialog(page).locator("[aria-invalid]")).to_have_count(0)


def test_who_hides_behind_a_turn_server_is_asked_again_before_showing_the_address(open_room):
    page = open_room("hideout")
    expect(said(page)).to_contain_text("internet address.")
    choose(page, turn=TURN, username="u", credential="c", hidden=True, name="Ann")
    expect(said(page)).to_contain_text("the address of the TURN server instead of")
    expect(said(page)).to_contain_text("the name “Ann”")
    page.evaluate("configured.length = 0")
    page.get_by_role("button", name="Meet the others").click()
    expect(said(page)).to_have_text("Nobody else is here yet: send them the link.")
    used = page.evaluate("configured.filter((one) => one.iceTransportPolicy === 'relay')")
    assert len(used) == len(page.evaluate("configured")) > 10
    assert used[0]["iceServers"] == [{"urls": [TURN], "username": "u", "credential": "c"}]
    page.reload()
    expect(said(page)).to_have_text("Nobody else is here yet: send them the link.")  # agreed before

    # Without it others would see more than was agreed to
    choose(page, hidden=False)
    expect(said(page)).to_contain_text("internet address.")
    assert page.evaluate("document.querySelector('[data-meeting=agree]').hidden") is False
    page.evaluate("configured.length = 0")
    page.get_by_role("button", name="Meet the others").click()
    expect(said(page)).to_have_text("Nobody else is here yet: send them the link.")
    seen = page.evaluate("configured")
    assert seen
    assert all("iceTransportPolicy" not in one for one in seen)
    assert seen[0]["iceServers"][-1] == {"urls": [TURN], "username": "u", "credential": "c"}


def test_a_store_that_others_wrote_into_hides_rather_than_shows(open_room, host):
    page = open_room("kitchen", agreed=True)
    expect(said(page)).to_contain_text("Nobody else is here yet")
    page.evaluate(
        "(text) => localStorage.setItem('p2pweb.connection', text)",
        json.dumps({"relayOnly": True, "turn": ["https://no"], "relays": [7], "stun": "x"}),
    )
    page.reload()
    expect(said(page)).to_contain_text(
        "a TURN server is needed, and none is set: nobody can be met."
    )
    page.evaluate("localStorage.setItem('p2pweb.connection', '{broken')")
    page.reload()
    expect(said(page)).to_contain_text("Nobody else is here yet")


def test_a_name_is_seen_by_others_at_once_and_after_a_reload(open_room):
    ours, theirs = (open_room("names", agreed=True) for _ in range(2))
    for page in (ours, theirs):
        expect(peers(page)).to_have_count(2)
    choose(ours, name="  Zoë \t<b>")
    choose(theirs, name="Bob")
    for page, mine, other in ((ours, "you, as Zoë <b>", "Bob (guest "),
                              (theirs, "you, as Bob", "Zoë <b> (guest ")):  # fmt: skip
        expect(page.get_by_role("list", name="Peers")).to_contain_text(mine)
        expect(page.get_by_role("list", name="Peers")).to_contain_text(other)
    ours.reload()
    expect(peers(ours)).to_have_count(2)
    expect(ours.get_by_role("list", name="Peers")).to_contain_text("you, as Zoë <b>")
    expect(theirs.get_by_role("list", name="Peers")).to_contain_text("Zoë <b> (guest ")
    choose(theirs, name="")
    expect(ours.get_by_role("list", name="Peers")).not_to_contain_text("Bob")


def test_a_relay_that_does_not_answer_is_said_to_be_silent(open_room):
    page = open_room("nowhere", agreed=True)
    choose(page, relays="ws://127.0.0.1:9")
    expect(said(page)).to_have_text("No relay has answered yet; trying again. Work here goes on.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_dialog_is_for_keyboards_and_readers_and_fits(open_room, scheme, width):
    page = open_room("kitchen", color_scheme=scheme, viewport={"width": width, "height": 800})
    button = page.get_by_role("button", name="Connection settings")
    button.focus()
    page.keyboard.press("Enter")
    expect(dialog(page).get_by_label(LABELS["name"])).to_be_focused()
    assert violations(page) == []
    page.get_by_label(LABELS["relays"]).fill("nothing")
    page.get_by_label(LABELS["relays"]).press("Tab")
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label(LABELS["relays"]).fill("nothing")
    page.get_by_label(LABELS["name"]).press("Enter")  # as any form
    expect(page.get_by_label(LABELS["relays"])).to_be_focused()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(
        "() => { const box = document.getElementById('connection');"
        " return box.scrollWidth <= box.clientWidth; }"
    )
