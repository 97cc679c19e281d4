"""What people do in a room. Each action is tried by whoever may, and by bob, who may not."""

import io
import zipfile

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient

from genqueue.clients import COOKIE_NAME, signed
from genqueue.models import Image, Job, Room
from tests.studio import picture, settings_of

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def test_i_cancel_my_job_and_the_owner_cancels_any(alice, bob, charlie, kitchen, studio):
    mine, other = studio.ask(kitchen, bob), studio.ask(kitchen, bob)
    path = f"/rooms/{kitchen}/jobs/{mine.pk}/cancel/"
    assert charlie.browser.post(path).status_code == 404
    answer = bob.browser.post(path)
    assert (answer.status_code, answer.url) == (303, f"/rooms/{kitchen}/")
    answer = alice.browser.post(f"/rooms/{kitchen}/jobs/{other.pk}/cancel/", headers=HTMX)
    assert answer.status_code == 200
    assert "hx-partial" in answer.content.decode()
    assert set(Job.objects.values_list("state", flat=True)) == {"cancelled"}


def test_a_job_cannot_be_reached_through_another_room(alice, kitchen, studio):
    job = studio.ask("den", alice)
    assert alice.browser.post(f"/rooms/{kitchen}/jobs/{job.pk}/cancel/").status_code == 404


def test_dismissing_forgets_what_failed_and_keeps_what_was_finished(alice, bob, kitchen, studio):
    job = studio.failed(kitchen, alice, num_images=2)
    kept = job.images.first()
    Image.objects.filter(pk=kept.pk).update(state="done", picture="x.png")
    path = f"/rooms/{kitchen}/jobs/{job.pk}/dismiss/"
    assert bob.browser.post(path).status_code == 404
    said = "The worker could not compute this."
    assert said in alice.browser.get(f"/rooms/{kitchen}/").content.decode()
    alice.browser.post(path)
    assert list(job.images.all()) == [kept]
    assert said not in alice.browser.get(f"/rooms/{kitchen}/").content.decode()


def test_trying_again_asks_for_what_failed_with_its_seeds(alice, bob, kitchen, studio):
    job = studio.failed(kitchen, alice, num_images=3, seed=5, steps=3)
    kept = job.images.first()
    Image.objects.filter(pk=kept.pk).update(state="done", picture="x.png")
    path = f"/rooms/{kitchen}/jobs/{job.pk}/retry/"
    assert bob.browser.post(path).status_code == 404
    assert alice.browser.post(path).status_code == 303
    again = Job.objects.exclude(pk=job.pk).get()
    assert (again.seed, again.num_images, again.steps, again.state) == (6, 2, 3, "queued")
    assert list(job.images.all()) == [kept]
    assert alice.browser.post(path).status_code == 404, "there is nothing left to try"


def test_again_asks_for_the_same_picture_and_vary_for_another_seed(bob, alice, kitchen, studio):
    job = studio.made(kitchen, alice, seed=5, num_images=2, steps=3)
    base = f"/rooms/{kitchen}/pictures/{job.pk}/1"
    bob.browser.post(f"{base}/again/")
    bob.browser.post(f"{base}/vary/", headers=HTMX)
    again, vary = Job.objects.exclude(pk=job.pk)
    assert (again.seed, again.steps, again.num_images, again.client) == (6, 3, 1, bob.client_id)
    assert vary.seed not in (5, 6)
    assert vary.prompt == job.prompt


def test_a_full_queue_is_said_after_again(alice, kitchen, studio, settings):
    job = studio.made(kitchen, alice)
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"room_jobs": 0}
    path = f"/rooms/{kitchen}/pictures/{job.pk}/0/again/"
    for headers in (HTMX, {}):
        answer = alice.browser.post(path, headers=headers)
        assert answer.status_code == 429
        assert "at most 0" in answer.content.decode()


def test_a_picture_is_deleted_by_who_made_it_and_by_the_owner(alice, bob, charlie, kitchen, studio):
    job = studio.made(kitchen, bob, num_images=2)
    path = f"/rooms/{kitchen}/pictures/{job.pk}"
    assert charlie.browser.post(f"{path}/0/delete/").status_code == 404
    bob.browser.post(f"{path}/0/delete/")
    alice.browser.post(f"{path}/1/delete/")
    assert not Image.objects.exists()
    assert bob.browser.post(f"{path}/0/delete/").status_code == 404


@pytest.mark.django_db(transaction=True)
async def test_chosen_pictures_come_in_one_zip(kitchen, alice, studio):
    from asgiref.sync import sync_to_async

    job = await sync_to_async(studio.made)(kitchen, alice, "A Rocket!", num_images=3, seed=7)
    await sync_to_async(studio.made)(kitchen, alice, "a rocket", seed=9)
    browser = AsyncClient()
    browser.cookies[COOKIE_NAME] = signed(alice.client_id)
    answer = await browser.post(
        f"/rooms/{kitchen}/pictures.zip", {"picture": [f"{job.pk}/0", f"{job.pk}/2"]}
    )
    body = b"".join([chunk async for chunk in answer.streaming_content])
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a-rocket-7.png", "a-rocket-9.png"]
        assert archive.read("a-rocket-9.png") == picture(settings_of("A Rocket!", num_images=3), 9)


def test_a_zip_of_nothing_and_of_another_room_is_refused(alice, kitchen, studio):
    job = studio.made("den", alice)
    path = f"/rooms/{kitchen}/pictures.zip"
    assert alice.browser.post(path).status_code == 422
    assert alice.browser.post(path, {"picture": f"{job.pk}/0"}).status_code == 422
    assert alice.browser.post(path, {"picture": "nonsense"}).status_code == 404


def test_a_picture_made_here_fills_the_form(bob, kitchen):
    png = picture(settings_of("a snowman", steps=5, negative_prompt="snow"), 77)
    for headers in (HTMX, {}):
        upload = SimpleUploadedFile("x.png", png, "image/png")
        answer = bob.browser.post(
            f"/rooms/{kitchen}/read-picture/", {"picture_file": upload}, headers=headers
        )
        page = answer.content.decode()
        assert answer.status_code == 200
        assert ">a snowman</textarea>" in page
        assert 'value="77"' in page
        assert 'value="snow"' in page
        assert '<option value="64x64" selected>' in page


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\nxx", None])
def test_other_files_do_not_fill_the_form_and_say_why(bob, kitchen, content):
    data = {} if content is None else {"picture_file": SimpleUploadedFile("x.png", content)}
    answer = bob.browser.post(f"/rooms/{kitchen}/read-picture/", data, headers=HTMX)
    assert answer.status_code == 422
    page = answer.content.decode()
    start = page.index('id="error-picture_file"')
    assert page[start : page.index("</p>", start)].count(".") == 1


def test_a_file_without_settings_leaves_the_form_as_typed(bob, kitchen):
    typed = {"prompt": "a long thought", "steps": "3", "num_images": "2"}
    upload = {"picture_file": SimpleUploadedFile("x.png", b"GIF89a")}
    path = f"/rooms/{kitchen}/read-picture/"
    page = bob.browser.post(path, typed | upload, headers=HTMX).content.decode()
    assert ">a long thought</textarea>" in page
    assert 'name="steps" type="number" inputmode="numeric" min="1" max="100" value="3"' in page


def test_the_owner_names_lists_and_pauses_the_room(alice, bob, kitchen):
    for path in ("settings", "pause", f"clients/{bob.label}/remove"):
        assert bob.browser.post(f"/rooms/{kitchen}/{path}/").status_code == 404
    alice.browser.post(f"/rooms/{kitchen}/settings/", {"title": " Tea\n time ", "listed": "on"})
    room = Room.objects.get(pk=kitchen)
    assert (room.title, room.listed) == ("Tea time", True)
    answer = alice.browser.post(f"/rooms/{kitchen}/pause/", {"paused": "1"}, headers=HTMX)
    assert "Resume the work" in answer.content.decode()
    assert Room.objects.get(pk=kitchen).paused
    alice.browser.post(f"/rooms/{kitchen}/pause/", {"paused": "0"})
    alice.browser.post(f"/rooms/{kitchen}/settings/", {"title": ""})
    room = Room.objects.get(pk=kitchen)
    assert (room.title, room.listed, room.paused) == ("", False, False)


def test_the_owner_removes_a_client_with_their_waiting_jobs(alice, bob, kitchen, studio):
    job = studio.ask(kitchen, bob)
    alice.browser.post(f"/rooms/{kitchen}/clients/{bob.label}/remove/", headers=HTMX)
    job.refresh_from_db()
    assert job.state == "cancelled"
    answer = bob.browser.post(f"/rooms/{kitchen}/", {"prompt": "a rocket"})
    assert answer.status_code == 403


def test_another_model_brings_its_own_settings(alice, kitchen, tmp_path):
    from tests.studio import write_model

    write_model(tmp_path / "models", "other")
    path = tmp_path / "models/other/p2pweb.json"
    path.write_text('{"title": "Other", "default_steps": 3, "default_guidance": 2.5}')
    asked = {"prompt": "kept", "model": "other", "steps": "50", "seed": "3"}
    page = alice.browser.post(f"/rooms/{kitchen}/form/", asked, headers=HTMX).content.decode()
    assert '<option value="other" selected>Other</option>' in page
    assert ">kept</textarea>" in page
    assert 'max="100" value="3"' in page
    assert 'value="2.5"' in page


@pytest.mark.parametrize("path", ["settings/", "pause/", "pictures.zip", "read-picture/", "form/"])
def test_actions_take_post_alone(alice, kitchen, path):
    assert alice.browser.get(f"/rooms/{kitchen}/{path}").status_code == 405
