"""GET /api/jobs/{id}/images/{n}.png and .../preview.webp"""

import pytest
from django.utils import timezone

from genqueue import files
from genqueue.models import Image
from tests.api.conftest import post, refused

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n not looked into"
WEBP = b"RIFF....WEBP"


@pytest.fixture
def image(alice):
    """The second image of a job, running, with previews of steps 1 to 3."""
    job = post(alice.browser, body={"prompt": "a rocket", "num_images": 2}).json()
    image = Image.objects.get(job=job["id"], index=1)
    Image.objects.filter(pk=image.pk).update(state="running", step=3, preview_step=3)
    for step in (1, 2, 3):
        files.write_preview(image, step, WEBP + bytes([step]))
    image.refresh_from_db()
    return image


@pytest.fixture
def finished(image):
    image.picture = files.write(files.job_folder(image.job_id), ".png", PNG)
    image.state = "done"
    image.finished_at = timezone.now()
    image.save()
    return image


def address(image, name="1.png"):
    return f"/api/jobs/{image.job_id}/images/{name}"


def test_a_finished_picture_may_be_kept_for_ever(finished, charlie):
    response = charlie.browser.get(address(finished))
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.content == PNG


def test_the_address_in_the_jobs_json_leads_to_it(finished, alice):
    images = alice.browser.get(f"/api/jobs/{finished.job_id}").json()["images"]
    assert alice.browser.get(images[1]["url"]).content == PNG
    assert images[0]["url"] is None


def test_whoever_has_it_already_gets_304(finished, alice):
    etag = alice.browser.get(address(finished)).headers["ETag"]
    response = alice.browser.get(address(finished), headers={"If-None-Match": etag})
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["ETag"] == etag
    assert "immutable" in response.headers["Cache-Control"]
    other = alice.browser.get(address(finished), headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_head_answers_without_the_bytes(finished, alice):
    response = alice.browser.head(address(finished))
    assert response.status_code == 200
    assert response.headers["Content-Length"] == str(len(PNG))
    assert response.content == b""


def test_what_is_not_finished_is_not_found_and_not_remembered(image, alice):
    for name in ("0.png", "1.png"):
        response = alice.browser.get(address(image, name))
        refused(response, 404, "no-such-picture")
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("number", ["2", "-1", "x", "1.0", "%D9%A1", "9" * 400, "01e0", "%00"])
def test_there_is_no_other_number(finished, alice, number):
    refused(alice.browser.get(address(finished, f"{number}.png")), 404, "no-such-picture")


def test_a_picture_whose_file_is_gone_is_not_found(finished, alice):
    files.delete([finished.picture])
    refused(alice.browser.get(address(finished)), 404, "no-such-picture")


def test_a_preview_is_named_by_its_step(image, alice):
    preview = address(image, "1/preview.webp")
    for step in (1, 2, 3):
        response = alice.browser.get(f"{preview}?step={step}")
        assert response.content == WEBP + bytes([step])
        assert response.headers["Content-Type"] == "image/webp"
        assert "immutable" in response.headers["Cache-Control"]


def test_without_a_step_the_newest_preview_comes_and_is_not_kept(image, alice):
    response = alice.browser.get(address(image, "1/preview.webp"))
    assert response.content == WEBP + b"\x03"
    assert response.headers["Cache-Control"] == "no-store"


def test_the_preview_address_in_the_jobs_json_leads_to_it(image, alice):
    images = alice.browser.get(f"/api/jobs/{image.job_id}").json()["images"]
    assert alice.browser.get(images[1]["preview_url"]).content == WEBP + b"\x03"


@pytest.mark.parametrize("step", ["0", "4", "-1", "9" * 30])
def test_there_is_no_preview_of_other_steps(image, alice, step):
    response = alice.browser.get(address(image, f"1/preview.webp?step={step}"))
    refused(response, 404, "no-such-picture")


@pytest.mark.parametrize("step", ["x", "1.5", "%00", "1e1"])
def test_a_step_is_a_whole_number(image, alice, step):
    response = alice.browser.get(address(image, f"1/preview.webp?step={step}"))
    refused(response, 422, "wrong-type")


def test_the_preview_of_a_finished_picture_leads_to_the_picture(finished, alice):
    response = alice.browser.get(address(finished, f"{finished.index}/preview.webp?step=3"))
    assert response.status_code == 302
    assert response.headers["Location"] == address(finished)
    assert response.headers["Cache-Control"] == "no-store"


def test_an_image_that_has_not_begun_has_no_preview(image, alice):
    refused(alice.browser.get(address(image, "0/preview.webp")), 404, "no-such-picture")


def test_of_an_unknown_job_there_are_no_pictures(alice):
    refused(alice.browser.get("/api/jobs/7/images/0.png"), 404, "no-such-job")
