"""POST /api/join/{room}"""

import json

import pytest
from django.test import Client

from genqueue import actions, helpers
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


# A worker of the caller's own ---------------------------------------------------------------------
MINE = {"name": "attic", "device": "cuda NVIDIA", "variant": "bf16", "models": ["a" * 64]}


@pytest.fixture
def same_model(monkeypatch):
    """The model of this site has the id that the caller's has."""
    monkeypatch.setattr(helpers, "identity", lambda folder: "a" * 64)


def bring(browser, **changes):
    body = json.dumps({**MINE, **changes})
    return browser.post("/api/join/kitchen", body, "application/json")


def test_a_described_worker_gets_id_token_and_address(alice, same_model):
    response = bring(alice.browser, models=["b" * 64, "a" * 64])
    assert response.status_code == 201
    joined = response.json()
    assert has_shape(joined, JoinJson)
    row = Worker.objects.get()
    helper = joined["helper"]
    assert helper["id"] == str(row.pk)
    assert helper["socket"] == f"ws://testserver/ws/rooms/kitchen/helpers/{row.pk}/"
    assert helper["models"] == {"tiny": "a" * 64}
    assert helpers.known(row.pk, "kitchen", helper["token"]) == row
    assert helpers.known(row.pk, "kitchen", "another") is None
    assert (row.kind, row.state, row.room_id) == ("remote", "loading", "kitchen")
    assert (row.name, row.device, row.variant) == ("attic", "cuda NVIDIA", "bf16")
    shown = alice.browser.get("/api/queue/kitchen")
    assert [worker["name"] for worker in shown.json()["workers"]] == ["attic"]
    assert helper["token"] not in shown.content.decode()


def test_a_model_is_known_by_its_weights_not_by_its_name(alice, same_model):
    refused(bring(alice.browser, models=["b" * 64]), 422, "unknown-model")
    assert not Worker.objects.exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": ""}, "invalid-value"), ({"name": "a\nb"}, "invalid-value"),
        ({"name": "a" * 41}, "invalid-value"), ({"name": 1}, "wrong-type"),
        ({"device": "x" * 121}, "invalid-value"), ({"models": []}, "invalid-value"),
        ({"models": ["a"]}, "invalid-value"), ({"models": "a" * 64}, "invalid-value"),
        ({"variant": "f8"}, "invalid-value"), ({"software": 1}, "wrong-type"),
        ({"color": "red"}, "unknown-field"),
    ],
)  # fmt: skip
def test_a_description_that_makes_no_sense_is_refused(alice, same_model, changes, code):
    refused(bring(alice.browser, **changes), 422, code)
    assert not Worker.objects.exists()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"[]", "application/json", 422, "not-an-object"),
        (b"{", "application/json", 400, "broken-json"),
        (b"a=1", "x/y", 415, "wrong-content-type"),
        (b'{"name": "attic"}', "application/json", 422, "missing-field"),
    ],
)
def test_a_body_that_describes_nothing_is_refused(alice, body, content_type, status, code):
    refused(alice.browser.post("/api/join/kitchen", body, content_type), status, code)
    assert Room.objects.count() == 0


def test_whom_the_owner_does_not_want_cannot_bring_one(alice, bob, same_model):
    post(alice.browser)
    room = Room.objects.get()
    actions.let_tabs_help(room, False)
    refused(bring(bob.browser), 403, "tabs-not-wanted")
    actions.let_tabs_help(room, True)
    actions.remove_client(room, bob.label)
    refused(bring(bob.browser), 403, "client-removed")


def test_an_address_brings_only_so_many_a_minute(alice, same_model, settings, clock_of_budgets):
    settings.P2PWEB_LIMITS = {**settings.P2PWEB_LIMITS, "helpers_a_minute": 2}
    assert [bring(alice.browser).status_code for _ in range(2)] == [201, 201]
    refused(bring(alice.browser), 429, "too-many-helpers")
    assert Worker.objects.count() == 2
    clock_of_budgets.now += 60
    assert bring(alice.browser).status_code == 201


def test_a_client_brings_only_so_many(alice, bob, same_model, settings):
    settings.P2PWEB_LIMITS = {**settings.P2PWEB_LIMITS, "client_tabs": 1}
    assert bring(alice.browser).status_code == 201
    refused(bring(alice.browser), 429, "too-many-tabs")
    assert bring(bob.browser).status_code == 201


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
    refused(response, 415, "wrong-content-type")
