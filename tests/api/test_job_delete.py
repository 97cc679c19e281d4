"""DELETE /api/jobs/{id}"""

import pytest
from django.test import Client
from django.utils import timezone

from genqueue.models import Image, Job
from genqueue.transitions import JobState
from tests.api.conftest import post, refused

pytestmark = pytest.mark.django_db


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def job(alice, bob):
    """bob's job, in the room that alice made."""
    post(alice.browser)
    return post(bob.browser).json()


def cancelled(response):
    assert response.status_code == 200
    assert response.json()["state"] == "cancelled"
    assert {image["state"] for image in response.json()["images"]} == {"cancelled"}
    return True


def test_its_client_may_cancel_it(bob, job):
    assert cancelled(bob.browser.delete(f"/api/jobs/{job['id']}"))


def test_whoever_has_its_token_may_cancel_it(job, charlie):
    url = f"/api/jobs/{job['id']}"
    assert cancelled(Client().delete(url, headers=bearer(job["token"])))
    assert cancelled(
        charlie.browser.delete(url, headers={"Authorization": f"bearer {job['token']}"})
    )


def test_the_owner_of_its_room_may_cancel_it(alice, job):
    assert cancelled(alice.browser.delete(f"/api/jobs/{job['id']}"))


def test_for_strangers_there_is_no_such_job(alice, charlie, job):
    url = f"/api/jobs/{job['id']}"
    other = post(alice.browser).json()["token"]
    refused(charlie.browser.delete(url), 404, "no-such-job")
    refused(Client().delete(url), 404, "no-such-job")
    for wrong in (other, "", "x", "\N{ROCKET}", job["token"][:-1], job["token"] + "x"):
        refused(Client().delete(url, headers=bearer(wrong)), 404, "no-such-job")
    basic = {"Authorization": f"Basic {job['token']}"}
    refused(Client().delete(url, headers=basic), 404, "no-such-job")
    assert Job.objects.get(pk=job["id"]).state == JobState.QUEUED


def test_a_forged_cookie_opens_nothing(bob, job):
    forger = Client()
    forger.cookies["p2pweb_client"] = bob.client_id
    refused(forger.delete(f"/api/jobs/{job['id']}"), 404, "no-such-job")
    forger.cookies["p2pweb_client"] = f"{bob.client_id}:1abcde:{'x' * 43}"
    refused(forger.delete(f"/api/jobs/{job['id']}"), 404, "no-such-job")


def test_cancelling_again_changes_nothing(bob, job):
    url = f"/api/jobs/{job['id']}"
    first = bob.browser.delete(url).json()
    assert bob.browser.delete(url).json() == first


def test_what_is_done_cannot_be_cancelled(bob, job):
    now = timezone.now()
    Image.objects.filter(job=job["id"]).update(state="done", picture="x", finished_at=now)
    Job.objects.filter(pk=job["id"]).update(state="done", started_at=now, finished_at=now)
    problem = refused(bob.browser.delete(f"/api/jobs/{job['id']}"), 409, "already-ended")
    assert problem["state"] == "done"


def test_pages_of_other_sites_cannot_cancel_in_a_visitors_name(bob, job):
    url = f"/api/jobs/{job['id']}"
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://other.testserver"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        refused(bob.browser.delete(url, headers=headers), 403, "cross-site")
    assert cancelled(bob.browser.delete(url, headers={"Sec-Fetch-Site": "same-origin"}))


def test_what_is_no_jobs_id_is_not_found(alice):
    refused(alice.browser.delete("/api/jobs/7"), 404, "no-such-job")
