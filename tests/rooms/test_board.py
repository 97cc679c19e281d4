"""What the workers of a room are looked after by: read once for all of them."""

import asyncio
from uuid import uuid4

import pytest
from django.db import OperationalError

from genqueue import tabs
from rooms.board import board_of
from rooms.reading import Reader

pytestmark = pytest.mark.django_db(transaction=True)


class Worker:
    def __init__(self) -> None:
        self.seen: list[tabs.Standing] = []
        self.shown = asyncio.Event()
        self.waits_as = None

    def look_at(self, now: tabs.Standing) -> None:
        self.seen.append(now)
        self.shown.set()


class TestABoard:
    async def test_reads_once_for_all_workers_and_hints(self, kitchen, monkeypatch):
        readings = []
        standing = tabs.standing
        monkeypatch.setattr(tabs, "standing", lambda room: readings.append(room) or standing(room))
        workers = [Worker() for _ in range(5)]
        board = board_of(kitchen)
        for worker in workers:
            board.enter(worker)
        for _ in range(20):
            board.hint()
        await asyncio.gather(*(worker.shown.wait() for worker in workers))
        assert readings == [kitchen]
        assert [len(worker.seen) for worker in workers] == [1] * 5

    async def test_says_that_all_may_have_what_its_worker_has_left(self, kitchen, monkeypatch):
        keeper, idle = uuid4(), Worker()
        kept = {(1, 0): keeper, (2, 0): uuid4()}
        now = tabs.Standing(frozenset({keeper}), frozenset(), frozenset(), kept)
        monkeypatch.setattr(tabs, "standing", lambda room: now)
        board = board_of(kitchen)
        board.enter(idle)
        for waits, is_open in ((None, set()), (keeper, {(1, 0)})):
            idle.waits_as = waits
            idle.shown.clear()
            board.hint()
            await idle.shown.wait()
            assert idle.seen[-1].open == is_open
            assert idle.seen[-1].kept.keys() == kept.keys() - is_open

    async def test_is_one_for_a_room_and_gone_with_its_last_worker(self, kitchen):
        first, second = Worker(), Worker()
        board = board_of(kitchen)
        board.enter(first)
        board_of(kitchen).enter(second)
        board.leave(first)
        assert board_of(kitchen) is board
        board.leave(second)
        assert board_of(kitchen) is not board


class TestAReader:
    async def test_reads_once_more_for_what_was_hinted_at_while_it_read(self):
        gate, readings = asyncio.Event(), []

        async def read() -> None:
            readings.append(len(readings))
            await gate.wait()

        reader = Reader("it", read)
        reader.hint()
        await asyncio.sleep(0.01)
        for _ in range(10):
            reader.hint()
        now = asyncio.create_task(reader.read_now())  # not content with the one that runs
        await asyncio.sleep(0.01)
        assert readings == [0]
        gate.set()
        await now
        assert readings == [0, 1]

    async def test_goes_on_after_the_database_has_failed(self, caplog):
        fails = [OperationalError("the disk is full"), None]

        async def read() -> None:
            if error := fails.pop(0):
                raise error

        reader = Reader("the room", read)
        await reader.read_now()
        await reader.read_now()
        assert not fails
        assert "the room could not be read" in caplog.text
