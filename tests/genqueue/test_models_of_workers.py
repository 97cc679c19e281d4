"""Workers with different models: each gets the chunks of models that it has, and no others."""

from pathlib import Path

import pytest

from genqueue import actions, sweeper
from genqueue.models import Chunk, Job, Worker
from genqueue.runner import Runner
from genqueue.worker import CeleryWorker
from tests.genqueue.conftest import (
    Hand,
    a_while_ago,
    chunk_of,
    kinds,
    measured,
    new_worker,
    settings_of,
)
from tests.studio import write_model

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patient")]


@pytest.fixture
def small() -> Hand:
    return new_worker("small", models=("tiny",))


@pytest.fixture
def large() -> Hand:
    return new_worker("large", models=("tiny", "huge"))


def submit(person, model: str, **changes) -> Job:
    return actions.submit_job("kitchen", person.client_id, settings_of(model=model, **changes))[0]


class TestAChunkOfAModel:
    def test_is_left_to_the_worker_that_has_it(self, alice, small, large):
        job = submit(alice, "huge")
        assert small.claim() is None
        lease = large.claim()
        assert (lease.job_id, lease.kind) == (job.pk, "encode")
        assert kinds([large.finish(lease), *large.do_all()])[-1] == "decode"
        job.refresh_from_db()
        assert job.state == "done"

    def test_does_not_hold_up_what_others_can_do(self, alice, small, large):
        huge, tiny = submit(alice, "huge"), submit(alice, "tiny")
        assert small.claim().job_id == tiny.pk
        assert large.claim().job_id == huge.pk

    def test_waits_until_a_worker_with_it_comes(self, alice, small):
        job = submit(alice, "huge")
        for _ in range(3):
            sweeper.sweep()
            assert small.claim() is None
        job.refresh_from_db()
        assert (job.state, job.error_code) == ("queued", "")
        new_worker("large", models=("huge",)).do_all()
        job.refresh_from_db()
        assert job.state == "done"

    def test_is_not_taken_over_by_a_faster_worker_without_it(self, alice, small, large):
        measured(small, factor=0.01, model="huge")
        measured(large, factor=20, model="huge")
        submit(alice, "huge")
        assert large.do_next() is not None, "nor is it left to such a one"
        assert large.do_next() is not None
        assert small.claim() is None
        assert large.do_next() is not None

    def test_is_not_taken_over_when_its_worker_is_silent(self, alice, small, large):
        submit(alice, "huge")
        large.do_next()
        large.do_next()
        Chunk.objects.update(created_at=a_while_ago())
        assert small.claim() is None


class TestMessages:
    def test_go_to_the_idle_workers_that_could_take_the_chunk(
        self, alice, small, large, broker, django_capture_on_commit_callbacks
    ):
        with django_capture_on_commit_callbacks(execute=True):
            submit(alice, "huge")
        assert broker.woken() == {large.id: 1}

    def test_go_to_nobody_who_is_busy_or_gone(
        self, alice, small, large, broker, django_capture_on_commit_callbacks
    ):
        submit(alice, "huge")
        large.claim()
        Worker.objects.filter(pk=small.id).update(state="gone")
        with django_capture_on_commit_callbacks(execute=True):
            submit(alice, "tiny")
        assert broker.woken() == {}


class TestTheProcess:
    @pytest.fixture(autouse=True)
    def root(self, settings, tmp_path) -> Path:
        settings.MODEL_ROOTS = [tmp_path / "models"]
        return tmp_path / "models"

    def test_announces_models_as_their_folders_come_and_go(self, root):
        hand = new_worker(models=())
        process = CeleryWorker(hand.id, "one")
        for names in (["huge"], ["huge", "tiny"]):
            write_model(root, names[-1])
            process.heartbeat()
            assert hand.row().model_names == names
        (root / "huge" / "model_index.json").unlink()
        process.heartbeat()
        assert hand.row().model_names == ["tiny"]

    def test_gives_back_a_chunk_whose_model_is_gone(self, alice, large, small):
        """The folder may go between the announcement and the chunk."""
        submit(alice, "huge")
        lease = large.claim()
        Runner(stopping=lambda: False).run(lease)
        chunk = chunk_of(lease)
        assert (chunk.state, chunk.faults, chunk.error) == ("pending", 0, "")
        assert large.row().model_names == ["tiny"]
        assert large.claim() is None
        assert new_worker(models=("huge",)).claim().chunk_id == lease.chunk_id
