"""The admin: every list, filter and search answers; actions do what they say."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.staticfiles import finders

from genqueue import actions
from genqueue.models import Chunk, Image, Job, Room, Worker
from tests.genqueue.conftest import settings_of

pytestmark = pytest.mark.django_db
MODELS = [Job, Image, Chunk, Worker, Room]


@pytest.fixture
def job(alice, bob, worker):
    done, _token = actions.submit_job("kitchen", alice.client_id, settings_of(num_images=2))
    worker.do_all()
    actions.submit_job("kitchen", bob.client_id, settings_of(prompt="a snowman"))
    worker.claim()
    done.refresh_from_db()
    return done


@pytest.fixture
def staff(client):
    user = get_user_model().objects.create_superuser("root")  # hashing a password takes long
    client.force_login(user)
    return client


def act(staff, model, action, *rows):
    name = model._meta.model_name
    answer = staff.post(
        f"/admin/queue/{name}/",
        {"action": action, "_selected_action": [row.pk for row in rows]},
        follow=True,
    )
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


@pytest.mark.parametrize("model", MODELS)
def test_lists_search_filter_and_show_rows(staff, job, model):
    address = f"/admin/queue/{model._meta.model_name}/"
    for query in ("", "?q=rocket", "?state__exact=done", "?paused__exact=0"):
        answer = staff.get(address + query)
        assert answer.status_code in (200, 302)
    row = model.objects.first()
    assert staff.get(f"{address}{row.pk}/change/").status_code == 200


def test_nothing_shows_the_secrets_of_a_job_or_a_room(staff, job, alice):
    for address in (f"job/{job.pk}", "room/kitchen"):
        page = staff.get(f"/admin/queue/{address}/change/").content.decode()
        assert alice.client_id not in page
        assert job.token_hash not in page


def test_lists_count_what_they_say(staff, job):
    jobs = staff.get("/admin/queue/job/").content.decode()
    assert "2 of 2" in jobs
    assert "0 of 1" in jobs
    actions.submit_job("kitchen", "d" * 32, settings_of())
    rooms = staff.get("/admin/queue/room/?o=6").content.decode()
    assert '<td class="field-waiting">1</td><td class="field-running">1</td>' in rooms


def test_browsers_find_the_icon_where_they_look_for_it(client):
    address = client.get("/favicon.ico").url
    assert finders.find(address.removeprefix("/static/")).endswith("icon.svg")


def test_states_cannot_be_edited(staff, job):
    staff.post(f"/admin/queue/job/{job.pk}/change/", {"state": "queued"})
    job.refresh_from_db()
    assert job.state == "done"


def test_cancel(staff, job):
    waiting = Job.objects.get(prompt="a snowman")
    assert act(staff, Job, "cancel", job, waiting) == [
        "Cancelled 1 of 2 jobs; the others had ended."
    ]
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"


def test_requeue(staff, job):
    act(staff, Job, "requeue", job)
    assert Job.objects.filter(prompt=job.prompt, state="queued").count() == 1


def test_clear_finished(staff, job):
    act(staff, Job, "clear_finished", *Job.objects.all())
    assert [row.prompt for row in Job.objects.all()] == ["a snowman"]


def test_remove_pictures(staff, job):
    act(staff, Image, "remove", *job.images.all())
    assert not Job.objects.filter(pk=job.pk).exists()


def test_pause_resume_and_clear_a_room(staff, job):
    room = Room.objects.get()
    act(staff, Room, "pause", room)
    assert Room.objects.get().paused
    act(staff, Room, "resume", room)
    assert not Room.objects.get().paused
    assert act(staff, Room, "clear_finished", room) == ["Removed 1 job with its pictures."]


def test_the_monitor_shows_workers_and_their_chunks(staff, job):
    answer = staff.get("/admin/queue/monitor/")
    page = answer.content.decode()
    assert answer.headers["Refresh"] == "2"
    assert "a snowman" in page
    assert "one" in page
    assert "brings itself up to date" in page
    assert "Queue monitor" in staff.get("/admin/").content.decode()


def test_the_monitor_is_for_staff(client, job):
    assert client.get("/admin/queue/monitor/").status_code == 302
