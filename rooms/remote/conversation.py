"""Messages with whoever keeps a room's queue, and the bytes that follow some of them.

docs/api-websocket.md describes both; over what they go is another one's matter. Safe to speak from
several threads.
"""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Final, Self, TypeGuard

MOST_BYTES: Final = 2**28  # of what may follow one message

Message = dict[str, Any]


def is_whole(value: object) -> TypeGuard[int]:
    """A number that a stranger may count with: of JSON, 0 or more, exact in JavaScript too."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


class LineClosedError(Exception):
    """The connection has ended, or was never made. refused: the server does not know the token."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Conversation(ABC):
    """Open inside a `with`. Raises LineClosedError when it cannot be opened, and in later calls."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...  # fmt: skip

    @abstractmethod
    def close(self) -> None:
        """Who waits in `hear` hears LineClosedError. May be called again."""

    @abstractmethod
    def _send(self, message: Message, data: bytes) -> None:
        """A message, and what follows it in pieces: nothing else comes in between."""

    @abstractmethod
    def _received(self) -> object:
        """Waits for the next message, as JSON reads it, or for the next piece: bytes."""

    def say(self, message: Message, data: bytes = b"") -> None:
        """data: what follows the message."""
        if data:
            message = {**message, "bytes": len(data)}
        self._send(message, data)

    def hear(self) -> tuple[Message, bytes]:
        """Waits for the next message, with its bytes."""
        message = self._message()
        missing = message.get("bytes", 0)
        if not isinstance(missing, int) or not 0 <= missing <= MOST_BYTES:
            raise LineClosedError(f"{missing} bytes were announced.")
        pieces = []
        while missing:
            piece = self._received()
            if not isinstance(piece, bytes) or len(piece) > missing:
                raise LineClosedError("The bytes of a message did not follow it.")
            pieces.append(piece)
            missing -= len(piece)
        return message, b"".join(pieces)

    def _message(self) -> Message:
        message = self._received()
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise LineClosedError("What came is no message.")
        return message
