"""Real threads on a real database file: whoever loses a race changes nothing."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from genqueue import actions, files, protocol, sweeper
from genqueue.models import Chunk, Image, Job, Tally
from genqueue.protocol import LeaseLostError
from tests.genqueue.conftest import new_worker, settings_of

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls):
    """Run the calls in threads that start together; their results, or what they raised."""
    start = threading.Barrier(len(calls))

    def run(call):
        try:
            start.wait()
            return call()
        except LeaseLostError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_one_chunk_is_leased_once(alice):
    hands = [new_worker(str(number)) for number in range(6)]
    actions.submit_job("kitchen", alice.client_id, settings_of())
    leases = at_once(*(hand.claim for hand in hands))
    assert sum(lease is not None for lease in leases) == 1


def test_one_of_many_completions_counts(alice):
    hand = new_worker()
    actions.submit_job("kitchen", alice.client_id, settings_of())
    hand.do_next()
    lease = hand.claim()
    answers = at_once(*(lambda: protocol.complete(lease, b"latent", 0.1) for _ in range(6)))
    assert sum(not isinstance(answer, LeaseLostError) for answer in answers) == 1
    assert Tally.objects.get().steps_done == lease.stop
    assert Image.objects.get().checkpoints.count() == 1


def test_completing_or_cancelling_one_wins(alice):
    hand = new_worker()
    for _ in range(5):
        job, _token = actions.submit_job("kitchen", alice.client_id, settings_of(steps=1))
        while (lease := hand.claim()).kind != "decode":
            hand.finish(lease)
        done, cancelled = at_once(
            lambda lease=lease: hand.finish(lease), lambda job=job: actions.cancel_job(job)
        )
        job = Job.objects.get(pk=job.pk)
        assert job.state == ("cancelled" if cancelled else "done")
        assert isinstance(done, LeaseLostError) == cancelled
        assert Image.objects.get(job=job).state == job.state


def test_several_workers_finish_everything_while_leases_are_taken_back(alice, bob):
    for person in (alice, bob):
        for _ in range(3):
            actions.submit_job("kitchen", person.client_id, settings_of(num_images=2, steps=4))
    finished = threading.Event()

    def work(hand):
        while Job.objects.unfinished().exists():
            lease = hand.claim()
            if lease is not None:
                with contextlib.suppress(LeaseLostError):
                    hand.finish(lease)

    def take_back():
        while not finished.is_set():
            sweeper.sweep()
            leased = Chunk.objects.filter(state="leased")
            protocol.take_back(list(leased[:1]))
            finished.wait(0.02)

    def all_work():
        hands = [new_worker(str(number)) for number in range(3)]
        try:
            at_once(*(lambda hand=hand: work(hand) for hand in hands))
        finally:
            finished.set()

    at_once(all_work, take_back)
    assert {job.state for job in Job.objects.all()} == {"done"}
    assert Tally.objects.get().images_done == 12
    assert Tally.objects.get().steps_done == 12 * 4


def test_a_broker_that_cannot_be_reached_takes_no_picture_along(alice, monkeypatch):
    def unreachable(**_):
        raise ConnectionError

    monkeypatch.setattr("genqueue.tasks.work.apply_async", unreachable)
    hand = new_worker()
    new_worker("idle")
    job, _token = actions.submit_job("kitchen", alice.client_id, settings_of(steps=1))
    actions.submit_job("kitchen", alice.client_id, settings_of())  # what the idle one is told of
    while (lease := hand.claim()).kind != "decode":
        hand.finish(lease)
    hand.finish(lease)
    assert files.read(job.images.get().picture) == f"decode of {hand.id}".encode()
