"""POST /api/queue/{room}"""

import json
import uuid

import pytest
from django.test import Client

from genqueue import actions, clients
from genqueue.models import Job, Room
from tests.api.conftest import post, refused

pytestmark = pytest.mark.django_db


def test_it_answers_with_the_job_its_token_and_its_address(alice):
    response = post(alice.browser, body={"prompt": "a rocket", "seed": 7, "num_images": 2})
    assert response.status_code == 201
    job = response.json()
    assert response.headers["Location"] == f"/api/jobs/{uuid.UUID(job['id'])}"
    assert response.headers["Cache-Control"] == "no-store"
    assert len(job["token"]) >= 40
    assert job["room"] == "kitchen"
    assert job["client"] == alice.label
    assert job["state"] == "queued"
    assert job["position"] == 1
    assert [image["seed"] for image in job["images"]] == [7, 8]
    assert job["room_paused"] is False


def test_absent_and_null_fields_get_the_models_defaults(alice, tiny):
    for body in ({"prompt": "a rocket"}, {"prompt": "a rocket", "width": None, "seed": None}):
        job = post(alice.browser, body=body).json()
        assert (job["model"], job["width"], job["height"]) == (tiny, 256, 256)
        assert (job["steps"], job["guidance"], job["num_images"]) == (8, 4.0, 1)
        assert job["negative_prompt"] == ""


def test_the_server_chooses_a_seed_when_there_is_none(alice):
    seeds = {post(alice.browser).json()["seed"] for _ in range(4)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_edges_of_every_range_are_accepted(alice):
    low = {"steps": 1, "guidance": 1, "seed": 0, "num_images": 1, "width": 64, "height": 512}
    high = {"steps": 100, "guidance": 20, "seed": 2**32 - 1, "num_images": 16, "width": 512}
    for body in (low, high):
        response = post(alice.browser, body={"prompt": "x" * 2000, **body})
        assert response.status_code == 201
        assert {name: response.json()[name] for name in body} == body


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"prompt": ""}, "prompt-empty", "prompt"),
        ({"prompt": " \n\t"}, "prompt-empty", "prompt"),
        ({"prompt": "x" * 2001}, "prompt-too-long", "prompt"),
        ({"prompt": "红色的火箭"}, "prompt-cleaned-away", "prompt"),
        ({"prompt": "a\0b"}, "prompt-not-text", "prompt"),
        ({"prompt": "a\ud83d"}, "prompt-not-text", "prompt"),
        ({"negative_prompt": "x" * 2001}, "negative-prompt-too-long", "negative_prompt"),
        ({"negative_prompt": "\0"}, "negative-prompt-not-text", "negative_prompt"),
        ({"model": "nowhere"}, "unknown-model", "model"),
        ({"model": "\0"}, "unknown-model", "model"),
        ({"model": "../tiny"}, "unknown-model", "model"),
        ({"width": 250}, "side-not-multiple", "width"),
        ({"height": 1}, "side-not-multiple", "height"),
        ({"width": 0}, "side-out-of-range", "width"),
        ({"width": -256}, "side-out-of-range", "width"),
        ({"height": 528}, "side-out-of-range", "height"),
        ({"steps": 0}, "steps-out-of-range", "steps"),
        ({"steps": 101}, "steps-out-of-range", "steps"),
        ({"guidance": 0.99}, "guidance-out-of-range", "guidance"),
        ({"guidance": 20.01}, "guidance-out-of-range", "guidance"),
        ({"num_images": 0}, "num-images-out-of-range", "num_images"),
        ({"num_images": 17}, "num-images-out-of-range", "num_images"),
        ({"seed": -1}, "seed-out-of-range", "seed"),
        ({"seed": 2**32}, "seed-out-of-range", "seed"),
        ({"steps": "8"}, "wrong-type", "steps"),
        ({"steps": True}, "wrong-type", "steps"),
        ({"steps": 8.0}, "wrong-type", "steps"),
        ({"guidance": "4"}, "wrong-type", "guidance"),
        ({"guidance": False}, "wrong-type", "guidance"),
        ({"seed": 7.0}, "wrong-type", "seed"),
        ({"prompt": 7}, "wrong-type", "prompt"),
        ({"prompt": None}, "wrong-type", "prompt"),
        ({"negative_prompt": ["x"]}, "wrong-type", "negative_prompt"),
        ({"model": {}}, "wrong-type", "model"),
        ({"colour": "red"}, "unknown-field", "colour"),
        ({"token": "mine"}, "unknown-field", "token"),
    ],
)
def test_what_cannot_be_granted_is_refused_with_its_code(alice, changes, code, field):
    problem = refused(post(alice.browser, body={"prompt": "a rocket", **changes}), 422, code)
    assert problem["field"] == field
    assert Job.objects.count() == 0


def test_the_cleaning_that_deletes_cjk_is_explained(alice):
    problem = refused(post(alice.browser, body={"prompt": "月"}), 422, "prompt-cleaned-away")
    assert "Chinese" in problem["detail"]


def test_all_wrong_fields_are_named_at_once(alice):
    problem = refused(post(alice.browser, body={"steps": "8", "seed": 1.5}), 422, "missing-field")
    assert {error["field"] for error in problem["errors"]} == {"prompt", "steps", "seed"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b" ", 400, "broken-json"),
        (b"{", 400, "broken-json"),
        (b'{"prompt": "a"} x', 400, "broken-json"),
        (b'{"prompt": "\xff"}', 400, "broken-json"),
        ('{"prompt": "a"}'.encode("utf-16"), 400, "broken-json"),
        (b'\xef\xbb\xbf{"prompt": "a"}', 400, "broken-json"),
        (b'{"prompt": "a", "guidance": NaN}', 400, "broken-json"),
        (b'{"prompt": "a", "guidance": -Infinity}', 400, "broken-json"),
        (b'{"prompt": "a", "guidance": 1e999}', 400, "broken-json"),
        (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", 400, "broken-json"),
        (b"[" * 100_000, 400, "broken-json"),
        (b'{"a":' * 40_000, 400, "broken-json"),
        (b"[]", 422, "not-an-object"),
        (b'"prompt"', 422, "not-an-object"),
        (b"null", 422, "not-an-object"),
        (b"{}", 422, "missing-field"),
        (b'{"prompt": "a", "\\ud800": 1}', 422, "unknown-field"),
        (b'{"prompt": "a", "seed": 99999999999999999999999}', 422, "seed-out-of-range"),
        (b'{"prompt": "a", "guidance": 1e300}', 422, "guidance-out-of-range"),
    ],
)
def test_what_is_not_a_json_object_is_refused(alice, body, status, code):
    refused(post(alice.browser, body=body), status, code)


def test_of_duplicate_keys_the_last_counts(alice):
    assert post(alice.browser, body=b'{"prompt": "a", "prompt": "b"}').json()["prompt"] == "b"


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""],
)
def test_other_content_types_are_refused(alice, content_type):
    """Browsers send these across sites without asking first."""
    response = alice.browser.post("/api/queue/kitchen", b'{"prompt": "a"}', content_type)
    refused(response, 415, "wrong-content-type")
    assert response.headers["Accept"] == "application/json"


def test_json_with_a_charset_is_json(alice):
    response = alice.browser.post(
        "/api/queue/kitchen", b'{"prompt": "a"}', "application/json; charset=utf-8"
    )
    assert response.status_code == 201


def test_a_body_that_is_too_large_is_refused(alice, settings):
    limit = settings.P2PWEB_LIMITS["body_bytes"]
    problem = refused(post(alice.browser, body=b" " * (limit + 1)), 413, "body-too-large")
    assert problem["limit"] == limit
    padded = json.dumps({"prompt": "a"}).encode().ljust(limit)
    assert post(alice.browser, body=padded).status_code == 201


@pytest.mark.parametrize("room", ["x" * 65, "a.b", "a%20b", "%E6%9C%88", "a%00", "a%0A"])
def test_a_room_id_has_letters_digits_hyphens_and_underscores(alice, room):
    problem = refused(post(alice.browser, room=room), 422, "invalid-room-id")
    assert problem["field"] == "room"
    assert post(alice.browser, room="A-z_09").status_code == 201


def test_a_full_room_says_when_to_come_back(alice, bob, settings):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"room_jobs": 2}
    assert post(alice.browser).status_code == 201
    assert post(alice.browser).status_code == 201
    response = post(bob.browser)
    assert refused(response, 429, "room-full")["limit"] == 2
    assert int(response.headers["Retry-After"]) > 0


def test_a_client_may_have_so_many_unfinished_jobs_and_no_more(alice, bob, settings):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"client_jobs": 2}
    made = [post(alice.browser) for _ in range(2)]
    response = post(alice.browser)
    assert refused(response, 429, "client-full")["limit"] == 2
    assert int(response.headers["Retry-After"]) > 0
    refused(post(alice.browser, room="another"), 429, "client-full")
    assert post(bob.browser).status_code == 201
    actions.cancel_job(Job.objects.get(pk=made[0].json()["id"]))
    assert post(alice.browser).status_code == 201


def test_a_paused_room_takes_the_job_and_says_that_it_waits(alice, bob):
    post(alice.browser)
    actions.pause_room(Room.objects.get(), True)
    response = post(bob.browser)
    assert response.status_code == 201
    assert response.json()["room_paused"] is True


def test_a_removed_client_is_refused(alice, bob):
    post(alice.browser)
    post(bob.browser)
    actions.remove_client(Room.objects.get(), bob.label)
    refused(post(bob.browser), 403, "client-removed")
    assert post(alice.browser).status_code == 201


def test_the_first_to_add_a_job_owns_the_room(alice, bob):
    post(alice.browser)
    post(bob.browser)
    assert Room.objects.get().owner == alice.client_id


def test_a_caller_without_a_cookie_gets_one_and_is_that_client_from_then_on():
    browser = Client()
    first = post(browser)
    cookie = first.cookies[clients.COOKIE_NAME]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["max-age"] >= 60 * 60 * 24 * 365
    second = post(browser)
    assert second.json()["client"] == first.json()["client"]
    assert not second.cookies
    assert post(Client()).json()["client"] != first.json()["client"]


def test_callers_without_a_cookie_share_a_budget_by_address(settings, clock_of_budgets):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"jobs_a_minute_without_cookie": 2}
    kept = Client()
    assert post(kept).status_code == 201
    assert post(Client()).status_code == 201
    response = post(Client())
    assert refused(response, 429, "too-many-jobs-without-cookie")["limit"] == 2
    assert response.headers["Retry-After"] == "60"
    assert "Set-Cookie" not in response.headers
    assert post(kept).status_code == 201
    assert post(Client(REMOTE_ADDR="192.0.2.7")).status_code == 201
    clock_of_budgets.now += 60
    assert post(Client()).status_code == 201


def test_addresses_of_one_ipv6_network_share_their_budget(settings, clock_of_budgets):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"jobs_a_minute_without_cookie": 1}
    assert post(Client(REMOTE_ADDR="2001:db8::1")).status_code == 201
    assert post(Client(REMOTE_ADDR="2001:db8::2")).status_code == 429
    assert post(Client(REMOTE_ADDR="2001:db8:0:1::1")).status_code == 201


def test_refused_requests_cost_nothing_of_the_budget(settings, clock_of_budgets):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"jobs_a_minute_without_cookie": 1}
    assert post(Client(), body={"prompt": ""}).status_code == 422
    assert post(Client()).status_code == 201


def test_without_any_model_the_server_says_so(alice, settings, tmp_path):
    settings.MODEL_ROOTS = [tmp_path / "empty"]
    refused(post(alice.browser), 503, "no-model")


def test_rooms_made_from_one_address_share_a_budget_whatever_cookie_comes(
    alice, bob, settings, clock_of_budgets
):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"rooms_a_minute": 2}
    assert post(alice.browser, room="one").status_code == 201
    assert post(bob.browser, room="two").status_code == 201
    response = post(alice.browser, room="three")
    assert refused(response, 429, "too-many-rooms")["limit"] == 2
    assert response.headers["Retry-After"] == "60"
    assert post(bob.browser, room="one").status_code == 201, "it is there already"
    assert set(Room.objects.values_list("pk", flat=True)) == {"one", "two"}
