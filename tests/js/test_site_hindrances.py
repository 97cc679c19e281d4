"""What keeps a tab of the site from meeting others is said as long as it is true."""

from datetime import datetime, timedelta

from playwright.sync_api import expect

from tests.js.meshed import compute, until
from tests.js.test_hindrances import (
    NO_RELAY,
    OTHER_VERSION,
    TELLS_AGAIN_MS,
    meets,
    of_another_version,
    said,
)
from tests.js.test_site_mesh import both_compute_and_meet, chromium, packed, tab

__all__ = ["chromium", "packed", "tab"]


def test_somebody_who_cannot_be_met_is_named_and_not_only_for_a_moment(tab, alice, bob):
    pages = [tab(person)[0] for person in (alice, bob)]
    of_another_version(pages[1])
    for page in pages:
        compute(page)
        meets(page)
    for page in pages:
        expect(said(page)).to_have_text(OTHER_VERSION)
    page.wait_for_timeout(TELLS_AGAIN_MS)
    for page in pages:
        expect(said(page)).to_have_text(OTHER_VERSION)


def test_that_the_way_to_newcomers_is_lost_is_said_beside_those_who_are_met(tab, alice, bob, site):
    tabs = both_compute_and_meet(tab, alice, bob)
    site.blocked = True
    site.drop_sockets()
    for page, _ in tabs:
        expect(said(page)).to_contain_text(f"One other tab is met directly. {NO_RELAY}")
    site.blocked = False
    for page, _ in tabs:
        until(page, "mesh.signalling === 'open'", seconds=40)
        expect(said(page)).to_have_text("One other tab is met directly.")


def test_a_wrong_clock_is_said(tab, alice):
    page, _ = tab(alice)
    page.clock.install()
    page.clock.set_system_time(datetime.now() + timedelta(hours=2))
    compute(page)
    meets(page)
    expect(said(page)).to_contain_text("clock is about 2 hours ahead of the relay")
    page.wait_for_timeout(TELLS_AGAIN_MS)
    expect(said(page)).to_contain_text("nobody new can be met until the clock is set right")
