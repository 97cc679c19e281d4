"""The room WebSocket: `/ws/rooms/{room}/`, one for each open tab.

- On connecting: the whole room. Then what changes, as the feed reads it.
- The page beats every 3 s. A tab not heard of for 10 s is gone. Each beat is also when lost hints
  are found, so a page is right again within 5 s whatever was dropped.
"""

import asyncio
import logging
import secrets
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async

from genqueue.clients import client_from_cookies, client_label, new_client_id
from genqueue.events import WORKERS_GROUP, room_group
from rooms import presence
from rooms.feed import Feed, feed_of, has_feeds
from rooms.messages import (
    BeatBack,
    Changed,
    Peers,
    State,
    mesh_id,
    peer_status,
    text,
    unknown_type,
    whole,
)
from rooms.names import LONGEST_TEXT, plain_name
from rooms.presence import PeerJson
from rooms.room_socket import CLOSE_FLOOD, RoomSocket
from rooms.state import RoomState
from rooms.work import TabWork

log = logging.getLogger(__name__)

COST_OF_NEWS = 10  # messages: everybody is sent the list of peers


class RoomConsumer(RoomSocket):
    peer_id: str
    feed: Feed

    async def connect(self) -> None:
        self.room_id = self.scope["url_route"]["kwargs"]["room_id"]
        self.peer_id = secrets.token_hex(8)
        self._sent: RoomState | None = None
        self._joined = False
        self._told_status = "", ""  # as it said last
        self.begin()
        client = client_from_cookies(self.scope.get("cookies", {})) or new_client_id()
        address = (self.scope.get("client") or ["unknown"])[0]
        self.work = TabWork(self.room_id, client, address, self)
        self.groups = [room_group(self.room_id), WORKERS_GROUP]
        for group in self.groups:
            await self.channel_layer.group_add(group, self.channel_name)
        await self.accept()
        self.feed = feed_of(self.room_id)
        await database_sync_to_async(presence.join)(
            self.room_id, self.peer_id, client_label(client)
        )
        self._joined = True
        self.watch()
        _keep_presence_alive()
        await self.feed.enter(self)
        if self._sent is None:  # the reading that entering waited for was shown to us, usually
            await self._send_all()
        await self._say_peers_changed()

    async def disconnect(self, code: int) -> None:
        if not self._joined:
            return
        self.stop_watching()
        self.feed.leave(self)
        await self.work.leave()
        await database_sync_to_async(presence.leave)(self.room_id, self.peer_id)
        await self._say_peers_changed()

    # From the page -----------------------------------------------------------------------------
    async def route(self, prefix: str, command: str, message: dict[str, Any]) -> None:
        match prefix:
            case "peer":
                await self._peer(command, message)
            case "room":
                await self._room(command)
            case _:
                await super().route(prefix, command, message)

    async def _peer(self, command: str, message: dict[str, Any]) -> None:
        match command:
            case "beat":
                await self._beat(message)
            case "name":
                await self._rename(message)
            case "mesh":
                await self._meets(message)
            case "status":
                await self._status(message)
            case _:
                raise unknown_type()

    async def _status(self, message: dict[str, Any]) -> None:
        said = peer_status(message)
        if said != self._told_status and await self._affords_news():
            self._told_status = said
            await self._says(status=said[0], helps=said[1])

    async def _beat(self, message: dict[str, Any]) -> None:
        whole(message, "revision")
        await self.feed.check()
        await self.work.beat()
        sent = self._sent
        await self.say(BeatBack(type="peer.beat", revision=sent.revision if sent else 0))

    async def _meets(self, message: dict[str, Any]) -> None:
        mesh = mesh_id(message)
        if await self._affords_news():
            self.work.mesh = mesh
            await self._says(mesh=mesh)

    async def _rename(self, message: dict[str, Any]) -> None:
        name = plain_name(text(message, "name", LONGEST_TEXT))
        if await self._affords_news():
            await self._says(name=name)

    async def _affords_news(self) -> bool:
        if self._messages.spend(COST_OF_NEWS):
            return True
        await self.close(CLOSE_FLOOD)
        return False

    async def _says(self, **said: str) -> None:
        """Of this tab; everybody is told what is new."""
        if await database_sync_to_async(presence.says)(self.peer_id, **said):
            await self._say_peers_changed()

    async def _room(self, command: str) -> None:
        if command != "resync":
            raise unknown_type()
        await self.feed.read_now()
        await self._send_all()

    # From the channel layer: hints ---------------------------------------------------------------
    async def room_changed(self, event: dict[str, Any]) -> None:
        self.feed.hint(room=True)
        self.work.hint()

    async def workers_changed(self, event: dict[str, Any]) -> None:
        self.feed.hint(room=True)
        self.work.hint()

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
        await self.say(
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
            await self.say(Peers(type="room.peers", peers=peers))

    async def _send_all(self) -> None:
        now = self.feed.room
        assert now is not None
        self._sent = now
        await self.say(
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

    # For rooms.work ----------------------------------------------------------------------------
    async def is_worker(self, worker_id: UUID | None) -> None:
        self.may_say_more(worker_id is not None)
        await database_sync_to_async(presence.computes)(self.peer_id, worker_id)
        await self._say_peers_changed()

    # Presence ----------------------------------------------------------------------------------
    async def _say_peers_changed(self) -> None:
        await self.channel_layer.group_send(
            room_group(self.room_id), {"type": "room.peers", "room": self.room_id}
        )


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
