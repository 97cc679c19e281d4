"""GET / and /rooms/: making, entering and finding rooms."""

import re

import pytest

from genqueue import actions
from genqueue.models import Room

pytestmark = pytest.mark.django_db


def test_one_click_makes_a_room_with_128_random_bits_that_is_mine(alice):
    first = alice.browser.post("/rooms/")
    second = alice.browser.post("/rooms/")
    assert first.status_code == 303
    assert re.fullmatch(r"/rooms/[A-Za-z0-9_-]{22}/", first.url)
    assert first.url != second.url
    assert Room.objects.get(pk=first.url.split("/")[2]).owner == alice.client_id


def test_too_many_rooms_from_one_address_are_refused_with_a_sentence(
    alice, bob, settings, clock_of_budgets
):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"rooms_a_minute": 1}
    assert alice.browser.post("/rooms/").status_code == 303
    answer = bob.browser.post("/rooms/")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert "At most 1 rooms a minute" in answer.content.decode()
    refused = bob.browser.post("/rooms/kitchen/", {"prompt": "a rocket"})
    assert refused.status_code == 429
    assert "At most 1 rooms a minute" in refused.content.decode()
    assert Room.objects.count() == 1


@pytest.mark.parametrize(
    "entered", ["kitchen", " kitchen ", "http://testserver/rooms/kitchen/", "/rooms/kitchen/"]
)
def test_entering_an_id_or_a_link_goes_to_the_room(client, entered):
    assert client.get("/rooms/", {"room": entered}).url == "/rooms/kitchen/"


@pytest.mark.parametrize("entered", ["", "no spaces", "x" * 65, "../admin", "http://[", "küche"])
def test_what_is_no_room_id_is_said_next_to_the_field(client, entered):
    answer = client.get("/rooms/", {"room": entered})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.content.decode()
    assert "1 to 64 letters" in answer.content.decode()


def test_only_listed_rooms_are_shown_with_their_newest_picture(alice, studio):
    studio.made("open", alice)
    studio.made("secret", alice)
    Room.objects.filter(pk="open").update(listed=True, title="Come in")
    for path in ("/", "/listed/"):
        page = alice.browser.get(path).content.decode()
        assert "Come in" in page
        assert "/images/0.png" in page
        assert "secret" not in page


def test_a_listed_room_shows_how_many_wait_and_the_newest_picture_that_is_left(alice, studio):
    studio.made("open", alice)
    newest = studio.made("open", alice, num_images=3)
    actions.delete_image(newest.images.first())
    studio.failed("open", alice)
    studio.ask("open", alice)
    Room.objects.update(listed=True)
    page = alice.browser.get("/listed/").content.decode()
    assert f"/api/jobs/{newest.pk}/images/1.png" in page
    assert "0 here, 1 in the queue" in page


def test_a_visitor_gets_a_cookie_that_scripts_cannot_read(client):
    cookie = client.get("/").cookies["p2pweb_client"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


@pytest.mark.parametrize("path", ["/", "/listed/", "/rooms/kitchen/", "/stats/"])
def test_pages_answer_head_and_are_kept_by_no_cache(client, path):
    answer = client.head(path)
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]


def test_pages_that_are_not_there_look_like_ours(client):
    answer = client.get("/nowhere/")
    assert answer.status_code == 404
    assert "There is nothing here." in answer.content.decode()


def test_the_page_for_our_own_errors_needs_nothing_from_the_request():
    from django.template.loader import render_to_string

    assert "Something broke" in render_to_string("500.html")


def test_statistics_are_shown_with_a_dash_where_there_is_no_number_yet(alice, studio):
    before = alice.browser.get("/stats/").content.decode()
    assert "–" in before
    studio.made("kitchen", alice)
    from genqueue import statistics

    statistics.forget()
    after = alice.browser.get("/stats/", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in after
    assert '<th scope="row">done</th><td>1</td><td>1</td>' in after


@pytest.mark.parametrize(
    ("path", "entered"),
    [
        ("/rooms/", "https://site.example/rooms/kitchen/#key=x"),  # by a browser without scripts
        ("/rooms/" + "x" * 22 + "-private/", ""),
    ],
)
def test_there_is_no_private_room_on_a_site(client, path, entered):
    answer = client.get(path, {"room": entered} if entered else {})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert '<p id="no-private" class="error" role="alert">That link leads to a private room' in page
    assert "key=x" not in page
    assert 'role="alert" hidden>That link' in client.get("/").content.decode()
