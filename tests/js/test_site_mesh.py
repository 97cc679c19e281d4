"""Tabs of the site meet directly: after consent, and give each other what they have computed."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import Browser, Error, Page, expect

from diffusion.random_model import write_random_model
from genqueue import actions, files, packages
from genqueue.models import Image, Job
from tests.browser import _browser, violations
from tests.js.meshed import Heard, compute, exchanged, meet, prepare, red, until
from tests.js.room.conftest import RTC
from tests.js.test_room_page import connected
from tests.relay import ROOT
from tests.studio import settings_of

STEPS = 12


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from _browser(RTC)


@pytest.fixture(scope="session")
def packed(tmp_path_factory) -> Path:
    """Of a model that computes: the page asks which packages there are."""
    folder = tmp_path_factory.mktemp("meshed")
    write_random_model(folder / "models/tiny")
    return folder


@pytest.fixture
def tab(open_page, kitchen, site, packed, settings):
    """tab(person, step_ms): a page of the room, ready to compute, and what the site tells it."""
    settings.MODEL_ROOTS = [packed / "models"]
    settings.DATA_DIR = packed / "data"
    settings.CHUNK_SECONDS = 2.0  # several chunks a picture; less is one for every step under load
    settings.P2PWEB_SPOT_CHECKS = False  # the site sends all of a check itself
    packages.manifest_file("tiny", "f16")  # the one that browsers take first

    def open_(person, step_ms: int = 20) -> tuple[Page, Heard]:
        page = open_page(person, "/stats/")
        heard = prepare(page, step_ms)
        page.goto("/rooms/kitchen/")
        connected(page)
        return page, heard

    return open_


def ask(person, seed: int, images: int = 1) -> Job:
    asked = settings_of(steps=STEPS, seed=seed, num_images=images)
    return actions.submit_job("kitchen", person.client_id, asked)[0]


def finished(page: Page, job: Job) -> None:
    """All its pictures are what all their steps make, whoever did which."""
    expect(page.get_by_role("figure")).to_have_count(job.num_images, timeout=40_000)
    for image in Image.objects.filter(job=job):
        pixels = np.asarray(Picture.open(io.BytesIO(files.read(image.picture))))
        assert pixels[0, 0, 0] == red(image.seed, STEPS)


def both_compute_and_meet(tab, alice, bob, step_ms=(20, 20)) -> list[tuple[Page, Heard]]:
    tabs = [tab(alice, step_ms[0]), tab(bob, step_ms[1])]
    for page, _ in tabs:
        compute(page)
        meet(page)
    for page, _ in tabs:
        until(page, "mesh.peers.length === 1")
    return tabs


def test_nobody_is_met_before_somebody_agrees_and_a_tab_that_watches_is_not_asked(tab, alice, bob):
    page, _ = tab(alice)
    meeting = page.locator("#meeting")
    button = page.get_by_role("button", name="Meet the others")
    loaded = "performance.getEntriesByType('resource').map(({ name }) => name).join()"
    expect(meeting).to_be_hidden()
    assert "/js/room/p2p-network.js" not in page.evaluate(loaded)
    compute(page)
    expect(meeting).to_contain_text("internet address")
    assert "vendor/trystero" not in page.evaluate(loaded)
    assert violations(page) == []
    button.click()
    expect(meeting).to_contain_text("No other tab that computes is met yet.")
    expect(button).to_be_hidden()
    assert "vendor/trystero" in page.evaluate(loaded)
    # Once for each room
    page.reload()
    compute(page)
    expect(meeting).to_contain_text("No other tab that computes is met yet.")
    page.get_by_role("button", name="Stop").click()
    expect(meeting).to_be_hidden()
    until(page, "mesh.id === null")


def test_what_one_tab_has_computed_goes_directly_to_the_other(tab, alice, bob):
    (mine, from_site_to_me), (theirs, from_site_to_them) = both_compute_and_meet(
        tab, alice, bob, (20, 60)
    )
    job = ask(alice, seed=7, images=3)
    finished(mine, job)
    told = [from_site_to_me, from_site_to_them]
    assert {"prompt", "negative"} <= told[0].direct() | told[1].direct()
    moved = [exchanged(page) for page in (mine, theirs)]
    assert moved[0]["taken"] + moved[1]["taken"] >= 2
    assert moved[0]["missed"] == moved[1]["missed"] == 0
    assert moved[0]["takenBytes"] == moved[1]["givenBytes"]
    assert moved[1]["takenBytes"] == moved[0]["givenBytes"]
    assert sum(heard.bytes for heard in told) == 0, "the site sent no tensor"


# Faults -------------------------------------------------------------------------------------------
KEPT = "const bytes = this.#kept.get(name) ?? null;"


def giving(page: Page, otherwise: str) -> None:
    """This page gives others something else than what it keeps."""
    source = (ROOT / "static/js/work/exchange.js").read_text()
    assert KEPT in source
    changed = source.replace(KEPT, f"const bytes = {otherwise};")
    page.route(
        "**/js/work/exchange.js",
        lambda route: route.fulfill(body=changed, content_type="text/javascript"),
    )


@pytest.mark.parametrize(
    "otherwise",
    ["this.#kept.get(name)?.map((byte) => byte ^ 1) ?? null", "null"],
    ids=["wrong bytes", "nothing"],
)
def test_what_others_do_not_give_comes_from_the_site(tab, alice, bob, otherwise):
    (mine, to_me), (theirs, to_them) = tabs = [tab(alice), tab(bob, 60)]
    for page, _ in tabs:
        giving(page, otherwise)
        page.reload()
        compute(page)
        meet(page)
    for page, _ in tabs:
        until(page, "mesh.peers.length === 1")
    job = ask(alice, seed=7, images=3)
    finished(mine, job)
    assert to_me.direct() | to_them.direct() >= {"prompt", "negative"}
    assert to_me.bytes + to_them.bytes >= 350 * 48 * 4
    counts = [exchanged(page) for page in (mine, theirs)]
    assert sum(one["taken"] for one in counts) == 0
    assert sum(one["missed"] for one in counts) >= 2
    told = sum(one["wrong"] for one in counts)
    assert (told > 0) == ("map" in otherwise), "who gives wrong bytes is told"


def test_tabs_stay_connected_while_the_site_is_away_and_meet_others_when_it_is_back(
    tab, alice, bob, charlie, site
):
    tabs = both_compute_and_meet(tab, alice, bob)
    site.blocked = True
    site.drop_sockets()
    for page, _ in tabs:
        until(page, "mesh.signalling === 'lost'")
        assert page.evaluate("mesh.peers.length") == 1
    site.blocked = False
    third = tab(charlie)
    compute(third[0])
    meet(third[0])
    for page, _ in [*tabs, third]:
        until(page, "mesh.signalling === 'open' && mesh.peers.length === 2", seconds=40)
    everybody = [*tabs, third]
    sent = sum(heard.bytes for _, heard in everybody)
    job = ask(alice, seed=3, images=3)
    finished(tabs[0][0], job)
    assert any(heard.direct() for _, heard in everybody)
    assert sum(heard.bytes for _, heard in everybody) == sent


def test_a_tab_that_is_killed_while_another_one_waits_for_it_loses_nothing(
    tab, alice, bob, charlie
):
    watching, _ = tab(charlie)
    tabs = [tab(alice), tab(bob)]
    for page, _ in tabs:
        giving(page, "new Promise(() => {})")
        page.reload()
        compute(page)
        meet(page)
    for page, _ in tabs:
        until(page, "mesh.peers.length === 1")
    job = ask(charlie, seed=4, images=3)
    deadline = time.monotonic() + 20
    while not any(heard.direct() for _, heard in tabs):
        tabs[0][0].wait_for_timeout(20)
        assert time.monotonic() < deadline
    [giver] = [page for page, heard in tabs if not heard.direct()]
    with pytest.raises(Error):
        giver.goto("chrome://crash")
    finished(watching, job)
    [taker] = [heard for _, heard in tabs if heard.direct()]
    assert taker.bytes >= 350 * 48 * 4, "the site has sent what was waited for"
