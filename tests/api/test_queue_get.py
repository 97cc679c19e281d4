"""GET /api/queue/{room}"""

import pytest

from genqueue import actions
from genqueue.models import Room
from genqueue.representation import room_as_json
from genqueue.shapes import RoomJson
from tests.api.conftest import has_shape, post, refused

pytestmark = pytest.mark.django_db


def test_a_room_nobody_has_used_is_empty(charlie):
    response = charlie.browser.get("/api/queue/nowhere")
    assert response.status_code == 200
    assert response.json()["room"] == "nowhere"
    assert response.json()["jobs"] == []
    assert Room.objects.count() == 0


def test_positions_count_over_all_rooms(alice, bob):
    for person, room in ((alice, "kitchen"), (bob, "cellar")):
        post(person.browser, room=room)
    positions = [
        job["position"]
        for room in ("kitchen", "cellar")
        for job in alice.browser.get(f"/api/queue/{room}").json()["jobs"]
    ]
    assert sorted(positions) == [1, 2]


def test_jobs_are_listed_in_order_with_their_positions(alice, bob):
    made = [post(person.browser).json()["id"] for person in (alice, bob, alice)]
    jobs = bob.browser.get("/api/queue/kitchen").json()["jobs"]
    assert [job["id"] for job in jobs] == made
    assert sorted(job["position"] for job in jobs) == [1, 2, 3]


def test_it_is_what_pages_and_sockets_get_and_what_the_schema_says(alice):
    post(alice.browser, body={"prompt": "a rocket", "num_images": 3})
    room = alice.browser.get("/api/queue/kitchen").json()
    assert room == room_as_json("kitchen")
    assert has_shape(room, RoomJson)


def test_client_ids_tokens_and_file_names_stay_inside(alice, bob):
    token = post(alice.browser).json()["token"]
    text = bob.browser.get("/api/queue/kitchen").content.decode()
    assert alice.label in text
    for secret in (alice.client_id, token, "token", "jobs/", "/tmp"):
        assert secret not in text.replace("/api/jobs/", "")


def test_live_state_is_never_stored(alice):
    assert alice.browser.get("/api/queue/kitchen").headers["Cache-Control"] == "no-store"


def test_looking_at_a_room_sets_no_cookie(client):
    assert not client.get("/api/queue/kitchen").cookies


def test_a_paused_room_says_so(alice):
    post(alice.browser)
    actions.pause_room(Room.objects.get(), True)
    assert alice.browser.get("/api/queue/kitchen").json()["paused"] is True


def test_an_invalid_room_id_is_refused(alice):
    refused(alice.browser.get("/api/queue/a.b"), 422, "invalid-room-id")
