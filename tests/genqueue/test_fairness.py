"""Whose turn it is, who keeps an image, and whether what people are told comes true."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from genqueue import actions, forecast, sweeper
from genqueue.models import Chunk, ChunkKind, Job, Turn, Worker
from genqueue.representation import job_as_json, jobs_as_json
from tests.genqueue.conftest import SECONDS, measured, new_worker, settings_of

pytestmark = pytest.mark.django_db


def submit(person, room="kitchen", **changes) -> Job:
    return actions.submit_job(room, person.client_id, settings_of(**changes))[0]


def order_of_images(worker) -> list:
    """Job ids in the order in which their images get done."""
    return [lease.job_id for lease in worker.do_all() if lease.kind == ChunkKind.DECODE]


class TestTheOrder:
    def test_clients_of_a_room_take_turns(self, alice, bob, worker):
        hers = [submit(alice).pk for _ in range(3)]
        his = [submit(bob).pk for _ in range(2)]
        assert order_of_images(worker) == [hers[0], his[0], hers[1], his[1], hers[2]]

    def test_a_turn_is_an_image_not_a_batch(self, alice, bob, worker):
        batch = submit(alice, num_images=3).pk
        single = submit(bob).pk
        assert order_of_images(worker) == [batch, single, batch, batch]

    def test_rooms_take_turns_however_many_clients_they_have(self, alice, bob, charlie, worker):
        crowd = [submit(person, "crowd").pk for person in (alice, bob)]
        quiet = [submit(charlie, "quiet").pk for _ in range(2)]
        assert order_of_images(worker) == [crowd[0], quiet[0], crowd[1], quiet[1]]

    def test_a_clients_jobs_stay_in_order(self, alice, worker):
        jobs = [submit(alice).pk for _ in range(4)]
        assert order_of_images(worker) == jobs


class TestAWorkerAndItsImage:
    def test_stay_together_over_all_chunks(self, alice, bob, worker, other):
        submit(alice, num_images=2)
        worker.do_next()
        first, second = worker.claim(), other.claim()
        assert (first.index, second.index) == (0, 1)
        for _ in range(3):
            worker.finish(first)
            other.finish(second)
            following = other.claim(), worker.claim()
            if None in following:
                break
            second, first = following
            assert (first.index, second.index) == (0, 1)

    def test_images_of_a_batch_spread_over_workers(self, alice):
        hands = [new_worker(str(number)) for number in range(3)]
        submit(alice, num_images=3)
        hands[0].do_next()
        assert {hand.claim().index for hand in hands} == {0, 1, 2}

    def test_part_when_the_worker_does_not_come_back(self, alice, worker, other):
        submit(alice)
        worker.do_next()
        lease = worker.do_next()
        assert other.claim() is None
        Chunk.objects.update(created_at=timezone.now() - timedelta(seconds=3))
        assert other.claim().image_id == lease.image_id

    def test_part_when_a_clearly_faster_worker_is_idle(self, alice, worker, other):
        measured(worker, factor=20)
        measured(other)
        submit(alice)
        worker.do_next()
        worker.do_next()
        assert worker.claim() is None
        assert other.claim() is not None

    def test_stay_together_when_the_faster_worker_does_not_come(self, alice, worker, other):
        submit(alice)
        worker.do_next()
        lease = worker.do_next()
        measured(other, factor=0.1)
        assert worker.claim() is None
        Chunk.objects.update(created_at=timezone.now() - timedelta(seconds=3))
        assert worker.claim().image_id == lease.image_id

    def test_do_not_part_for_a_slightly_faster_one(self, alice, worker, other):
        measured(worker, factor=20)
        measured(other, factor=18)
        submit(alice)
        worker.do_next()
        worker.do_next()
        assert other.claim() is None


class TestRanges:
    def test_are_sized_to_about_three_seconds(self, alice, worker):
        measured(worker, factor=10)  # 1.25 s a step
        submit(alice)
        worker.do_next()
        lease = worker.claim()
        assert (lease.start, lease.stop) == (0, 2)

    def test_are_whole_images_when_the_worker_is_fast(self, alice, worker):
        measured(worker)
        submit(alice)
        worker.do_next()
        assert worker.claim().stop == 8


class TestTurns:
    def test_of_yesterday_are_forgotten(self, alice, bob, worker):
        for person in (alice, bob):
            submit(person)
        worker.do_all()
        yesterday = time.time_ns() - int(25 * 3600 * 1e9)
        Turn.objects.filter(client=alice.client_id).update(last_turn=yesterday)
        sweeper.sweep()
        assert [turn.client for turn in Turn.objects.all()] == [bob.client_id]

    def test_are_read_of_those_who_wait_only(self, alice, bob, worker):
        submit(bob)
        worker.do_all()
        waiting = submit(alice)
        with CaptureQueriesContext(connection) as queries:
            job_as_json(waiting)
        turns = next(q["sql"] for q in queries if 'FROM "queue_turn"' in q["sql"])
        with connection.cursor() as cursor:
            cursor.execute(turns)
            assert cursor.fetchall() == []


class TestPositions:
    def test_are_the_order_in_which_jobs_start(self, alice, bob, charlie, worker):
        jobs = [
            *(submit(alice, num_images=2) for _ in range(3)),
            *(submit(bob) for _ in range(2)),
            submit(charlie, "cellar"),
        ]
        told = {job.pk: job_as_json(job)["position"] for job in jobs}
        assert sorted(told.values()) == [1, 2, 3, 4, 5, 6]
        started = [lease.job_id for lease in worker.do_all() if lease.kind == ChunkKind.ENCODE]
        assert started == sorted(told, key=told.__getitem__)

    def test_are_gone_once_a_job_runs(self, alice, worker):
        running, waiting = submit(alice), submit(alice)
        worker.claim()
        running.refresh_from_db()
        assert [job["position"] for job in jobs_as_json([running, waiting])] == [None, 1]


class Clock:
    """Plays several workers with given speeds in simulated time, through the real protocol."""

    def __init__(self, hands) -> None:
        self.hands = dict(hands)  # hand: factor
        self.now = 0.0
        self.busy: list[tuple[float, int, object, object]] = []
        self.ended: dict = {}

    def run(self) -> None:
        idle = list(self.hands)
        while True:
            for hand in list(idle):
                lease = hand.claim()
                if lease is not None:
                    idle.remove(hand)
                    seconds = self.seconds(hand, lease)
                    self.busy.append((self.now + seconds, len(self.busy), hand, lease))
            if not self.busy:
                return
            self.busy.sort(key=lambda entry: entry[:2])
            self.now, _number, hand, lease = self.busy.pop(0)
            hand.finish(lease, self.seconds(hand, lease))
            idle.insert(0, hand)
            if Job.objects.get(pk=lease.job_id).state == "done":
                self.ended[lease.job_id] = self.now

    def seconds(self, hand, lease) -> float:
        seconds = SECONDS[lease.kind] * self.hands[hand]
        return seconds * (lease.stop - lease.start) / 8 if lease.stop else seconds


class TestExpectedTimes:
    @pytest.mark.parametrize("factors", [[1.0], [4.0, 4.0], [3.0, 3.7]])
    def test_come_true_within_30_percent(self, alice, bob, charlie, factors):
        hands = {new_worker(str(factor)): factor for factor in factors}
        for hand, factor in hands.items():
            measured(hand, factor)
        jobs = [
            *(submit(alice, num_images=2) for _ in range(3)),
            *(submit(bob, num_images=4) for _ in range(2)),
            *(submit(charlie, "cellar") for _ in range(3)),
        ]
        told = {job.pk: job_as_json(job)["eta_seconds"] for job in jobs}
        clock = Clock(hands)
        clock.run()
        for job in jobs:
            assert told[job.pk] == pytest.approx(clock.ended[job.pk], rel=0.3)

    def test_know_that_a_faster_worker_takes_over_the_tail(self, alice):
        hands = {new_worker("fast"): 4.0, new_worker("slow"): 40.0}
        for hand, factor in hands.items():
            measured(hand, factor)
        job = submit(alice, num_images=2)
        told = job_as_json(job)["eta_seconds"]
        clock = Clock(hands)
        clock.run()
        assert clock.ended[job.pk] < 40.0
        assert told == pytest.approx(clock.ended[job.pk], rel=0.3)

    def test_are_unknown_before_anything_was_measured(self, alice, worker):
        assert job_as_json(submit(alice))["eta_seconds"] is None

    def test_are_unknown_without_a_worker(self, alice, worker):
        measured(worker)
        job = submit(alice)
        assert job_as_json(job)["eta_seconds"] is not None
        Worker.objects.update(state="gone")
        assert job_as_json(job)["eta_seconds"] is None

    def test_are_unknown_in_a_paused_room(self, alice, worker):
        measured(worker)
        job = submit(alice)
        actions.pause_room(job.room, True)
        assert job_as_json(job)["eta_seconds"] is None
        assert job_as_json(job)["position"] == 1

    def test_shrink_while_a_job_runs(self, alice, worker):
        measured(worker, factor=10)
        job = submit(alice)
        told = [job_as_json(job)["eta_seconds"]]
        while worker.do_next(seconds=2.5):
            job.refresh_from_db()
            if job.state != "done":
                told.append(job_as_json(job)["eta_seconds"])
        assert told == sorted(told, reverse=True)
        assert len(set(told)) == len(told)

    def test_of_a_long_queue_are_reused_for_a_second(self, alice, worker, settings):
        settings.P2PWEB_LIMITS = {**settings.P2PWEB_LIMITS, "client_jobs": 100}
        jobs = {submit(alice).pk for _ in range(forecast.LONG_QUEUE)}
        assert forecast.forecast(jobs) is forecast.forecast(jobs)
        jobs.add(submit(alice).pk)
        assert jobs <= forecast.forecast(jobs).keys()
