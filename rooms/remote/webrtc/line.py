"""A worker's conversation with the tab that keeps the queue of a room without a server.

`Presence` is this machine in the room, as long as it helps; `QueueLine` lasts as long as the queue
stays where it is.
"""

import asyncio
import queue
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from aiortc import RTCDataChannel

from rooms.remote.address import NotLetInError
from rooms.remote.conversation import Conversation, LineClosedError, Message
from rooms.remote.exported import Package
from rooms.remote.webrtc.background import Background
from rooms.remote.webrtc.frames import TransferError
from rooms.remote.webrtc.link import Link
from rooms.remote.webrtc.mesh import Mesh
from rooms.remote.webrtc.peer import ChannelError, Peer
from rooms.uploads import pieces_of

CHANNEL: Final = "queue"
HOLDER_WITHIN_SECONDS: Final = 5.0
_SENT_WITHIN_SECONDS: Final = 60.0
_HEARD_WITHIN_SECONDS: Final = 3.0  # of what is said at the end
_MOST_WAITING: Final = 10_000  # messages that came and were not heard


@dataclass(frozen=True, slots=True)
class Entry:
    """models: names in the room of what this helper has, with their ids. hello: who it is."""

    models: Mapping[str, str]
    hello: Message


class Presence:
    """Use as a context manager. To the queue it is another client with every run."""

    def __init__(
        self, room: str, *, password: str = "", name: str, relays: list[str], stun: list[str]
    ) -> None:
        """stun: hosts with ports, which say under which address others see this machine."""
        self._background = Background()
        self._options: dict[str, Any] = {
            "password": password, "name": name, "relays": relays,
            "ice_servers": [f"stun:{server}" for server in stun],
        }  # fmt: skip
        self._room = room
        self._key, self._client = secrets.token_hex(16), secrets.token_hex(16)

    def __enter__(self) -> Self:
        self._background.__enter__()
        self.mesh = self._background.call(lambda: Mesh(self._room, **self._options))
        self._task = self._background.start(self.mesh.run())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._background.stop(self._task)
        finally:
            self._background.__exit__()

    def entry(self, packages: list[Package]) -> Entry:
        """packages: those of the room's models that this helper has."""
        named = [package.package_id for package in packages]
        hello = {"key": self._key, "packages": named}
        return Entry({package.model: package.model_id for package in packages}, hello)

    def connect(self, entry: Entry) -> "QueueLine":
        return QueueLine(self._background, self.mesh, self._client)


class QueueLine(Conversation):
    """Raises NotLetInError, not final, where nobody keeps the queue at the moment."""

    def __init__(self, background: Background, mesh: Mesh, client: str) -> None:
        self._background, self._mesh, self._client = background, mesh, client
        self._came: queue.SimpleQueue[Message | bytes | None] = queue.SimpleQueue()
        self._link: Link | None = None
        self._following: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._background.run(self._enter())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._background.run(self._leave())

    def _send(self, message: Message, data: bytes) -> None:
        try:
            self._background.run(self._say(message, data), _SENT_WITHIN_SECONDS)
        except (TransferError, TimeoutError) as error:
            raise LineClosedError(str(error)) from error

    def _received(self) -> Message | bytes:
        heard = self._came.get()
        if heard is None:
            self._came.put(None)  # for whoever asks next
            raise LineClosedError("The tab that keeps the queue has gone.")
        return heard

    # Inside the loop -----------------------------------------------------------------------------
    async def _enter(self) -> None:
        peer = await self._holder()
        try:
            channel = await peer.open_channel(CHANNEL)
            self._link = link = self._linked(peer, channel)
            entering = {"type": "queue.enter", "client": self._client, "copies": False}
            await link.request(entering)
        except (ChannelError, TransferError) as error:
            self._close()
            raise LineClosedError(str(error)) from error
        self._following = asyncio.ensure_future(self._follow(peer, link))

    async def _holder(self) -> Peer:
        """Waits for a tab that says so."""
        try:
            async with asyncio.timeout(HOLDER_WITHIN_SECONDS):
                while (peer := self._mesh.holder) is None:
                    self._mesh.changed.clear()
                    await self._mesh.changed.wait()
                return peer
        except TimeoutError as error:
            raise NotLetInError(self._why_nobody(), final=False) from error

    def _why_nobody(self) -> str:
        if self._mesh.another_password:
            return "Somebody is in this room with another password: its whole link is needed."
        if not self._mesh.reached:
            return "No relay answers; trying again."
        return "Nobody is in this room yet; waiting."

    def _linked(self, peer: Peer, channel: RTCDataChannel) -> Link:
        return Link(
            channel,
            receive=self._heard,
            receive_bytes=self._put,
            listened=peer.heard,
            closed=lambda error: self._came.put(None),
        )

    def _heard(self, message: Message) -> None:
        """What is for pages is passed over."""
        if message["type"].startswith("work.") or message["type"] == "error":
            self._put(message)

    def _put(self, heard: Message | bytes) -> None:
        if self._came.qsize() >= _MOST_WAITING:
            raise TransferError("flood", "The other side sent more than anybody heard.")
        self._came.put(heard)

    async def _follow(self, peer: Peer, link: Link) -> None:
        """The queue may go to another tab while this one stays."""
        while not peer.is_gone and self._mesh.holder in (peer, None):
            self._mesh.changed.clear()
            await self._mesh.changed.wait()
        link.close(TransferError("closed", "The queue is kept by another tab now."))

    async def _say(self, message: Message, data: bytes) -> None:
        link = self._link
        if link is None:
            raise TransferError("closed")
        link.send(message)
        for piece in pieces_of(data):
            link.send_bytes(piece)
        await link.drained()

    async def _leave(self) -> None:
        """What was said last is heard, if anybody is there."""
        if self._link is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARD_WITHIN_SECONDS):
                    await self._link.heard()
        self._close()

    def _close(self) -> None:
        if self._following is not None:
            self._following.cancel()
        if self._link is not None:
            self._link.close()
