"""What every WebSocket of a room has: messages with a type, budgets, and a watchdog.

- A message type routes by its prefix to a method of the consumer, then by its command.
- Who is not heard of for 10 s is gone. Who floods is closed.
- Bytes follow a message in pieces (`rooms.uploads`).
"""

import asyncio
import json
import time
from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer

from rooms.budget import Budget
from rooms.messages import GONE_AFTER_SECONDS, Error, MessageError, ToPage, unknown_type
from rooms.uploads import pieces_of
from rooms.work import TabWork

MAX_MESSAGE_CHARACTERS = 4096
MESSAGES_A_SECOND = 20  # in the mean; a page sends one every 3 s
MESSAGES_A_SECOND_OF_A_WORKER = 60  # a fast GPU does several small pictures a second
MESSAGE_BURST = 60
BYTES_A_SECOND = 2**24  # of workers
BYTE_BURST = 2**26
BYTES_OF_A_PIECE = 2**16  # that each one costs beside its own, so that many small ones are no way
# Messages. Of a hello, because the packages of this site are looked through
COSTS_AT_WORK = {"hello": 20, "device": 10}
CLOSE_GONE, CLOSE_FLOOD = 4000, 4008


class RoomSocket(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """`work`: the other end as a worker of the queue; it may never become one."""

    room_id: str
    work: TabWork

    def begin(self) -> None:
        """On connecting, before anything is received."""
        self._sending = asyncio.Lock()
        self._heard_at = time.monotonic()
        self._messages = Budget(MESSAGES_A_SECOND, MESSAGE_BURST)
        self._bytes = Budget(BYTES_A_SECOND, BYTE_BURST)

    def watch(self) -> None:
        self._watchdog = asyncio.create_task(self._close_when_silent())

    def stop_watching(self) -> None:
        self._watchdog.cancel()

    # From the other end --------------------------------------------------------------------------
    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        self._heard_at = time.monotonic()
        try:
            if bytes_data is not None:
                await self._take_piece(bytes_data)
            elif self._messages.spend():
                message = _parsed(text_data)
                kind = message.get("type")
                prefix, _, command = kind.partition(".") if isinstance(kind, str) else ("", "", "")
                await self.route(prefix, command, message)
            else:
                await self.close(CLOSE_FLOOD)
        except MessageError as error:
            await self.say(Error(type="error", code=error.code, detail=str(error)))

    async def _take_piece(self, piece: bytes) -> None:
        if not self._bytes.spend(len(piece) + BYTES_OF_A_PIECE):
            await self.close(CLOSE_FLOOD)
            return
        await self.work.piece(piece)

    async def route(self, prefix: str, command: str, message: dict[str, Any]) -> None:
        """A message `<prefix>.<command>`; here those of workers. Raises MessageError."""
        if prefix != "work":
            raise unknown_type()
        more = COSTS_AT_WORK.get(command, 0)
        if more and not self._messages.spend(more):
            await self.close(CLOSE_FLOOD)
            return
        await self.work.receive(command, message)

    # For rooms.work ----------------------------------------------------------------------------
    async def say(self, message: ToPage, data: bytes = b"") -> None:
        """data: the bytes that the message announces."""
        async with self._sending:
            await self.send_json(message)
            for piece in pieces_of(data):
                await self.send(bytes_data=piece)

    def may_say_more(self, works: bool) -> None:
        """works: whether the other end is a worker now."""
        self._messages.a_second = MESSAGES_A_SECOND_OF_A_WORKER if works else MESSAGES_A_SECOND

    async def _close_when_silent(self) -> None:
        while time.monotonic() - self._heard_at < GONE_AFTER_SECONDS:
            await asyncio.sleep(1)
        await self.close(CLOSE_GONE)


def _parsed(text: str | None) -> dict[str, Any]:
    assert text is not None
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
