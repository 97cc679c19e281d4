"""By which STUN and TURN servers tabs of a site meet, and whether they show their addresses."""

from playwright.sync_api import Page, expect

from rooms.ice import ice
from tests.browser import violations
from tests.js.meshed import compute, exchanged, meet, until
from tests.js.room.conftest import RTC_SPY
from tests.js.test_site_mesh import ask, both_compute_and_meet, chromium, finished, packed, tab

__all__ = ["chromium", "packed", "tab"]

STUN, TURN = "stun:127.0.0.1:9", "turn:127.0.0.1:9?transport=udp"  # where nobody answers
TURN_SERVER = {"urls": [TURN], "username": "u", "credential": "c"}
NOBODY = "No other tab that computes is met yet."


def with_turn(settings, *stun: str, **more) -> None:
    settings.P2PWEB_ICE = ice(stun, [TURN], username="u", credential="c", **more)


def spied(tab, person) -> Page:
    page, _ = tab(person)
    page.add_init_script(RTC_SPY)
    page.reload()
    compute(page)
    return page


def hide(page: Page):
    return page.get_by_label("Hide this computer")


def meeting(page: Page):
    return page.locator("#meeting")


def configured(page: Page) -> list[dict]:
    """Of every connection since this was asked last."""
    expect(meeting(page)).to_contain_text(NOBODY)
    page.wait_for_function("() => configured.length > 0")
    return page.evaluate("configured.splice(0)")


def test_the_sites_servers_are_used_and_an_address_is_hidden_and_shown_as_its_person_wants(
    tab, alice, settings
):
    with_turn(settings, STUN)
    page = spied(tab, alice)
    expect(hide(page)).not_to_be_checked()
    expect(meeting(page)).to_contain_text("internet address.")
    assert violations(page) == []
    hide(page).check()
    expect(meeting(page)).to_contain_text("the address of the TURN server instead of")
    assert page.evaluate("configured") == [], "nobody has agreed yet"
    meet(page)
    for used in configured(page):
        assert used["iceTransportPolicy"] == "relay"
        assert used["iceServers"] == [TURN_SERVER]

    # Both are remembered, here and in no link
    page.reload()
    compute(page)
    expect(hide(page)).to_be_checked()
    assert {used["iceTransportPolicy"] for used in configured(page)} == {"relay"}

    # To show the address is more than was agreed to
    hide(page).uncheck()
    expect(meeting(page)).to_contain_text("internet address.")
    until(page, "mesh.id === null")
    page.evaluate("configured.length = 0")
    meet(page)
    for used in configured(page):
        assert "iceTransportPolicy" not in used
        assert used["iceServers"] == [{"urls": [STUN]}, TURN_SERVER]


def test_a_site_may_hide_everybody(tab, alice, settings):
    with_turn(settings, relay_only=True)
    page = spied(tab, alice)
    expect(hide(page)).to_have_count(0)
    expect(meeting(page)).to_contain_text("the address of the TURN server instead of")
    meet(page)
    assert {used["iceTransportPolicy"] for used in configured(page)} == {"relay"}


def test_without_servers_of_the_site_public_ones_are_asked_or_none(tab, alice, bob, settings):
    page = spied(tab, alice)
    expect(hide(page)).to_have_count(0)
    meet(page)
    urls = [server["urls"] for server in configured(page)[0]["iceServers"]]
    assert [host.split(":")[0] for [host] in urls] == ["stun", "stun"]
    page.close()
    settings.P2PWEB_ICE = ice(["none"], [])
    page = spied(tab, bob)
    meet(page)
    assert configured(page)[0]["iceServers"] == []


def test_who_hides_leaves_those_who_were_met_and_work_goes_on_and_comes_back(
    tab, alice, bob, settings
):
    """Over a TURN server that does not answer nobody is met; the site still is."""
    with_turn(settings, "none")
    (mine, _), (theirs, _) = both_compute_and_meet(tab, alice, bob, (20, 60))
    hide(mine).check()
    for page in (mine, theirs):
        until(page, "mesh.peers.length === 0")
    finished(mine, ask(alice, seed=7))
    for page in (mine, theirs):
        moved = exchanged(page)
        assert moved["taken"] + moved["given"] == 0
    hide(mine).uncheck()  # which was agreed to before
    for page in (mine, theirs):
        until(page, "mesh.peers.length === 1", seconds=40)
    ask(alice, seed=9, images=2)
    expect(mine.get_by_role("figure")).to_have_count(3, timeout=90_000)
    for page in (mine, theirs):
        moved = exchanged(page)
        assert moved["taken"] + moved["given"] > 0
