"""Claim, renew, checkpoint, complete, fail; and every way to be too late."""

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from genqueue import actions, departure, files, protocol, sweeper
from genqueue.faults import Fault
from genqueue.models import Checkpoint, Chunk, Image, Job, Speed, Tally, Worker
from genqueue.protocol import LeaseLostError
from genqueue.representation import job_as_json
from tests.genqueue.clock import Clock
from tests.genqueue.conftest import chunk_of, kinds, new_worker, settings_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(alice) -> Job:
    return actions.submit_job("kitchen", alice.client_id, settings_of())[0]


def expire(lease) -> None:
    Chunk.objects.filter(pk=lease.chunk_id).update(deadline=timezone.now() - timedelta(seconds=1))


class TestAJobFromBeginningToEnd:
    def test_is_encoded_denoised_in_ranges_and_decoded(self, job, worker):
        leases = worker.do_all()
        assert kinds(leases) == ["encode", "denoise", "denoise", "decode"]
        assert [(lease.start, lease.stop) for lease in leases[1:3]] == [(0, 2), (2, 8)]
        job.refresh_from_db()
        assert job.state == "done"
        assert job.images.get().state == "done"

    def test_moves_the_job_and_its_image_with_their_first_chunks(self, job, worker):
        worker.do_next()
        job.refresh_from_db()
        assert (job.state, job.images.get().state) == ("running", "queued")
        worker.claim()
        assert job.images.get().state == "running"

    def test_leaves_the_picture_and_nothing_else_in_the_storage(
        self, job, worker, django_capture_on_commit_callbacks
    ):
        with django_capture_on_commit_callbacks(execute=True):
            worker.do_all()
        _folders, names = default_storage.listdir(files.job_folder(job.pk))
        assert [f"{files.job_folder(job.pk)}/{name}" for name in names] == [
            job.images.get().picture
        ]
        assert not Checkpoint.objects.exists()

    def test_writes_the_totals_after_the_room(self, job, worker):
        """In one order everywhere: two workers that each hold one of the two wait for ever."""
        while (lease := worker.claim()) is not None:
            with CaptureQueriesContext(connection) as queries:
                worker.finish(lease)
            written = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
            room = next(number for number, sql in enumerate(written) if "queue_room" in sql)
            assert not any("queue_tally" in sql for sql in written[:room])

    def test_is_counted(self, job, worker):
        worker.do_all()
        tally = Tally.objects.get(pk=1)
        assert (tally.jobs_done, tally.images_done, tally.steps_done) == (1, 1, 8)
        row = worker.row()
        assert (row.chunks_done, row.steps_done) == (4, 8)

    def test_measures_seconds_per_step(self, job, worker):
        worker.do_next(seconds=5.0)
        worker.do_next(seconds=3.0)  # two steps
        worker.do_next(seconds=6.0)  # two more: 3 s of work by what was measured
        assert Speed.objects.get(kind="denoise").samples == [1.5, 3.0]
        assert Speed.objects.get(kind="encode").seconds == 5.0

    def test_counts_what_passes_around_the_computing(self, job, worker):
        """Expected times would be too short by it, most of all with small pictures."""
        clock = Clock({})
        with clock.running():
            lease = worker.claim()
            clock.now = 4.0
            worker.finish(lease, 1.0)
            clock.now = 5.0  # the way to the worker
            lease = worker.claim()
            clock.now = 8.0
            worker.finish(lease, 2.5)
        assert Speed.objects.get(kind="encode").samples == [4.0]
        assert Speed.objects.get(kind="denoise").samples == [2.0]
        assert chunk_of(lease).seconds == 2.5, "computing time is what it was"

    def test_with_several_images_decodes_each(self, alice, worker):
        job, _token = actions.submit_job("kitchen", alice.client_id, settings_of(num_images=3))
        worker.do_all()
        assert [image.state for image in job.images.all()] == ["done"] * 3
        assert [image.seed for image in job.images.all()] == [7, 8, 9]


class TestALease:
    def test_is_given_to_ready_workers_only(self, job, worker):
        Worker.objects.update(state="loading")
        assert worker.claim() is None
        Worker.objects.update(state="gone")
        assert worker.claim() is None

    def test_goes_to_one_worker(self, job, worker, other):
        assert worker.claim() is not None
        assert other.claim() is None

    def test_lasts_30_seconds_and_longer_when_renewed(self, job, worker):
        lease = worker.claim()
        assert 29 < (lease.deadline - timezone.now()).total_seconds() <= 30
        renewed = protocol.renew(lease)
        assert renewed.deadline > lease.deadline
        assert chunk_of(lease).deadline == renewed.deadline

    def test_carries_what_the_worker_needs(self, job, worker):
        encode = worker.do_next()
        assert encode.settings == settings_of()
        denoise = worker.claim()
        assert (denoise.seed, denoise.index, denoise.latent) == (7, 0, None)
        assert files.read(denoise.conditioning) == f"encode of {worker.id}".encode()


class TestALateAnswer:
    """After the lease was taken back, cancelled or completed, nothing changes any more."""

    def calls(self, lease):
        return [
            lambda: protocol.renew(lease),
            lambda: protocol.checkpoint(lease, lease.start + 1, b"late", b"late"),
            lambda: protocol.complete(lease, b"late", 1.0),
            lambda: protocol.fail(lease, Fault.WORKER_LOST),
            lambda: protocol.release(lease),
        ]

    def refused(self, lease):
        before = self.everything(lease)
        for call in self.calls(lease):
            with pytest.raises(LeaseLostError):
                call()
        assert self.everything(lease) == before

    def everything(self, lease):
        rows = [
            list(model.objects.order_by("pk").values())
            for model in (Job, Image, Chunk, Checkpoint, Speed, Tally, Worker)
        ]
        return rows, sorted(default_storage.listdir(files.job_folder(lease.job_id))[1])

    def test_after_its_lease_was_taken_back(self, job, worker):
        worker.do_next()
        lease = worker.claim()
        expire(lease)
        assert sweeper.sweep().leases == 1
        self.refused(lease)

    def test_after_somebody_else_leased_the_chunk(self, job, worker, other):
        worker.do_next()
        lease = worker.claim()
        expire(lease)
        sweeper.sweep()
        assert other.claim().chunk_id == lease.chunk_id
        self.refused(lease)

    def test_after_the_same_worker_leased_it_again(self, job, worker):
        worker.do_next()
        lease = worker.claim()
        expire(lease)
        sweeper.sweep()
        assert worker.claim().chunk_id == lease.chunk_id
        self.refused(lease)

    def test_after_it_was_completed(self, job, worker):
        worker.do_next()
        self.refused(worker.do_next())

    def test_after_the_job_was_cancelled(self, job, worker):
        worker.do_next()
        lease = worker.claim()
        actions.cancel_job(job)
        self.refused(lease)


class TestACheckpoint:
    def test_is_where_the_next_worker_goes_on(self, alice, worker, other):
        actions.submit_job("kitchen", alice.client_id, settings_of())
        worker.do_next()
        worker.do_next()  # 0..2
        lease = worker.claim()
        protocol.checkpoint(lease, 5, b"after five", b"preview")
        expire(lease)
        sweeper.sweep()
        taken_over = other.claim()
        assert (taken_over.start, taken_over.attempt) == (5, 1)
        assert files.read(taken_over.latent) == b"after five"

    def test_keeps_the_newest_two(self, job, worker, django_capture_on_commit_callbacks):
        worker.do_next()
        worker.do_next()
        lease = worker.claim()
        with django_capture_on_commit_callbacks(execute=True):
            for step in (3, 4, 5):
                protocol.checkpoint(lease, step, b"latent %d" % step)
        assert list(Checkpoint.objects.values_list("step", flat=True)) == [4, 5]
        assert all(default_storage.exists(row.latent) for row in Checkpoint.objects.all())
        assert len(default_storage.listdir(files.job_folder(job.pk))[1]) == 3  # conditioning, two

    def test_without_a_latent_only_says_how_far_it_is(self, job, worker):
        worker.do_next()
        lease = worker.claim()
        protocol.checkpoint(lease, 1, preview=b"small picture")
        assert not Checkpoint.objects.exists()
        image = job_as_json(job)["images"][0]
        assert image["step"] == 1
        assert image["preview_url"].endswith("/images/0/preview.webp?step=1")

    def test_of_a_late_worker_leaves_the_preview_of_the_next_one_alone(self, job, worker, other):
        worker.do_next()
        late = worker.claim()
        expire(late)
        sweeper.sweep()
        protocol.checkpoint(other.claim(), 1, preview=b"of the next one")
        with pytest.raises(LeaseLostError):
            protocol.checkpoint(late, 1, preview=b"late")
        assert files.read(files.preview_name(job.images.get(), 1)) == b"of the next one"

    def test_outside_of_the_lease_is_a_mistake(self, job, worker):
        worker.do_next()
        lease = worker.claim()
        for step in (0, lease.stop + 1):
            with pytest.raises(ValueError, match="outside"):
                protocol.checkpoint(lease, step)


class TestFaults:
    def test_send_the_chunk_round_again_with_the_next_attempt(self, job, worker, other):
        assert protocol.fail(worker.claim(), Fault.COMPUTATION_FAILED)
        lease = other.claim()
        assert lease.attempt == 1
        assert chunk_of(lease).faults == 1

    def test_for_want_of_memory_count_where_nobody_may_have_more(self, job, worker, other):
        assert not protocol.fail(worker.claim(), Fault.OUT_OF_MEMORY)
        assert worker.claim() is None
        lease = other.claim()
        assert (lease.attempt, chunk_of(lease).faults) == (1, 0)
        assert protocol.fail(lease, Fault.OUT_OF_MEMORY)
        assert chunk_of(lease).faults == 1
        assert worker.claim() is not None

    def test_three_of_them_fail_the_image_and_the_job(self, job, worker):
        worker.do_next()
        for _ in range(3):
            protocol.fail(worker.claim(), Fault.OUT_OF_MEMORY)
        job.refresh_from_db()
        assert (job.state, job.error_code) == ("failed", "out-of-memory")
        assert worker.claim() is None

    def test_are_told_to_people_in_a_sentence_and_to_the_admin_in_detail(self, job, worker):
        secret = "FileNotFoundError: /srv/p2pweb/models/tiny"
        for _ in range(3):
            lease = worker.claim()
            protocol.fail(lease, Fault.FILE_LOST, secret)
        job.refresh_from_db()
        assert job_as_json(job)["error"] == {
            "code": "file-lost",
            "detail": "A file to go on from was lost. Asking again starts anew.",
        }
        assert secret in job.error_detail
        assert secret in chunk_of(lease).error

    def test_of_one_image_leave_the_others_alone(self, alice, worker):
        job, _token = actions.submit_job("kitchen", alice.client_id, settings_of(num_images=2))
        worker.do_next()
        for _ in range(3):
            protocol.fail(worker.claim(), Fault.OUT_OF_MEMORY)
        worker.do_all()
        assert [image.state for image in job.images.all()] == ["failed", "done"]
        job.refresh_from_db()
        assert job.state == "failed"

    def test_in_encoding_fail_all_images(self, alice, worker):
        job, _token = actions.submit_job("kitchen", alice.client_id, settings_of(num_images=2))
        for _ in range(3):
            protocol.fail(worker.claim(), Fault.MODEL_UNREADABLE)
        assert [image.state for image in job.images.all()] == ["failed", "failed"]

    def test_a_stopping_worker_is_none(self, job, worker):
        lease = worker.claim()
        protocol.release(lease)
        assert (chunk_of(lease).attempt, chunk_of(lease).faults) == (1, 0)


class TestTheSweeper:
    def test_leaves_leases_that_are_in_time(self, job, worker):
        worker.claim()
        assert sweeper.sweep().leases == 0

    def test_two_of_them_take_a_lease_back_once(self, job, worker):
        lease = worker.claim()
        expire(lease)
        late = list(Chunk.objects.filter(pk=lease.chunk_id))
        now = timezone.now()
        assert protocol.take_back(late, Fault.WORKER_LOST, late_at=now) == 1
        assert protocol.take_back(late, Fault.WORKER_LOST, late_at=now) == 0
        assert chunk_of(lease).attempt == 1

    def test_does_not_take_a_lease_that_was_renewed_meanwhile(self, job, worker):
        lease = worker.claim()
        expire(lease)
        late = list(Chunk.objects.filter(pk=lease.chunk_id))
        now = timezone.now()
        protocol.renew(lease)
        assert protocol.take_back(late, Fault.WORKER_LOST, late_at=now) == 0

    def test_marks_silent_workers_as_gone(self, worker):
        long_ago = timezone.now() - timedelta(seconds=31)
        Worker.objects.update(last_seen_at=long_ago)
        assert sweeper.sweep().workers == 1
        assert worker.row().state == "gone"


def gone(worker) -> None:
    departure.worker_is_gone(worker.id, crashed=False)


def silent(worker) -> None:
    Worker.objects.filter(pk=worker.id).update(last_seen_at=timezone.now() - timedelta(seconds=31))
    sweeper.sweep()


def restarted(worker) -> None:
    departure.give_back(worker.id, Fault.WORKER_LOST, "The worker was restarted.")


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("leave", [gone, silent, restarted])
class TestAWorkerThatLeaves:
    def test_between_two_chunks_leaves_its_image_to_others_at_once(self, job, worker, other, leave):
        worker.do_next()
        lease = worker.do_next()
        assert other.claim() is None, "its worker goes on with it"
        leave(worker)
        resumed = other.claim()
        assert (resumed.image_id, resumed.start) == (lease.image_id, lease.stop)
        assert files.read(resumed.latent) == f"denoise of {worker.id}".encode()
        assert chunk_of(resumed).faults == 0

    def test_after_encoding_leaves_the_first_image_to_others_at_once(
        self, job, worker, other, leave
    ):
        worker.do_next()
        assert other.claim() is None
        leave(worker)
        assert other.claim().index == 0

    def test_leaves_finished_pictures_with_its_name(self, job, worker, leave):
        worker.do_all()
        leave(worker)
        assert job.images.get().worker_id == worker.id


def test_a_worker_that_starts_again_gets_its_lease_back_at_once(job, worker):
    lease = worker.claim()
    assert departure.give_back(worker.id, Fault.WORKER_LOST, "The worker was restarted.") == 1
    assert worker.claim().chunk_id == lease.chunk_id


def test_a_worker_of_a_room_works_for_that_room_only(alice):
    actions.submit_job("kitchen", alice.client_id, settings_of())
    elsewhere = actions.make_room("cellar", alice.client_id)
    guest = new_worker("guest", kind="remote", room=elsewhere)
    assert guest.claim() is None
