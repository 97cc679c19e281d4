"""What a worker's process does around the computing: memory, and a database that fails."""

import shutil
import weakref
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError, connections
from django.utils import timezone

from genqueue import actions, files, orphans
from genqueue.models import Job
from genqueue.runner import Runner
from tests.genqueue.conftest import chunk_of, new_worker, settings_of


@pytest.fixture
def runner(models) -> Runner:
    return Runner(stopping=lambda: False)


def test_one_model_is_in_memory_at_a_time(runner, models):
    shutil.copytree(models / "tiny", models / "other")
    first = weakref.ref(runner.load("tiny"))
    runner.load("other")
    assert first() is None


def lose_next_commit(*, committed: bool) -> None:
    """The connection breaks while the database commits: before it has, or when it just has."""
    wrapper = connections["default"]
    real = wrapper._commit

    def commit() -> None:
        del wrapper._commit
        if committed:
            real()
        raise OperationalError("server closed the connection unexpectedly")

    wrapper._commit = commit


@pytest.mark.django_db(transaction=True)
class TestAConnectionLostInTheCommit:
    @pytest.fixture
    def hand(self):
        return new_worker()

    @pytest.fixture
    def job(self, alice) -> Job:
        return actions.submit_job("kitchen", alice.client_id, settings_of(steps=2))[0]

    @pytest.fixture
    def last_chunk(self, job, hand, runner):
        while (lease := hand.claim()).kind != "decode":
            runner.run(lease)
        return lease

    def run_and_lose(self, runner, lease, monkeypatch, *, committed: bool) -> None:
        decode = runner._decode

        def decode_and_lose(*arguments):
            picture = decode(*arguments)
            lose_next_commit(committed=committed)
            return picture

        with monkeypatch.context() as once:
            once.setattr(runner, "_decode", decode_and_lose)
            runner.run(lease)

    def test_leaves_the_picture_of_a_job_that_is_done(self, job, last_chunk, runner, monkeypatch):
        self.run_and_lose(runner, last_chunk, monkeypatch, committed=True)
        job.refresh_from_db()
        assert job.state == "done"
        assert files.read(job.images.get().picture).startswith(b"\x89PNG")

    def test_computes_a_chunk_again_that_was_not_committed(
        self, job, hand, last_chunk, runner, monkeypatch
    ):
        self.run_and_lose(runner, last_chunk, monkeypatch, committed=False)
        chunk = chunk_of(last_chunk)
        assert (chunk.state, chunk.faults) == ("pending", 0), "no fault of the chunk"
        assert pictures_of(job) != [], "nobody knew whether a row names it"
        runner.run(hand.claim())
        orphans.remove_orphans(timezone.now() + timedelta(hours=1))
        assert pictures_of(job) == [job.images.get().picture]


def pictures_of(job) -> list[str]:
    folder = files.job_folder(job.pk)
    names = default_storage.listdir(folder)[1]
    return [f"{folder}/{name}" for name in names if name.endswith(".png")]
