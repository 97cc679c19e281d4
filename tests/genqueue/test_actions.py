"""What people can do with the queue."""

import pytest
from django.core.files.storage import default_storage

from genqueue import actions, files, protocol
from genqueue.models import Image, Job, Room, Turn
from genqueue.problems import Problem
from genqueue.representation import job_as_json, room_as_json
from tests.genqueue.conftest import settings_of

pytestmark = pytest.mark.django_db


def submit(person, room="kitchen", **changes) -> Job:
    return actions.submit_job(room, person.client_id, settings_of(**changes))[0]


class TestSubmitting:
    def test_makes_the_room_and_its_first_client_the_owner(self, alice, bob):
        submit(alice)
        submit(bob)
        assert Room.objects.get().owner == alice.client_id
        assert room_as_json("kitchen")["owner"] == alice.label

    def test_gives_every_image_its_own_seed_within_32_bits(self, alice):
        job = submit(alice, seed=2**32 - 1, num_images=2)
        assert [image.seed for image in job.images.all()] == [2**32 - 1, 0]

    def test_returns_a_token_and_stores_only_its_hash(self, alice):
        job, token = actions.submit_job("kitchen", alice.client_id, settings_of())
        assert token
        assert token not in str(Job.objects.values().get())
        assert job.token_hash

    def test_is_refused_when_the_room_is_full(self, alice, bob, settings):
        settings.P2PWEB_LIMITS = {**settings.P2PWEB_LIMITS, "room_jobs": 1}
        submit(alice)
        with pytest.raises(Problem) as refusal:
            submit(bob)
        assert (refusal.value.status, refusal.value.code) == (429, "room-full")
        assert "Retry-After" in refusal.value.headers

    def test_is_refused_when_the_client_has_enough(self, alice, bob, settings):
        settings.P2PWEB_LIMITS = {**settings.P2PWEB_LIMITS, "client_jobs": 1}
        submit(alice)
        with pytest.raises(Problem) as refusal:
            submit(alice, room="cellar")
        assert (refusal.value.status, refusal.value.code) == (429, "client-full")
        submit(bob)


class TestCancelling:
    def test_ends_a_queued_job(self, alice, worker):
        job = submit(alice, num_images=2)
        assert actions.cancel_job(job)
        assert job_as_json(job)["state"] == "cancelled"
        assert {image.state for image in job.images.all()} == {"cancelled"}
        assert worker.claim() is None

    def test_stops_the_worker_at_its_next_step(self, alice, worker):
        job = submit(alice)
        worker.do_next()
        lease = worker.claim()
        actions.cancel_job(job)
        with pytest.raises(protocol.LeaseLostError):
            protocol.checkpoint(lease, lease.start + 1)

    def test_keeps_the_pictures_that_are_done(self, alice, worker):
        job = submit(alice, num_images=2)
        while job.images.filter(state="done").count() == 0:
            worker.do_next()
        actions.cancel_job(job)
        assert sorted(image.state for image in job.images.all()) == ["cancelled", "done"]

    def test_of_an_ended_job_says_no(self, alice, worker):
        job = submit(alice)
        worker.do_all()
        assert not actions.cancel_job(job)

    def test_leaves_no_files(self, alice, worker, django_capture_on_commit_callbacks):
        job = submit(alice)
        with django_capture_on_commit_callbacks(execute=True):
            worker.do_next()
            lease = worker.claim()
            protocol.checkpoint(lease, 1, b"latent", b"preview")
            actions.cancel_job(job)
        assert default_storage.listdir(files.job_folder(job.pk))[1] == []


class TestRemovingPictures:
    def test_removes_the_file_and_with_the_last_one_the_job(
        self, alice, worker, django_capture_on_commit_callbacks
    ):
        job = submit(alice, num_images=2)
        with django_capture_on_commit_callbacks(execute=True):
            worker.do_all()
            first, last = job.images.all()
            actions.delete_image(first)
        assert not default_storage.exists(first.picture)
        assert Job.objects.filter(pk=job.pk).exists()
        with django_capture_on_commit_callbacks(execute=True):
            actions.delete_image(last)
        assert not Job.objects.exists()
        assert not Image.objects.exists()
        assert not default_storage.exists(files.job_folder(job.pk))

    def test_of_an_unfinished_picture_is_refused(self, alice):
        image = submit(alice).images.get()
        with pytest.raises(Problem) as refusal:
            actions.delete_image(image)
        assert (refusal.value.status, refusal.value.code) == (409, "not-finished")


class TestTheOwnersHand:
    def test_pausing_stops_new_chunks_and_lets_the_running_one_finish(self, alice, worker):
        job = submit(alice)
        lease = worker.claim()
        actions.pause_room(job.room, True)
        worker.finish(lease)
        assert worker.claim() is None
        assert room_as_json("kitchen")["paused"]
        actions.pause_room(job.room, False)
        assert worker.claim() is not None

    def test_removing_a_client_cancels_its_jobs_and_takes_no_more(self, alice, bob, charlie):
        submit(alice)
        hers = submit(bob)
        actions.remove_client(hers.room, bob.label)
        hers.refresh_from_db()
        assert hers.state == "cancelled"
        with pytest.raises(Problem) as refusal:
            submit(bob)
        assert (refusal.value.status, refusal.value.code) == (403, "client-removed")
        submit(charlie)

    def test_the_servers_worker_can_stay_away(self, alice, worker):
        job = submit(alice)
        actions.join_server(job.room, False)
        assert worker.claim() is None
        assert room_as_json("kitchen")["workers"] == []
        actions.join_server(job.room)
        assert worker.claim() is not None


class TestTheAdminsHand:
    def test_requeueing_an_ended_job_adds_it_anew(self, alice, worker):
        job = submit(alice, seed=11, num_images=2)
        actions.cancel_job(job)
        again = actions.requeue_job(job)
        assert again.pk != job.pk
        assert protocol.settings_of(again) == protocol.settings_of(job)
        assert len(worker.do_all()) > 0
        again.refresh_from_db()
        assert again.state == "done"

    def test_requeueing_a_running_job_takes_its_leases_back(self, alice, worker, other):
        job = submit(alice)
        lease = worker.claim()
        assert actions.requeue_job(job) == job
        assert other.claim().chunk_id == lease.chunk_id

    def test_clearing_removes_what_has_ended(self, alice, worker):
        submit(alice)
        worker.do_all()
        waiting = submit(alice)
        assert actions.clear_finished() == 1
        assert list(Job.objects.all()) == [waiting]


def test_every_change_gives_the_room_a_higher_revision(alice, worker):
    seen = [0]

    def grew() -> None:
        seen.append(room_as_json("kitchen")["revision"])
        assert seen[-1] > seen[-2]

    job = submit(alice)
    grew()
    for _ in range(4):
        worker.do_next()
        grew()
    submit(alice, room="cellar")
    assert room_as_json("cellar")["revision"] > seen[-1]
    actions.delete_image(job.images.get())
    grew()


def test_turns_belong_to_rooms(alice, worker):
    submit(alice)
    worker.do_next()
    assert Turn.objects.get().client == alice.client_id
