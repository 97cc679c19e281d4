"""The WebSocket of a helper: `/ws/rooms/{room}/helpers/{id}/`, for programs, not for pages.

Who opens it shows the token that `POST /api/join/{room}` gave: `Authorization: Bearer <token>`.
Then it speaks the `work.` messages, as a tab does over the socket of its page, and beats.
"""

from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async

from genqueue import helpers
from genqueue.events import WORKERS_GROUP, room_group
from rooms.helper_work import HelperWork
from rooms.messages import BeatBack, unknown_type, whole
from rooms.room_socket import RoomSocket


class HelperConsumer(RoomSocket):
    async def connect(self) -> None:
        route = self.scope["url_route"]["kwargs"]
        self.room_id, helper_id = route["room_id"], UUID(route["helper_id"])
        self._joined = False
        row = await database_sync_to_async(helpers.known)(
            helper_id, self.room_id, _token(self.scope["headers"])
        )
        if row is None:
            await self.close()  # before it is accepted: 403
            return
        self.begin()
        self.work = HelperWork(self.room_id, row.client, helper_id, self)
        self.groups = [room_group(self.room_id), WORKERS_GROUP]
        for group in self.groups:
            await self.channel_layer.group_add(group, self.channel_name)
        await self.accept()
        self._joined = True
        self.watch()

    async def disconnect(self, code: int) -> None:
        if self._joined:
            self.stop_watching()
            await self.work.leave()

    async def route(self, prefix: str, command: str, message: dict[str, Any]) -> None:
        if prefix != "peer":
            await super().route(prefix, command, message)
            return
        if command != "beat":
            raise unknown_type()
        revision = whole(message, "revision")
        await self.work.beat()
        await self.say(BeatBack(type="peer.beat", revision=revision))

    # From the channel layer: hints ---------------------------------------------------------------
    async def room_changed(self, event: dict[str, Any]) -> None:
        self.work.hint()

    async def workers_changed(self, event: dict[str, Any]) -> None:
        self.work.hint()

    async def room_peers(self, event: dict[str, Any]) -> None:
        """Who else looks at the room is nothing to a helper."""

    # For rooms.work ----------------------------------------------------------------------------
    async def is_worker(self, worker_id: UUID | None) -> None:
        self.may_say_more(worker_id is not None)


def _token(headers: list[tuple[bytes, bytes]]) -> str:
    said = dict(headers).get(b"authorization", b"").decode("latin-1")
    scheme, _, token = said.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
