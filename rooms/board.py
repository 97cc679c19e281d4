"""What the workers of a room are looked after by, read once for all of them and process.

Every step of every image is a hint to every socket. What they ask then is the same: whether their
lease still holds, whether they are workers still, whether something is open. So it is read for all
of them together, and each asks for itself only where the answer may concern it.
"""

import time
from typing import Protocol
from uuid import UUID

from channels.db import database_sync_to_async

from genqueue import tabs
from genqueue.tabs import Standing
from rooms.reading import ByRoom, Reader

CHECK_SECONDS = 2.0


class Looker(Protocol):
    @property
    def waits_as(self) -> UUID | None:
        """The worker that has asked and got nothing."""

    def look_at(self, now: Standing) -> None: ...


class Board:
    """Lives while it has lookers; `board_of` makes it, `leave` drops it."""

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self._lookers: set[Looker] = set()
        self._reader = Reader(f"who works in room {room_id}", self._read)
        self._read_at = 0.0

    def enter(self, looker: Looker) -> None:
        self._lookers.add(looker)

    def leave(self, looker: Looker) -> None:
        self._lookers.discard(looker)
        if not self._lookers:
            _boards.drop(self.room_id, self)

    def hint(self) -> None:
        """Something may have changed."""
        self._reader.hint()

    def check(self) -> None:
        """Read it although nobody hinted, at most every 2 s: this is what finds lost hints."""
        if time.monotonic() - self._read_at >= CHECK_SECONDS:
            self.hint()

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        now = await database_sync_to_async(tabs.standing)(self.room_id)
        waiting = {one.waits_as for one in self._lookers if one.waits_as is not None}
        now = now.of(waiting)
        for looker in list(self._lookers):
            looker.look_at(now)


_boards = ByRoom(Board)
board_of = _boards.of
