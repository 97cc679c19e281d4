"""The worker's process as the queue sees it: who it is, and that it lives."""

import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from diffusion.backends import open_backend
from diffusion.model_folder import find_models
from genqueue import actions, checks, events, fairness, runner
from genqueue import worker as worker_module
from genqueue.models import Chunk, Worker
from genqueue.worker import CeleryWorker
from tests.genqueue.conftest import Hand, chunk_of, measured, new_worker, settings_of
from tests.genqueue.processes import until
from tests.halves import KERNELS, Halved

pytestmark = pytest.mark.django_db

HERE = socket.gethostname()
ENDED_PID = 2**22 + 1  # beyond the largest of Linux


class TestTheIdOfANodeName:
    def first(self, **columns) -> Hand:
        """A worker that was started under the name before."""
        worker_id = worker_module._stable_id("celery@gpu")
        Worker.objects.create(pk=worker_id, name="gpu", state="ready", **columns)
        return Hand(worker_id)

    def again(self):
        return worker_module._stable_id("celery@gpu")

    def test_is_the_same_after_a_restart(self):
        first = self.first(host=HERE, pid=ENDED_PID)
        assert self.again() == first.id

    def test_is_another_while_the_first_runs_on_this_machine(self):
        first = self.first(host=HERE, pid=os.getppid())
        assert self.again() != first.id

    def test_is_another_while_the_first_is_heard_of_from_another_machine(self):
        first = self.first(host="elsewhere", pid=os.getpid())
        assert self.again() != first.id
        long_ago = timezone.now() - timedelta(seconds=31)
        Worker.objects.filter(pk=first.id).update(last_seen_at=long_ago)
        assert self.again() == first.id


class TestAHeartbeat:
    def test_renews_row_and_lease_even_if_the_models_cannot_be_looked_at(
        self, alice, worker, settings
    ):
        actions.submit_job("kitchen", alice.client_id, settings_of())
        process = CeleryWorker(worker.id, "one")
        process._lease = lease = worker.claim()
        before = worker.row().last_seen_at
        settings.MODEL_ROOTS = [Path("x" * 5000)]
        with pytest.raises(OSError, match="too long"):
            process.heartbeat()
        assert worker.row().last_seen_at > before
        assert worker.row().model_names == ["tiny"]
        assert chunk_of(lease).deadline > lease.deadline

    @pytest.mark.parametrize(("loaded", "state"), [(True, "ready"), (False, "loading")])
    def test_says_what_it_is_when_it_was_not_heard_of(self, loaded, state):
        hand = new_worker(state="gone")
        process = CeleryWorker(hand.id, "one")
        process.loaded = loaded
        process.heartbeat()
        assert hand.row().state == state

    def test_of_a_worker_that_stops_leaves_it_gone(self):
        hand = new_worker(state="gone")
        process = CeleryWorker(hand.id, "one")
        process.stopping.set()
        process.heartbeat()
        assert hand.row().state == "gone"


class TestWhatItComputesWith:
    """With a model that came after it had started, or after the process of wgpu was started again:
    as a checker it holds tabs to what that is."""

    @pytest.fixture
    def process(self, models, monkeypatch) -> CeleryWorker:
        opened = Halved(open_backend("torch", find_models(models)["tiny"]))
        opened.kernels = "baseline"
        monkeypatch.setattr(runner, "open_backend", lambda _: opened)
        process = CeleryWorker(new_worker("one").id, "one")
        process.backend = opened
        return process

    def test_is_said_before_anything_is_handed_in(self, process, alice):
        job, _token = actions.submit_job("kitchen", alice.client_id, settings_of(steps=2))
        hand = Hand(process.id)
        process._runner.run(hand.claim())
        assert (hand.row().device, hand.row().variant) == (Halved.device, "f16")
        assert checks.precision(hand.row()) == "f16"
        denoise = process.backend.denoise

        def restarted(*args, **kwargs):
            process.backend.kernels = KERNELS
            return denoise(*args, **kwargs)

        process.backend.denoise = restarted
        process._runner.run(hand.claim())
        assert checks.precision(hand.row()) == "f16 half"
        done = Chunk.objects.filter(job=job, state="done").order_by("pk")
        assert list(done.values_list("kernels", flat=True)) == ["baseline", KERNELS]

    def test_is_told_to_the_pages_once(self, process, alice, monkeypatch):
        told = []
        monkeypatch.setattr(events, "announce_workers", lambda: told.append(1))
        actions.submit_job("kitchen", alice.client_id, settings_of(steps=2))
        for _ in range(3):
            process._runner.run(Hand(process.id).claim())
        assert told == [1]


def test_one_that_leaves_work_to_a_faster_one_asks_again_when_that_does_not_come(
    alice, broker, monkeypatch
):
    monkeypatch.setattr(fairness, "RESERVED", timedelta(seconds=3))
    slow, fast = new_worker("slow"), new_worker("fast")
    measured(slow, 20)
    measured(fast, 1)
    actions.submit_job("kitchen", alice.client_id, settings_of())
    process = CeleryWorker(slow.id, "slow")
    Chunk.objects.update(created_at=timezone.now())
    process.work()
    assert broker.woken() == {}
    until(lambda: broker.woken() == {slow.id: 1}, 10, "another message")
    Chunk.objects.update(created_at=timezone.now() - timedelta(seconds=4))
    assert slow.claim() is not None
