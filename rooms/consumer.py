"""The room WebSocket: `/ws/rooms/{room}/`, one for each open tab.

- On connecting: the whole room. Then what changes, as the feed reads it.
- The page beats every 3 s. A tab not heard of for 10 s is gone. Each beat is also when lost hints
  are found, so a page is right again within 5 s whatever was dropped.
- A message type routes by its prefix to a method here, then by its command.
"""

import asyncio
import json
import logging
import secrets
import time
from typing import Any
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from genqueue.clients import client_from_cookies, client_label, new_client_id
from genqueue.events import WORKERS_GROUP, room_group
from rooms import presence
from rooms.feed import Feed, feed_of, has_feeds
from rooms.messages import (
    GONE_AFTER_SECONDS,
    BeatBack,
    Changed,
    Error,
    Peers,
    State,
    ToPage,
)
from rooms.presence import PeerJson
from rooms.state import RoomState

log = logging.getLogger(__name__)

MAX_MESSAGE_CHARACTERS = 4096
MESSAGES_A_SECOND = 20  # in the mean; a page sends one every 3 s
MESSAGE_BURST = 60
CLOSE_GONE, CLOSE_FLOOD = 4000, 4008


class MessageError(Exception):
    """Not understood. The page is told the code; nothing is done."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class RoomConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    room_id: str
    peer_id: str
    feed: Feed

    async def connect(self) -> None:
        self.room_id = self.scope["url_route"]["kwargs"]["room_id"]
        self.peer_id = secrets.token_hex(8)
        self._sent: RoomState | None = None
        self._joined = False
        self._sending = asyncio.Lock()
        self._heard_at = self._budget_at = time.monotonic()
        self._budget = float(MESSAGE_BURST)
        client = client_from_cookies(self.scope.get("cookies", {})) or new_client_id()
        self.groups = [room_group(self.room_id), WORKERS_GROUP]
        for group in self.groups:
            await self.channel_layer.group_add(group, self.channel_name)
        await self.accept()
        self.feed = feed_of(self.room_id)
        await database_sync_to_async(presence.join)(
            self.room_id, self.peer_id, client_label(client)
        )
        self._joined = True
        self._watchdog = asyncio.create_task(self._close_when_silent())
        _keep_presence_alive()
        await self.feed.enter(self)
        if self._sent is None:  # the reading that entering waited for was shown to us, usually
            await self._send_all()
        await self._say_peers_changed()

    async def disconnect(self, code: int) -> None:
        if not self._joined:
            return
        self._watchdog.cancel()
        self.feed.leave(self)
        await database_sync_to_async(presence.leave)(self.room_id, self.peer_id)
        await self._say_peers_changed()

    # From the page -----------------------------------------------------------------------------
    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        self._heard_at = time.monotonic()
        if not self._within_budget():
            await self.close(CLOSE_FLOOD)
            return
        try:
            await self._route(_parsed(text_data))
        except MessageError as error:
            await self._send(Error(type="error", code=error.code, detail=str(error)))

    async def _route(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        prefix, _, command = kind.partition(".") if isinstance(kind, str) else ("", "", "")
        match prefix:
            case "peer":
                await self._peer(command, message)
            case "room":
                await self._room(command)
            case _:
                raise MessageError("unknown-type", "There is no message of this type.")

    async def _peer(self, command: str, message: dict[str, Any]) -> None:
        if command != "beat":
            raise MessageError("unknown-type", "There is no message of this type.")
        revision = message.get("revision")
        if not isinstance(revision, int) or isinstance(revision, bool):
            raise MessageError("bad-message", "A beat carries a whole number as revision.")
        await self.feed.check()
        sent = self._sent
        await self._send(BeatBack(type="peer.beat", revision=sent.revision if sent else 0))

    async def _room(self, command: str) -> None:
        if command != "resync":
            raise MessageError("unknown-type", "There is no message of this type.")
        await self.feed.read_now()
        await self._send_all()

    def _within_budget(self) -> bool:
        now = time.monotonic()
        earned = (now - self._budget_at) * MESSAGES_A_SECOND
        self._budget = min(MESSAGE_BURST, self._budget + earned) - 1
        self._budget_at = now
        return self._budget >= 0

    # From the channel layer: hints ---------------------------------------------------------------
    async def room_changed(self, event: dict[str, Any]) -> None:
        self.feed.hint(room=True)

    async def workers_changed(self, event: dict[str, Any]) -> None:
        self.feed.hint(room=True)

    async def room_peers(self, event: dict[str, Any]) -> None:
        self.feed.hint(peers=True)

    # From the feed -----------------------------------------------------------------------------
    async def show_room(self, now: RoomState) -> None:
        before = self._sent
        if before is None:
            await self._send_all()
            return
        jobs = [job for id_, job in now.jobs.items() if before.jobs.get(id_) is not job]
        gone = [id_ for id_ in before.jobs if id_ not in now.jobs]
        if not jobs and not gone and before.head == now.head and before.revision == now.revision:
            return
        self._sent = now
        await self._send(
            Changed(
                type="room.changed",
                since=before.revision,
                revision=now.revision,
                room=now.head,
                jobs=jobs,
                gone=gone,
                older=now.older,
            )
        )

    async def show_peers(self, peers: list[PeerJson]) -> None:
        if self._sent is not None:
            await self._send(Peers(type="room.peers", peers=peers))

    async def _send_all(self) -> None:
        now = self.feed.room
        assert now is not None
        self._sent = now
        await self._send(
            State(
                type="room.state",
                revision=now.revision,
                room=now.head,
                jobs=list(now.jobs.values()),
                older=now.older,
                peers=self.feed.peers,
                peer=self.peer_id,
            )
        )

    async def _send(self, message: ToPage) -> None:
        async with self._sending:
            await self.send_json(message)

    # Presence ----------------------------------------------------------------------------------
    async def _say_peers_changed(self) -> None:
        await self.channel_layer.group_send(
            room_group(self.room_id), {"type": "room.peers", "room": self.room_id}
        )

    async def _close_when_silent(self) -> None:
        while time.monotonic() - self._heard_at < GONE_AFTER_SECONDS:
            await asyncio.sleep(1)
        await self.close(CLOSE_GONE)


def _parsed(text: str | None) -> dict[str, Any]:
    if text is None:
        raise MessageError("not-text", "Messages are JSON objects as text.")
    if len(text) > MAX_MESSAGE_CHARACTERS:
        raise MessageError(
            "too-long", f"A message has at most {MAX_MESSAGE_CHARACTERS} characters."
        )
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise MessageError("not-json", "Messages are JSON objects as text.") from None
    if not isinstance(message, dict):
        raise MessageError("not-an-object", "Messages are JSON objects as text.")
    return message


_keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()


def _keep_presence_alive() -> None:
    """One task a process says every few seconds that its tabs are still here."""
    loop = asyncio.get_running_loop()
    if loop not in _keepers or _keepers[loop].done():
        _keepers[loop] = loop.create_task(_repeat_presence())


async def _repeat_presence() -> None:
    while True:
        await asyncio.sleep(presence.REPEAT_SECONDS)
        if not has_feeds():
            return
        try:
            await database_sync_to_async(presence.repeat)()
        except Exception:  # a busy database: the next round is soon
            log.exception("presence could not be repeated")
