"""A tab to talk to over a data channel: messages and bytes in order, questions beside them.

Twin of static/js/room/link.js, without what a helper never does: it answers no questions and has no
blobs. Inside one event loop.
"""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiortc import InvalidStateError, RTCDataChannel

from rooms.remote.webrtc import frames, limits
from rooms.remote.webrtc.frames import TransferError
from rooms.remote.webrtc.inbox import Inbox
from rooms.remote.webrtc.outbox import Outbox

ANSWERED_WITHIN_SECONDS: Final = 15.0
CHECKED_EVERY_SECONDS: Final = 1.0
_CHANNEL_BYTES: Final = 2**19  # that may lie in the channel's buffer
_CONGESTED_BYTES: Final = 2**22
_LONGEST_DETAIL: Final = 500
_CODE: Final = re.compile(r"[a-z][a-z-]{0,39}")


class Link:
    """receive: a message of the other end's wire. receive_bytes: bytes of it. listened: anything
    came. closed: once."""

    def __init__(
        self,
        channel: RTCDataChannel,
        *,
        receive: Callable[[dict[str, Any]], None],
        receive_bytes: Callable[[bytes], None],
        listened: Callable[[], None] = lambda: None,
        closed: Callable[[TransferError], None] = lambda error: None,
    ) -> None:
        self._channel = channel
        self._receive, self._receive_bytes = receive, receive_bytes
        self._listened, self._closed = listened, closed
        self._questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_question = 0
        self.error: TransferError | None = None  # once it is closed
        self._inbox = Inbox(self._post, self._deliver, self._expects)
        self._outbox = Outbox(self._post, self._takes_more)
        self._moved = asyncio.Event()
        channel.bufferedAmountLowThreshold = _CHANNEL_BYTES // 2
        channel.on("message", self._hear)
        channel.on("bufferedamountlow", lambda: self._guarded(self._outbox.pump))
        channel.on("close", lambda: self.close(TransferError("closed", "The way is closed.")))
        self._checking = asyncio.ensure_future(self._check())

    # Sending -------------------------------------------------------------------------------------
    def send(self, message: dict[str, Any]) -> None:
        """Raises TransferError."""
        self._send(limits.MESSAGE, _encoded(message))

    def send_bytes(self, data: bytes) -> None:
        """Raises TransferError."""
        self._send(limits.BYTES, data)

    async def drained(self) -> None:
        """When so little waits that more may be sent. Raises TransferError."""
        while self.error is None and self.buffered > _CONGESTED_BYTES:
            self._moved.clear()
            await self._moved.wait()
        if self.error is not None:
            raise self.error

    async def heard(self) -> None:
        """When the other end has taken all that was sent, or the link is closed."""
        while self.error is None and self._outbox.unfinished:
            self._moved.clear()
            await self._moved.wait()

    @property
    def buffered(self) -> int:
        """Bytes that have not left yet."""
        return self._outbox.queued_bytes + int(self._channel.bufferedAmount)

    async def request(
        self, message: dict[str, Any], seconds: float = ANSWERED_WITHIN_SECONDS
    ) -> dict[str, Any]:
        """What the other end answers. Raises TransferError, also with a code that it gave."""
        self._last_question += 1
        number = self._last_question
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        try:
            self._send(limits.REQUEST, _encoded(message), number)
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise TransferError("timeout", "The other side did not answer in time.") from error
        finally:
            del self._questions[number]

    def close(self, error: TransferError | None = None) -> None:
        """Ends everything. May be called again."""
        if self.error is not None:
            return
        self.error = error or TransferError("closed", "The way was closed on this side.")
        self._checking.cancel()
        self._moved.set()
        for answer in self._questions.values():
            if not answer.done():
                answer.set_exception(self.error)
        self._channel.close()
        self._closed(self.error)

    def _send(self, kind: int, data: bytes, reference: int = 0) -> None:
        if self.error is not None:
            raise self.error
        self._outbox.send(kind, data, reference)

    def _post(self, frame: bytes) -> None:
        with suppress(InvalidStateError):  # it is closing, and will say so
            self._channel.send(frame)

    def _takes_more(self) -> bool:
        is_open = self.error is None and self._channel.readyState == "open"
        return is_open and self._channel.bufferedAmount < _CHANNEL_BYTES

    # Hearing -------------------------------------------------------------------------------------
    def _hear(self, data: object) -> None:
        self._listened()
        if self.error is None:
            self._guarded(lambda: self._take(data))

    def _take(self, data: object) -> None:
        frame = frames.parse(data)
        if frame.type in (frames.ACK, frames.DONE, frames.REFUSE):
            self._outbox.take(frame)
        else:
            self._inbox.take(frame)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECKED_EVERY_SECONDS)
            self._guarded(self._inbox.check)
            self._guarded(self._outbox.check)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except TransferError as error:
            self.close(error)
        self._moved.set()

    def _expects(self, kind: int, reference: int) -> bool:
        if kind == limits.BLOB:
            return False
        if kind not in (limits.ANSWER, limits.FAILURE):
            return True
        question = self._questions.get(reference)
        return question is not None and not question.done()

    def _deliver(self, kind: int, reference: int, data: bytes) -> None:
        match kind:
            case limits.MESSAGE:
                message = _decoded(data)
                if not isinstance(message.get("type"), str):
                    raise TransferError("bad-message", "A message without a type came.")
                self._receive(message)
            case limits.BYTES:
                self._receive_bytes(data)
            case limits.REQUEST:
                self._fail(reference, "not-served", "A helper answers no questions.")
            case limits.WANTED:
                self._fail(reference, "not-found", "A helper keeps no files.")
            case limits.ANSWER | limits.FAILURE:
                self._answered(kind, reference, _decoded(data))

    def _fail(self, reference: int, code: str, detail: str) -> None:
        failure = _encoded({"code": code, "detail": detail})
        self._outbox.send(limits.FAILURE, failure, reference)

    def _answered(self, kind: int, reference: int, message: dict[str, Any]) -> None:
        question = self._questions.get(reference)
        if question is None or question.done():
            return
        if kind == limits.ANSWER:
            question.set_result(message)
            return
        code, detail = message.get("code"), message.get("detail")
        known = isinstance(code, str) and _CODE.fullmatch(code)
        told = detail[:_LONGEST_DETAIL] if isinstance(detail, str) else ""
        question.set_exception(TransferError(str(code) if known else "failed", told))


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _decoded(data: bytes) -> dict[str, Any]:
    """Raises TransferError for what is no object of JSON."""
    try:
        message = json.loads(data.decode())
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise TransferError("bad-message", "What came is no JSON object.")
    return message
