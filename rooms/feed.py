"""One reader a room and process, however many tabs look.

A hint (or a beat, when hints were lost) makes the feed read the room once and hand the new state
to every socket, which sends what is news to its own page. Hints that come while it reads are
answered by one more reading, however many they were.
"""

import logging
import time
from typing import Protocol

from autobahn.exception import Disconnected
from channels.db import database_sync_to_async

from rooms import presence, state
from rooms.presence import PeerJson
from rooms.reading import ByRoom, Reader
from rooms.state import RoomState

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0


class Subscriber(Protocol):
    async def show_room(self, now: RoomState) -> None: ...
    async def show_peers(self, peers: list[PeerJson]) -> None: ...


class Feed:
    """Lives while it has subscribers; `feed_of` makes it, `leave` drops it."""

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self.room: RoomState | None = None
        self.peers: list[PeerJson] = []
        self._subscribers: set[Subscriber] = set()
        self._reader = Reader(f"room {room_id}", self._read)
        self._stale = {"room": False, "peers": False}
        self._checked_at = time.monotonic()

    async def enter(self, subscriber: Subscriber) -> RoomState:
        """The room as it is now; later states come through `show_room`."""
        self._subscribers.add(subscriber)
        await self.read_now()
        assert self.room is not None
        return self.room

    async def read_now(self) -> RoomState:
        """Wait for a reading that began after this call."""
        self._stale = {"room": True, "peers": True}
        await self._reader.read_now()
        assert self.room is not None
        return self.room

    def leave(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)
        if not self._subscribers:
            _feeds.drop(self.room_id, self)

    def hint(self, *, room: bool = False, peers: bool = False) -> None:
        """Something may have changed: read it, once for all hints that come meanwhile."""
        self._stale["room"] |= room
        self._stale["peers"] |= peers
        self._reader.hint()

    async def check(self) -> None:
        """Compare with the database, at most every 2 s: this is what finds lost hints."""
        now = time.monotonic()
        if now - self._checked_at < CHECK_SECONDS or self._reader.reads:
            return
        self._checked_at = now
        head = await database_sync_to_async(state.head_of)(self.room_id)
        revision = await database_sync_to_async(state.revision_of)(self.room_id)
        peers = await database_sync_to_async(presence.peers)(self.room_id)
        known = self.room
        self.hint(
            room=known is None or known.revision != revision or known.head != head,
            peers=peers != self.peers,
        )

    async def _read(self) -> None:
        room, peers = self._stale["room"], self._stale["peers"]
        self._stale = {"room": False, "peers": False}
        if room:
            self.room = await database_sync_to_async(state.load)(self.room_id, self.room)
        if peers:
            self.peers = await database_sync_to_async(presence.peers)(self.room_id)
        await self._show(room, peers)

    async def _show(self, room: bool, peers: bool) -> None:
        for subscriber in list(self._subscribers):
            try:
                if room and self.room is not None:
                    await subscriber.show_room(self.room)
                if peers:
                    await subscriber.show_peers(self.peers)
            except Disconnected:
                # Its page is closing the socket, which is told after this. The others must hear:
                # no beat would make this good, since the feed itself has read it
                log.info("room %s: a page that leaves was not told what is new", self.room_id)


_feeds = ByRoom(Feed)
feed_of = _feeds.of
has_feeds = _feeds.any  # whether anybody looks at any room through this process
