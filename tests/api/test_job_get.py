"""GET /api/jobs/{id}"""

import pytest

from genqueue.shapes import JobJson
from tests.api.conftest import has_shape, post, refused

pytestmark = pytest.mark.django_db


def test_anybody_who_knows_a_jobs_id_may_follow_it(alice, charlie):
    made = post(alice.browser).json()
    response = charlie.browser.get(f"/api/jobs/{made['id']}")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert has_shape(response.json(), JobJson)
    del made["token"], made["room_paused"]
    assert response.json() == made


def test_the_location_of_a_new_job_leads_to_it(alice):
    made = post(alice.browser)
    assert alice.browser.get(made.headers["Location"]).json()["id"] == made.json()["id"]


@pytest.mark.parametrize(
    "job_id", ["00000000-0000-4000-8000-000000000000", "7", "%00", "x" * 500, "%F0%9F%9A%80"]
)
def test_what_is_no_jobs_id_is_not_found(alice, job_id):
    refused(alice.browser.get(f"/api/jobs/{job_id}"), 404, "no-such-job")
