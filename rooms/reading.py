"""Reading once for all hints that come meanwhile, and no more than half of the time; and what reads
so, one for each room and process."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from django.db import DatabaseError, InterfaceError

log = logging.getLogger(__name__)

BETWEEN_READINGS_SECONDS = 0.04

T = TypeVar("T")


class Reader:
    """what: for the log.  read: reads, and shows what it has read. A database that fails is asked
    again at the next hint."""

    def __init__(self, what: str, read: Callable[[], Awaitable[None]]) -> None:
        self._what = what
        self._read = read
        self._stale = False
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def reads(self) -> bool:
        return self._task is not None

    def hint(self) -> None:
        """Something may have changed: read it soon."""
        self._stale = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._while_stale())

    async def read_now(self) -> None:
        """Wait for a reading that began after this call, or failed."""
        read = asyncio.get_running_loop().create_future()
        self._waiting.append(read)
        self.hint()
        await read

    async def _while_stale(self) -> None:
        try:
            while self._stale:
                began = time.monotonic()
                await self._read_once()
                if self._stale:
                    took = time.monotonic() - began
                    await asyncio.sleep(max(BETWEEN_READINGS_SECONDS, took))
        finally:
            self._task = None

    async def _read_once(self) -> None:
        self._stale = False
        waiting, self._waiting = self._waiting, []
        try:
            await self._read()
        except (DatabaseError, InterfaceError):
            log.exception("%s could not be read; the next beat tries again", self._what)
        finally:
            for read in waiting:
                if not read.done():  # nobody waits for it any more
                    read.set_result(None)


class ByRoom(Generic[T]):
    """One of each room, made when it is first asked for, in every event loop."""

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make
        self._all: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, T]] = WeakKeyDictionary()

    def of(self, room_id: str) -> T:
        here = self._here()
        if room_id not in here:
            here[room_id] = self._make(room_id)
        return here[room_id]

    def drop(self, room_id: str, one: T) -> None:
        """Unless another one has taken its place."""
        if self._here().get(room_id) is one:
            del self._here()[room_id]

    def any(self) -> bool:
        return bool(self._here())

    def _here(self) -> dict[str, T]:
        return self._all.setdefault(asyncio.get_running_loop(), {})
