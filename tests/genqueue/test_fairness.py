"""Whose turn it is, who keeps an image, and whether what people are told comes true."""

import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from genqueue import actions, fairness, protocol, sweeper
from genqueue.faults import Fault
from genqueue.kinds import ChunkKind
from genqueue.models import Chunk, Job, Turn, Worker
from genqueue.representation import job_as_json
from genqueue.tail import Left, Tail
from genqueue.transitions import ChunkState
from tests.genqueue.conftest import (
    SIDE,
    a_while_ago,
    measured,
    new_worker,
    seconds_of,
    settings_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patient")]


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
        Chunk.objects.update(created_at=a_while_ago())
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
        Chunk.objects.update(created_at=a_while_ago())
        assert worker.claim().image_id == lease.image_id

    def test_do_not_part_for_a_slightly_faster_one(self, alice, worker, other):
        measured(worker, factor=20)
        measured(other, factor=18)
        submit(alice)
        worker.do_next()
        worker.do_next()
        assert other.claim() is None


class TestBeginning:
    """Of several idle workers the fastest begins, whoever asks first."""

    @pytest.fixture
    def fast(self):
        return self.known("fast", 1)

    @pytest.fixture
    def slow(self):
        return self.known("slow", 20)

    def known(self, name, factor):
        hand = new_worker(name)
        measured(hand, factor)
        return hand

    def test_is_left_to_the_faster_one(self, alice, fast, slow):
        submit(alice)
        assert slow.claim() is None
        assert fast.claim() is not None

    def test_is_not_left_to_one_that_has_something_to_go_on_with(self, alice, bob, fast, slow):
        submit(alice)
        fast.do_next()  # between two chunks: it holds no lease, and will be back at once
        submit(bob)
        assert slow.claim() is not None

    def test_is_not_left_to_one_that_does_not_come(self, alice, fast, slow):
        submit(alice)
        Chunk.objects.update(created_at=a_while_ago())
        assert slow.claim() is not None

    def test_is_not_left_to_a_slightly_faster_one(self, alice, slow):
        self.known("hardly faster", 18)
        submit(alice)
        assert slow.claim() is not None

    def test_keeps_the_order_of_jobs(self, alice, bob, fast, slow):
        jobs = [submit(alice).pk, submit(bob).pk, submit(alice).pk]
        assert slow.claim() is None
        assert fast.claim().job_id == jobs[0]
        assert slow.claim().job_id == jobs[1]

    def test_wakes_who_left_it(
        self, alice, bob, fast, slow, broker, django_capture_on_commit_callbacks
    ):
        for person in (alice, bob):
            submit(person)
        with django_capture_on_commit_callbacks(execute=True):
            slow.claim()
        assert broker.woken() == {}
        with django_capture_on_commit_callbacks(execute=True):
            fast.claim()
        assert broker.woken() == {slow.id: 1}

    def test_comes_before_taking_over(self, alice, fast, slow):
        """Whoever is asked first: each does the image that it would do anyway."""
        Worker.objects.filter(pk=fast.id).update(state="loading")
        submit(alice, num_images=2)
        slow.do_next()
        Worker.objects.filter(pk=fast.id).update(state="ready")
        assert slow.claim().index == 0
        assert fast.claim().index == 1

    def test_leaves_decoding_where_the_latent_is(self, alice, fast, slow):
        Worker.objects.filter(pk=fast.id).update(state="loading")
        submit(alice, steps=1)
        slow.do_next()
        slow.do_next()
        Worker.objects.filter(pk=fast.id).update(state="ready")
        assert fast.claim() is None
        assert slow.claim().kind == ChunkKind.DECODE


class TestTheTail:
    """What slow workers would hold up is left to faster ones, when nearly everything is begun."""

    SECONDS_A_CHUNK = 2.5

    @pytest.fixture(autouse=True)
    def two_are_many(self, monkeypatch):
        monkeypatch.setattr(fairness, "MANY_WORKERS", 2)

    def known(self, name, factor):
        hand = new_worker(name)
        measured(hand, factor)
        return hand

    def do_chunk(self, hand):
        return hand.do_next(self.SECONDS_A_CHUNK)

    def test_is_left_to_a_fast_worker_that_is_busy(self, alice):
        fast, slow = self.known("fast", 10), self.known("slow", 100)
        submit(alice, num_images=2)
        fast.do_next(1.0)
        self.do_chunk(fast)
        assert fast.claim().index == 0
        assert slow.claim() is None

    def test_is_not_left_for_ever(self, alice):
        fast, slow = self.known("fast", 10), self.known("slow", 100)
        submit(alice, num_images=2)
        fast.do_next(1.0)
        self.do_chunk(fast)
        fast.claim()
        Chunk.objects.update(created_at=a_while_ago())
        assert slow.claim().index == 1

    def test_is_not_left_by_one_of_a_few(self, alice, monkeypatch):
        monkeypatch.setattr(fairness, "MANY_WORKERS", 3)
        fast, slow = self.known("fast", 10), self.known("slow", 100)
        submit(alice, num_images=2)
        fast.do_next(1.0)
        self.do_chunk(fast)
        fast.claim()
        assert slow.claim().index == 1

    def test_is_not_left_while_there_is_enough_to_begin(self, alice):
        fast, slow = self.known("fast", 10), self.known("slow", 100)
        submit(alice, num_images=4)
        fast.do_next(1.0)
        self.do_chunk(fast)
        fast.claim()
        assert slow.claim().index == 1

    def test_is_not_left_to_one_that_has_more_to_do_elsewhere(self, alice, bob):
        """Whoever can do other models too is not waited for."""
        fast, slow = self.known("fast", 10), self.known("slow", 100)
        Worker.objects.filter(pk=fast.id).update(model_names=["tiny", "huge"])
        submit(alice, num_images=2)
        fast.do_next(1.0)
        self.do_chunk(fast)
        fast.claim()
        assert slow.claim().index == 1

    def test_is_exchanged_so_that_both_end_at_the_same_time(self, alice):
        fast, slow = self.known("fast", 10), self.known("slow", 20)
        submit(alice, num_images=2)
        fast.do_next(1.0)
        for _ in range(2):  # twice as many steps in the same time
            for _ in range(2):
                assert fast.do_next(self.SECONDS_A_CHUNK / 2).index == 0
            assert self.do_chunk(slow).index == 1
        at_slow = slow.claim()
        fast.do_next(self.SECONDS_A_CHUNK / 2)
        at_fast = fast.claim()
        assert (at_fast.stop, at_slow.stop) == (6, 3)
        slow.finish(at_slow, self.SECONDS_A_CHUNK)
        fast.finish(at_fast, self.SECONDS_A_CHUNK / 2)
        assert slow.claim() is None
        assert fast.claim().index == 1
        assert slow.claim().index == 0

    def test_is_left_as_long_as_a_step_of_the_slow_one_takes(self, alice):
        fast, slow = self.known("fast", 10), self.known("slow", 100)
        submit(alice, num_images=2)
        fast.do_next(1.0)
        self.do_chunk(fast)
        fast.claim()
        step = seconds_of(ChunkKind.DENOISE, 100, SIDE)
        assert step > settings.CHUNK_SECONDS + 4
        waiting = Chunk.objects.filter(state=ChunkState.PENDING)
        long_ago = timezone.now() - fairness.RESERVED - timedelta(seconds=step)
        waiting.update(created_at=long_ago + timedelta(seconds=4))
        assert slow.claim() is None
        waiting.update(created_at=long_ago)
        assert slow.claim().index == 1

    @pytest.mark.parametrize(("steps", "other", "given"), [
        (400, 4, 12), (200, 4, 9), (40, 4, 4),  # three seconds, a thirtieth of what is left, one
        (200, 2, 12), (40, 2, 12),  # another one that is as fast would not take it
    ])  # fmt: skip
    def test_goes_in_shorter_ranges_the_sooner_all_could_end(self, alice, steps, other, given):
        hand = self.known("hand", 2)
        self.known("other", other)
        submit(alice, num_images=2, steps=steps)
        hand.do_next(0.2)
        lease = hand.claim()
        assert lease.stop - lease.start == given

    @pytest.mark.parametrize(("seconds", "last", "too_slow"), [
        (4.4, True, False), (4.6, True, True), (4.6, False, False),
    ])  # fmt: skip
    def test_is_left_by_a_slow_one_that_would_end_the_last(self, seconds, last, too_slow):
        fast, slow = uuid4(), uuid4()
        images = [Left("long", 3.0, fast), Left("short", 2.0, None)]
        tail = Tail({fast: 1.0, slow: 4.0}, images)  # all could end in 4 s
        assert tail.is_too_slow("short", slow, seconds, last=last) is too_slow
        assert not tail.is_too_slow("short", fast, seconds, last=last)

    def test_is_exchanged_for_one_that_is_longer_by_half_a_chunk(self):
        fast, slow = uuid4(), uuid4()
        for longer, needed in ((1.4, False), (1.6, True)):
            images = [Left("other", 4.0 + longer, None), Left("own", 4.0, None)]
            tail = Tail({fast: 1.0, slow: 2.0}, images)
            assert tail.is_needed_at(fast, "own", "other") is needed

    def test_takes_as_many_queries_with_many_workers(self, alice):
        taken = []
        for count in (4, 16):
            with transaction.atomic():
                taken.append(self.queries_of_a_claim(alice, count))
                transaction.set_rollback(True)
        assert taken[0] == taken[1]

    def queries_of_a_claim(self, alice, count):
        hands = [self.known(f"{count} {number}", 10 + number) for number in range(count)]
        slow = self.known(f"{count} slow", 100)
        submit(alice, num_images=count + 1)
        hands[0].do_next(1.0)
        for hand in hands:
            self.do_chunk(hand)
        for hand in hands:
            assert hand.claim() is not None
        with CaptureQueriesContext(connection) as queries:
            assert slow.claim() is None
        return len(queries)


class TestAFaultyWorker:
    """One that fails at everything must not fail every job: it asks again the soonest."""

    def test_leaves_what_it_failed_at_to_others(self, alice, worker, other):
        submit(alice)
        lease = worker.claim()
        protocol.fail(lease, Fault.COMPUTATION_FAILED)
        assert worker.claim() is None
        assert other.claim().chunk_id == lease.chunk_id

    def test_goes_on_with_other_work(self, alice, bob, worker, other):
        submit(alice)
        waiting = submit(bob)
        protocol.fail(worker.claim(), Fault.COMPUTATION_FAILED)
        assert worker.claim().job_id == waiting.pk

    def test_tries_again_when_it_is_the_only_one_with_the_model(self, alice, worker):
        new_worker("without", models=("huge",))
        new_worker("gone", "gone")
        submit(alice)
        lease = worker.claim()
        protocol.fail(lease, Fault.COMPUTATION_FAILED)
        assert worker.claim().chunk_id == lease.chunk_id


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
