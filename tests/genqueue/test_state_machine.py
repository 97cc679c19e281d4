"""Random walks over the whole queue: whatever happens in whatever order, it stays consistent.

Workers claim, report, finish, fail, stop and die, or hand in something wrong; leases run out;
people add, cancel and remove; answers come twice or late. After every step the rows must agree with
each other and with the table of transitions; at the end everything can still be finished.
"""

import random
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from genqueue import (
    actions,
    checks,
    comparing,
    departure,
    protocol,
    roster,
    sweeper,
    transitions,
)
from genqueue.check_models import Check
from genqueue.faults import Fault
from genqueue.kinds import WorkerKind
from genqueue.models import Checkpoint, Chunk, Image, Job, Room, Worker
from genqueue.protocol import LeaseLostError
from tests.genqueue.conftest import new_worker, settings_of
from tests.genqueue.volunteers import compare_words

CLIENTS = ["a" * 32, "b" * 32]
ROOMS = ["kitchen", "cellar"]


class Queue(RuleBasedStateMachine):
    leases = Bundle("leases")
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        checks._dice = random.Random(1)  # histories must be the same when they are played again
        kitchen = Room.objects.create(pk="kitchen")
        brought = {"kind": WorkerKind.TAB, "room": kitchen}
        self.workers = [
            new_worker("one"),
            new_worker("two", models=("tiny", "rare")),
            new_worker("three", client="c" * 32, **brought),
            new_worker("four", client="d" * 32, **brought),
        ]
        self.states: dict = {}

    def teardown(self) -> None:
        try:
            self.everything_can_still_be_finished()
        finally:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)

    # What people do

    @rule(
        target=jobs,
        client=st.sampled_from(CLIENTS),
        room=st.sampled_from(ROOMS),
        model=st.sampled_from(["tiny", "tiny", "rare"]),
        images=st.integers(1, 3),
        steps=st.integers(1, 5),
    )
    def submit(self, client, room, model, images, steps):
        wanted = settings_of(model=model, num_images=images, steps=steps)
        return actions.submit_job(room, client, wanted)[0].pk

    @rule(job=jobs)
    def cancel(self, job):
        found = Job.objects.filter(pk=job).first()
        if found is not None:
            ended = found.state in transitions.JOB_ENDED
            assert actions.cancel_job(found) is not ended

    @rule(job=jobs)
    def requeue_running(self, job):
        found = Job.objects.filter(pk=job, state="running").first()
        if found is not None:
            actions.requeue_job(found)

    @rule(room=st.sampled_from(ROOMS), paused=st.booleans())
    def pause(self, room, paused):
        for found in Room.objects.filter(pk=room):
            actions.pause_room(found, paused)

    @rule()
    def clear(self):
        actions.clear_finished()

    # What workers do, with leases that may be long lost

    @rule(target=leases, number=st.integers(0, 3))
    def claim(self, number):
        return self.workers[number].claim()

    def report(self, lease, call):
        """Every report of a holder is taken, every other one is refused and changes nothing."""
        if lease is None:
            return
        held = Chunk.objects.filter(pk=lease.chunk_id, state="leased", **lease.fence).exists()
        before = self.rows()
        try:
            call()
        except LeaseLostError:
            assert not held
            assert self.rows() == before
        else:
            assert held

    @rule(lease=leases)
    def renew(self, lease):
        self.report(lease, lambda: protocol.renew(lease))

    @rule(lease=leases, latent=st.booleans(), data=st.data())
    def checkpoint(self, lease, latent, data):
        if lease is not None and lease.stop:
            step = data.draw(st.integers(lease.start + 1, lease.stop))
            content = b"latent" if latent else None
            self.report(lease, lambda: protocol.checkpoint(lease, step, content, b"preview"))

    @rule(
        lease=leases,
        seconds=st.sampled_from([0.1, 2.0, 10.0]),
        result=st.sampled_from([b"result", b"result", b"result", b"a lie"]),
    )
    def complete(self, lease, seconds, result):
        self.report(lease, lambda: protocol.complete(lease, result, seconds))

    @rule(lease=consumes(leases))
    def fail(self, lease):
        self.report(lease, lambda: protocol.fail(lease, Fault.COMPUTATION_FAILED))

    @rule(lease=leases)
    def stop(self, lease):
        self.report(lease, lambda: protocol.release(lease))

    @rule(lease=leases)
    def lack_the_model(self, lease):
        if lease is not None:
            self.report(lease, lambda: protocol.lack_model(lease))
            Worker.objects.filter(pk=self.workers[1].id).update(model_names=["tiny", "rare"])
            Worker.objects.filter(pk=self.workers[0].id).update(model_names=["tiny"])

    @rule(number=st.integers(0, 3), crashed=st.booleans())
    def leave_and_come_back(self, number, crashed):
        worker = self.workers[number].id
        departure.worker_is_gone(worker, crashed=crashed)
        assert not Chunk.objects.filter(worker_id=worker, state="leased").exists()
        kept = Image.objects.filter(worker_id=worker).exclude(state__in=transitions.IMAGE_ENDED)
        assert not kept.exists()
        assert self.workers[number].claim() is None
        roster.set_state(worker, "gone", "ready")

    @rule(number=st.integers(0, 3))
    def leases_run_out(self, number):
        worker = self.workers[number].id
        late = timezone.now() - timedelta(seconds=1)
        held = Chunk.objects.filter(worker_id=worker, state="leased").update(deadline=late)
        assert sweeper.sweep().leases == held

    # What must hold at any time

    def rows(self):
        models = (Job, Image, Chunk, Check)
        return [list(model.objects.order_by("pk").values()) for model in models]

    @invariant()
    def only_moves_of_the_table_happened(self):
        for model in (Job, Image, Chunk, Check):
            name = model._meta.model_name
            for pk, state in model.objects.values_list("pk", "state"):
                before = self.states.get((name, pk), state)
                if state != before:
                    assert self.reachable(transitions.MOVES[name], before, state), (before, state)
                self.states[name, pk] = state

    def reachable(self, moves, old, new):
        found, wave = set(), {old}
        while wave:
            wave = {n for state in wave for n in moves.get(state, ())} - found
            found |= wave
        return new in found

    @invariant()
    def every_unfinished_image_has_what_takes_it_further(self):
        for image in Image.objects.select_related("job").exclude(state__in=transitions.IMAGE_ENDED):
            live = Chunk.objects.filter(state__in=transitions.CHUNK_LIVE, job=image.job)
            if image.picture:  # it waits for a check
                assert not live.filter(image=image).exists()
                assert Check.objects.of_image(image).filter(state="open").exists()
                continue
            encoding = live.filter(kind="encode").count()
            assert live.filter(image=image).count() + encoding == 1

    @invariant()
    def jobs_agree_with_their_images(self):
        for job in Job.objects.all():
            states = set(job.images.values_list("state", flat=True))
            ended = states <= set(transitions.IMAGE_ENDED)
            assert (job.state in transitions.JOB_ENDED) == ended, (job.state, states)
            if job.state == "done":
                assert states == {"done"}
            if job.state in transitions.JOB_ENDED:
                live = Chunk.objects.filter(job=job, state__in=transitions.CHUNK_LIVE)
                assert not live.exclude(kind="check").exists()
                if job.state != "done":
                    assert not live.filter(check_of__image__state="cancelled").exists()

    @invariant()
    def open_checks_can_be_made_and_no_others(self):
        live = Chunk.objects.filter(state__in=transitions.CHUNK_LIVE, kind="check")
        open_ones = Check.objects.filter(state="open")
        assert sorted(live.values_list("check_of", flat=True)) == [c.pk for c in open_ones]
        for check in Check.objects.filter(state__in=transitions.CHECK_LIVE):
            for name in (check.given, check.result, check.second):
                assert not name or default_storage.exists(name)

    @invariant()
    def what_is_held_back_is_of_a_lease(self):
        for check in Check.objects.filter(state="held").select_related("chunk"):
            chunk = check.chunk
            holder = (chunk.state, chunk.attempt, chunk.worker_id)
            assert holder == ("leased", check.attempt, check.worker_id)

    @invariant()
    def nobody_checks_what_is_its_own(self):
        for chunk in Chunk.objects.filter(state="leased", kind="check"):
            makers = (chunk.check_of.client, chunk.check_of.second_client)
            assert not chunk.worker.client or chunk.worker.client not in makers

    @invariant()
    def no_worker_holds_a_chunk_twice(self):
        leased = Chunk.objects.filter(state="leased")
        assert all(chunk.worker_id is not None for chunk in leased)
        assert leased.count() == leased.values("pk").distinct().count()

    @invariant()
    def workers_hold_chunks_of_their_models_only(self):
        for chunk in Chunk.objects.filter(state="leased").select_related("job", "worker"):
            assert chunk.job.model in chunk.worker.model_names

    @invariant()
    def ranges_follow_each_other(self):
        for image in Image.objects.select_related("job"):
            done = image.chunks.filter(kind="denoise", state="done").order_by("start")
            reached = 0
            for chunk in done:
                assert chunk.start == reached
                reached = chunk.stop
            if image.state == "done" or image.picture:
                assert reached == image.job.steps

    @invariant()
    def checkpoints_exist_and_are_two_at_most(self):
        for image in Image.objects.all():
            assert image.checkpoints.count() <= 2
        for row in Checkpoint.objects.exclude(image__state__in=transitions.IMAGE_ENDED):
            assert default_storage.exists(row.latent)

    def everything_can_still_be_finished(self):
        Room.objects.update(paused=False)
        for worker in self.workers:
            self.leases_run_out(self.workers.index(worker))
        for _ in range(500):
            Chunk.objects.update(created_at=timezone.now() - timedelta(seconds=10))
            if not sum(worker.do_next() is not None for worker in self.workers):
                break
        assert not Job.objects.unfinished().exists()


@pytest.mark.django_db
def test_the_queue_stays_consistent(monkeypatch):
    monkeypatch.setattr(comparing, "compare", compare_words)
    monkeypatch.setattr(checks, "PROVEN", 2)
    monkeypatch.setattr(checks, "_dice", checks._dice)
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
