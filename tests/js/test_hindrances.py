"""What keeps a tab of an exported page from meeting others is said as long as it is true, beside
those who are met too. test_site_hindrances.py has the same of a tab of the site."""

import re
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser import violations
from tests.js.exported import StaticHost
from tests.js.room.conftest import relay as bare
from tests.js.room.conftest import rtc_chromium
from tests.js.room.relays import CarelessRelay
from tests.js.room.test_unmet import NO_WAY
from tests.js.visiting import Visit, host, peers, relay, visit
from tests.relay import ROOT, BareRelay

__all__ = ["bare", "host", "relay", "rtc_chromium", "visit"]

TELLS_AGAIN_MS = 4000  # the sentence is made anew every 3 s
OTHER_VERSION = "Somebody here has another version of this page: reload it to meet them."
NO_RELAY = "No relay is within reach: whoever comes now cannot be met until one is back"


def said(page: Page):
    return page.locator('[data-meeting="said"]')


def meets(page: Page) -> None:
    page.get_by_role("button", name="Meet the others").click()


def of_another_version(page: Page) -> None:
    """From now on this page greets others otherwise."""
    source = (ROOT / "static/js/room/peer.js").read_text()
    assert "PROTOCOL = 2;" in source
    page.route(
        "**/js/room/peer.js",
        lambda route: route.fulfill(
            body=source.replace("PROTOCOL = 2;", "PROTOCOL = 3;"), content_type="text/javascript"
        ),
    )


def visitor(visit: Visit, host: StaticHost, room: str, **options) -> Page:
    return visit(f"{host.url}room.html#{room}", **options)


def test_another_version_is_named_alone_and_among_others(visit, host):
    ours, theirs, third = (visitor(visit, host, "versions") for _ in range(3))
    of_another_version(theirs)
    for page in (ours, theirs):
        meets(page)
    for page in (ours, theirs):
        expect(said(page)).to_have_text(OTHER_VERSION)
    meets(third)
    for page in (ours, third):
        expect(said(page)).to_have_text(
            re.compile(f"^One other tab is here. .* the room.s queue. {OTHER_VERSION}$")
        )
        expect(peers(page)).to_have_count(2)
    expect(peers(theirs)).to_have_count(1)


def test_no_way_through_the_networks_is_said_until_there_is_one(visit, host):
    two = [visitor(visit, host, "apart", script=NO_WAY) for _ in range(2)]
    for page in two:
        page.clock.install()
        meets(page)
    for page in two:
        page.wait_for_function("() => window.heard")
        expect(said(page)).to_have_text("Nobody else is here yet: send them the link.")
    for page in two:
        page.clock.fast_forward(24_000)
    for page in two:
        expect(said(page)).to_contain_text("no way through the networks in between was found")
    two[0].wait_for_timeout(TELLS_AGAIN_MS)
    for page in two:
        expect(said(page)).to_contain_text("a TURN server is needed.")
        page.evaluate("window.apart = false")
    assert violations(two[0]) == []
    for page in two:
        page.clock.fast_forward(61_000)
    for page in two:
        expect(said(page)).to_have_text(re.compile("^One other tab is here. .* queue.$"))


def test_that_no_relay_is_left_is_said_beside_those_who_are_met(visit, host, relay: CarelessRelay):
    two = [visitor(visit, host, "lost") for _ in range(2)]
    for page in two:
        meets(page)
    for page in two:
        expect(said(page)).to_contain_text("One other tab is here.")
    relay.refuse()
    for page in two:
        expect(said(page)).to_have_text(re.compile(f"^One other tab is here. .*{NO_RELAY}"))
    relay.refuses = False
    for page in two:
        expect(said(page)).not_to_contain_text("relay", timeout=30_000)
        expect(said(page)).to_contain_text("One other tab is here.")


@pytest.mark.parametrize(
    ("off", "words"),
    [
        (timedelta(hours=2), "about 2 hours ahead of"),
        (timedelta(minutes=-85), "about 85 minutes behind"),
        (timedelta(days=-400), "about 400 days behind"),
    ],
)
def test_a_wrong_clock_is_said_with_by_about_how_much_until_it_is_right(
    visit, host, bare: BareRelay, off: timedelta, words: str
):
    chosen = f"""localStorage.setItem('p2pweb.connection', JSON.stringify({{
      relays: ['{bare.url}'], stun: [], turn: [], username: '', credential: '', relayOnly: false,
    }}))"""
    page = visitor(visit, host, "clocks", script=chosen)
    page.clock.install()
    page.clock.set_system_time(datetime.now() + off)
    meets(page)
    expect(said(page)).to_have_text(
        re.compile(
            f"^This computer.s clock is {words} the relay.s: nothing is taken from here, and "
            "nobody new can be met until the clock is set right.$"
        )
    )
    page.clock.set_system_time(datetime.now())
    page.clock.fast_forward(16_000)
    expect(said(page)).to_contain_text("Nobody else is here yet")


def test_a_clock_that_nobody_has_measured_is_said_to_be_wrong(visit, host):
    page = visitor(visit, host, "clocks")
    text = page.evaluate(
        """async () => {
          const { hindrances } = await import('page/mesh/hindrances.js');
          const state = { signalling: 'connecting', relays: [], clock: { aheadS: null } };
          return hindrances({ state, problem: null, met: 0 });
        }"""
    )
    assert text.startswith("No relay has answered yet; trying again. Work here goes on. This comp")
    assert text.endswith(
        "clock seems to be wrong: nothing is taken from here, and nobody new can be met until the "
        "clock is set right."
    )
