"""What is forgotten after how long, and what never is."""

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from genqueue import actions, files, presence, protocol, retention, speeds, sweeper
from genqueue.faults import Fault
from genqueue.models import Checkpoint, Chunk, Image, Job, Room, Speed, Worker
from tests.genqueue.conftest import new_worker, settings_of

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def submit(person, room="kitchen", **changes) -> Job:
    return actions.submit_job(room, person.client_id, settings_of(**changes))[0]


def made(worker, person, **changes) -> Job:
    job = submit(person, **changes)
    worker.do_all()
    job.refresh_from_db()
    return job


def failed(worker, person, **changes) -> Job:
    job = submit(person, **changes)
    for _ in range(3):
        protocol.fail(worker.claim(), Fault.COMPUTATION_FAILED)
    return job


def prune(after: timedelta) -> retention.Pruned:
    """What is removed when this much time has passed, in as many batches as it takes."""
    now = timezone.now() + after
    retention.forget()
    total = retention.Pruned()
    while (pruned := retention.prune(now)) != retention.Pruned():
        total = retention.Pruned(
            *(getattr(total, name) + getattr(pruned, name) for name in pruned.__slots__)
        )
    return total


@pytest.fixture
def kept_for(settings):
    def change(**days):
        settings.KEPT_FOR = settings.KEPT_FOR | {
            name: None if number is None else number * DAY for name, number in days.items()
        }

    return change


class TestJobs:
    def test_without_pictures_go_after_a_week_and_not_before(self, alice, worker):
        failed(worker, alice)
        actions.cancel_job(submit(alice))
        prune(after=6 * DAY)
        assert Job.objects.count() == 2
        assert prune(after=8 * DAY).jobs == 2
        assert not Job.objects.exists()

    def test_with_a_picture_stay_for_ever(self, alice, worker):
        done = made(worker, alice)
        partly = submit(alice, num_images=2)
        while not partly.images.filter(state="done").exists():
            worker.do_next()
        actions.cancel_job(partly)
        prune(after=36_000 * DAY)
        assert set(Job.objects.all()) == {done, partly}
        for image in Image.objects.filter(state="done"):
            assert files.read(image.picture)
            assert image.worker == worker.row()

    def test_with_pictures_go_when_the_settings_say_so(
        self, alice, worker, kept_for, django_capture_on_commit_callbacks
    ):
        kept_for(pictures=10)
        job = made(worker, alice)
        with django_capture_on_commit_callbacks(execute=True):
            prune(after=9 * DAY)
        assert Job.objects.exists()
        revision = job.room.revision
        with django_capture_on_commit_callbacks(execute=True):
            assert prune(after=11 * DAY).jobs == 1
        assert not default_storage.exists(files.job_folder(job.pk))
        assert Room.objects.get().revision > revision, "open pages are told"

    def test_that_have_not_ended_stay_however_long_they_wait(self, alice, worker, kept_for):
        kept_for(pictures=1, jobs_without_pictures=1, chunks=1, empty_rooms=1)
        submit(alice)
        worker.do_next()
        job = submit(alice)
        prune(after=400 * DAY)
        assert Job.objects.count() == 2
        assert Chunk.objects.count() == 3
        actions.cancel_job(job)
        assert len(worker.do_all()) > 0, "the other one goes on where it was"

    def test_are_kept_for_ever_with_zero(self, alice, worker, kept_for):
        kept_for(jobs_without_pictures=None)
        failed(worker, alice)
        prune(after=36_000 * DAY)
        assert Job.objects.exists()


class TestChunks:
    def test_of_recent_jobs_say_who_computed_what_and_old_ones_go(self, alice, worker):
        made(worker, alice)
        prune(after=6 * DAY)
        assert set(Chunk.objects.values_list("kind", flat=True)) == {"encode", "denoise", "decode"}
        assert prune(after=8 * DAY).chunks == 1
        assert not Chunk.objects.exists()

    def test_count_from_the_end_of_their_job(self, alice, worker):
        job = submit(alice)
        while worker.do_next().kind != "denoise":
            pass
        Chunk.objects.filter(state="done").update(finished_at=timezone.now() - 30 * DAY)
        worker.do_all()
        prune(after=DAY)
        assert job.chunks.filter(kind="encode").exists()


def test_a_cancelled_image_keeps_no_checkpoint(alice, worker):
    job = submit(alice)
    worker.do_next()
    protocol.checkpoint(worker.claim(), 1, b"latent")
    assert Checkpoint.objects.count() == 1
    actions.cancel_job(job)
    assert not Checkpoint.objects.exists()


class TestRooms:
    @pytest.fixture(autouse=True)
    def another_room_changed_last(self, alice, worker):
        made(worker, alice, room="busy")

    def test_that_are_empty_and_unvisited_go(self, alice):
        actions.make_room("kitchen", alice.client_id)
        prune(after=29 * DAY)
        assert Room.objects.filter(pk="kitchen").exists()
        assert prune(after=31 * DAY).rooms == 1
        assert [room.pk for room in Room.objects.all()] == ["busy"]

    def test_with_a_job_somebody_in_them_or_a_worker_of_their_own_stay(self, alice, bob):
        for room in ("with-a-job", "with-a-guest", "with-a-worker"):
            actions.make_room(room, alice.client_id)
        submit(bob, "with-a-job")
        presence.set_peers("with-a-guest", 1)
        hers = new_worker("hers", room=Room.objects.get(pk="with-a-worker"))
        submit(alice, "busy")
        Room.objects.update(visited_at=timezone.now() - 31 * DAY)
        assert prune(after=timedelta(0)).rooms == 0
        Worker.objects.filter(pk=hers.id).update(state="gone")
        presence.set_peers("with-a-guest", 0)  # they were here until now
        assert prune(after=timedelta(0)).rooms == 1
        assert not Room.objects.filter(pk="with-a-worker").exists()

    def test_are_kept_by_a_visit(self, alice):
        actions.make_room("kitchen", alice.client_id)
        Room.objects.update(visited_at=timezone.now() - 29 * DAY)
        alice.browser.get("/rooms/kitchen/")
        prune(after=29 * DAY)
        assert Room.objects.filter(pk="kitchen").exists()

    def test_are_kept_by_whoever_stayed_until_now(self, alice):
        actions.make_room("kitchen", alice.client_id)
        presence.set_peers("kitchen", 1)
        Room.objects.update(visited_at=timezone.now() - 29 * DAY)
        presence.set_peers("kitchen", 0)
        prune(after=29 * DAY)
        assert Room.objects.filter(pk="kitchen").exists()

    def test_a_visit_is_written_down_once_an_hour(self, alice, django_assert_num_queries):
        actions.make_room("kitchen", alice.client_id)
        with django_assert_num_queries(1):
            presence.visited("kitchen")

    def test_that_are_forgotten_are_made_again_by_the_next_job(self, alice, bob):
        actions.make_room("kitchen", alice.client_id)
        prune(after=31 * DAY)
        submit(bob)
        assert Room.objects.get(pk="kitchen").owner == bob.client_id

    def test_the_one_that_changed_last_stays_so_that_no_hint_is_lost(self, alice):
        actions.make_room("kitchen", alice.client_id)
        presence.set_peers("kitchen", 1)
        presence.set_peers("kitchen", 0)
        seen = Room.objects.get(pk="kitchen").revision
        prune(after=31 * DAY)
        submit(alice, "cellar")
        assert Room.objects.get(pk="cellar").revision > seen


class TestWorkers:
    def test_that_are_gone_go_unless_a_picture_names_them(self, alice, worker):
        job = made(worker, alice)
        new_worker("idle", state="gone")
        Worker.objects.update(state="gone")
        prune(after=29 * DAY)
        assert Worker.objects.count() == 2
        assert prune(after=31 * DAY).workers == 1
        assert job.images.get().worker.name == "one"

    def test_that_are_not_gone_stay(self, worker):
        prune(after=31 * DAY)
        assert Worker.objects.exists()

    def test_lose_speeds_that_were_measured_long_ago(self, alice, worker):
        old = submit(alice, width=128)
        speeds.record(worker.id, "decode", old, 0, 1.0)
        new = submit(alice)
        speeds.record(worker.id, "decode", new, 0, 1.0)
        Speed.objects.update(measured_at=timezone.now() - 31 * DAY)
        speeds.record(worker.id, "decode", new, 0, 1.0)
        assert prune(after=timedelta(0)).speeds == 1
        assert Speed.objects.get().width == new.width


class TestTheBeat:
    def test_of_a_sweep_is_enough(self, alice, worker):
        failed(worker, alice)
        Job.objects.update(finished_at=timezone.now() - 8 * DAY)
        sweeper.sweep()
        assert not Job.objects.exists()

    def test_is_slow_unless_a_batch_was_full(self, alice, monkeypatch):
        monkeypatch.setattr(retention, "BATCH", 2)
        for _ in range(5):
            actions.cancel_job(submit(alice))
        now = timezone.now() + 8 * DAY
        assert [retention.prune(now).jobs for _ in range(4)] == [2, 2, 1, 0]
        actions.cancel_job(submit(alice))
        Job.objects.update(finished_at=now - 8 * DAY)
        assert retention.prune(now + retention.BEAT / 2).jobs == 0
        assert retention.prune(now + retention.BEAT).jobs == 1

    def test_with_nothing_to_do_writes_nothing(self, alice, worker, django_assert_max_num_queries):
        made(worker, alice)
        with django_assert_max_num_queries(7) as queries:
            retention.prune(timezone.now())
        assert all(query["sql"].startswith("SELECT") for query in queries)
