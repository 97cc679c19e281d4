"""/rooms/{room}/pictures/: what no longer fits on the page that lives."""

import re

import pytest

from rooms import state

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(state, "SHOWN_ENDED_JOBS", 2)
    monkeypatch.setattr(state, "OLDER_JOBS_A_PAGE", 2)


@pytest.fixture
def prompts(kitchen, alice, studio):
    """Of five finished jobs, the newest first; one without a picture was made between them."""
    for number in range(5):
        studio.made(kitchen, alice, f"picture {number}")
        if number == 1:
            studio.failed(kitchen, alice, "no picture")
    return [f"picture {number}" for number in (4, 3, 2, 1, 0)]


def shown(page):
    return re.findall(r'alt="(picture \d)"', page)


def link(page):
    """Where `Older pictures` leads, or None when it is not shown."""
    tag = re.search(r'<a class="button plain"[^>]*>Older pictures</a>', page)
    if tag is None or ' hidden=""' in tag[0]:
        return None
    return re.search(r' href="([^"]+)"', tag[0])[1]


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["plain", "htmx"])
def test_every_picture_is_reached_from_the_room_once(bob, prompts, headers):
    page = bob.browser.get("/rooms/kitchen/").content.decode()
    seen = shown(page)
    assert seen == prompts[:2]
    while (address := link(page)) is not None:
        assert len(seen) < len(prompts)
        page = bob.browser.get(address, headers=headers).content.decode()
        assert ("<html" in page) == (not headers)
        seen += shown(page)
    assert seen == prompts


def test_where_all_fits_nothing_is_older(alice, kitchen, studio):
    studio.made(kitchen, alice)
    assert link(alice.browser.get("/rooms/kitchen/").content.decode()) is None


def test_without_a_place_it_begins_with_the_newest(bob, prompts):
    page = bob.browser.get("/rooms/kitchen/pictures/").content.decode()
    assert shown(page) == prompts[:2]
    assert "Back to Room kitchen" in page


@pytest.mark.parametrize("before", ["x", "", "0." + "z" * 32])
def test_what_is_no_place_is_not_there(bob, prompts, before):
    assert bob.browser.get("/rooms/kitchen/pictures/", {"before": before}).status_code == 404


def test_pictures_of_another_room_are_not_among_them(bob, prompts):
    page = bob.browser.get("/rooms/den/pictures/").content.decode()
    assert shown(page) == []
    assert "There are no older pictures." in page


def test_deleting_one_takes_its_figure_off_the_page(alice, bob, prompts):
    page = alice.browser.get("/rooms/kitchen/pictures/").content.decode()
    address = re.search(r'formaction="([^"]+/delete/)"', page)[1]
    answer = alice.browser.post(address, headers=HTMX).content.decode()
    job_id, index = re.search(r"pictures/([0-9a-f-]+)/(\d)", address).groups()
    assert f'hx-target="#picture-{job_id}-{index}" hx-swap="delete"' in answer


def test_only_their_owners_can_delete(alice, bob, prompts):
    hers = alice.browser.get("/rooms/kitchen/pictures/").content.decode()
    his = bob.browser.get("/rooms/kitchen/pictures/").content.decode()
    hidden = re.compile(r'<button[^>]*formaction="[^"]+/delete/"[^>]* hidden=""')
    assert not hidden.search(hers)
    assert len(hidden.findall(his)) == 2
