"""POST /api/join/{room}"""

import pytest
from django.test import Client

from genqueue import actions
from genqueue.api.schemas import JoinJson
from genqueue.models import Room, Worker
from genqueue.transitions import WorkerState
from tests.api.conftest import has_shape, post, refused

pytestmark = pytest.mark.django_db


def test_the_servers_workers_help_from_now_on(alice):
    Worker.objects.create(name="server", state=WorkerState.READY, device="cpu")
    actions.join_server(actions.make_room("kitchen", alice.client_id), helps=False)
    assert alice.browser.get("/api/queue/kitchen").json()["workers"] == []
    response = alice.browser.post("/api/join/kitchen")
    assert response.status_code == 200
    joined = response.json()
    assert has_shape(joined, JoinJson)
    assert joined["joined"] is True
    assert [worker["device"] for worker in joined["workers"]] == ["cpu"]
    assert Room.objects.get().server_helps


def test_asking_again_changes_nothing(alice):
    post(alice.browser)
    revision = Room.objects.get().revision
    again = alice.browser.post("/api/join/kitchen").json()
    assert again["joined"] is False
    assert Room.objects.get().revision == revision


def test_it_says_when_no_worker_is_running(alice):
    assert "none of its workers" in alice.browser.post("/api/join/kitchen").json()["detail"]


def test_in_a_room_nobody_has_used_they_help_anyway_and_no_row_is_made(alice):
    Worker.objects.create(name="server", state=WorkerState.READY, device="cpu")
    response = alice.browser.post("/api/join/kitchen")
    joined = response.json()
    assert has_shape(joined, JoinJson)
    assert joined["joined"] is False
    assert [worker["name"] for worker in joined["workers"]] == ["server"]
    assert Room.objects.count() == 0
    assert not response.cookies


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b'{"name": "my gpu"}', "application/json"), (b"[]", "application/json"), (b"a=1", "x/y")],
)
def test_a_description_of_a_worker_is_refused(alice, body, content_type):
    response = alice.browser.post("/api/join/kitchen", body, content_type)
    refused(response, 422, "body-not-expected")
    assert Room.objects.count() == 0


@pytest.mark.parametrize("body", [b"", b" ", b"{}"])
def test_an_empty_json_body_is_no_description(alice, body):
    assert alice.browser.post("/api/join/kitchen", body, "application/json").status_code == 200


def test_pages_of_other_sites_cannot_join(alice):
    response = alice.browser.post("/api/join/kitchen", headers={"Sec-Fetch-Site": "cross-site"})
    refused(response, 403, "cross-site")


def test_a_removed_client_is_refused(alice, bob):
    post(alice.browser)
    actions.remove_client(Room.objects.get(), bob.label)
    refused(bob.browser.post("/api/join/kitchen"), 403, "client-removed")


def test_an_invalid_room_id_is_refused(alice):
    refused(alice.browser.post("/api/join/a.b"), 422, "invalid-room-id")


def test_a_browser_form_cannot_join_with_an_upload():
    response = Client().post("/api/join/kitchen", {"a": "b"})
    refused(response, 422, "body-not-expected")
