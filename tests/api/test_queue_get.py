"""GET /api/queue/{room}"""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from genqueue import actions, forecast, representation
from genqueue.models import Job, Room
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


def test_ended_jobs_come_in_pages_and_unfinished_ones_always(alice, monkeypatch):
    monkeypatch.setattr(representation, "ENDED_JOBS_A_PAGE", 2)
    waiting = post(alice.browser).json()["id"]
    ended = [post(alice.browser).json()["id"] for _ in range(5)]
    for job in Job.objects.filter(pk__in=ended):
        actions.cancel_job(job)
    Job.objects.filter(pk__in=ended[1:4]).update(created_at=timezone.now())  # the same moment
    order = [str(job.pk) for job in Job.objects.all()]
    assert order[0] == waiting

    def page(before=None):
        query = {} if before is None else {"before": before}
        room = alice.browser.get("/api/queue/kitchen", query).json()
        assert has_shape(room, RoomJson)
        return [job["id"] for job in room["jobs"]], room["older"]

    newest, older = page()
    assert newest == [waiting, *order[-2:]]
    second, oldest = page(older)
    assert second == order[-4:-2]
    actions.delete_job(Job.objects.get(pk=second[0]))  # where the next page goes on from
    assert page(oldest) == (order[-5:-4], None)


def test_when_nothing_is_older_it_says_so(alice, monkeypatch):
    monkeypatch.setattr(representation, "ENDED_JOBS_A_PAGE", 1)
    actions.cancel_job(Job.objects.get(pk=post(alice.browser).json()["id"]))
    post(alice.browser)
    assert alice.browser.get("/api/queue/kitchen").json()["older"] is None


@pytest.mark.parametrize(
    "before", ["", "x", "7", "0.0", "-1." + "0" * 32, "9" * 18 + "." + "0" * 32, "٣." + "0" * 32,
               "1." + "G" * 32, "1." + "0" * 32 + "\n", "\0"],
)  # fmt: skip
def test_what_is_no_place_to_go_on_from_is_refused(alice, before):
    response = alice.browser.get("/api/queue/kitchen", {"before": before})
    assert refused(response, 422, "invalid-value")["field"] == "before"


@pytest.mark.parametrize("moment", ["0", "9" * 17])
def test_a_place_at_the_ends_of_time_is_one(alice, moment):
    answer = alice.browser.get("/api/queue/kitchen", {"before": f"{moment}.{'f' * 32}"})
    assert answer.status_code == 200


def test_a_room_takes_as_many_queries_however_many_jobs_it_has(alice):
    def queries() -> int:
        forecast.forget()
        with CaptureQueriesContext(connection) as asked:
            alice.browser.get("/api/queue/kitchen")
        return len(asked)

    post(alice.browser)
    few = queries()
    for _ in range(4):
        post(alice.browser, body={"prompt": "a rocket", "num_images": 4})
    assert queries() == few


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
