"""Bytes that follow a message: in pieces, because a WebSocket message may have 1 MiB at most.

A message with `bytes: n` is followed by n bytes in binary messages of PIECE_BYTES each, the last
one shorter. Other text messages may come in between; another one with bytes may not.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

PIECE_BYTES: Final = 2**18


class Upload:
    """The bytes that follow one message. then: called with all of them; None where nobody wants
    them any more, but they were on their way."""

    def __init__(self, nbytes: int, then: Callable[[bytes], Awaitable[None]] | None) -> None:
        self._missing = nbytes
        self._then = then
        self._pieces: list[bytes] = []

    @property
    def complete(self) -> bool:
        return self._missing == 0

    def add(self, piece: bytes) -> bool:
        """False for a piece that has not the length that it must have."""
        if len(piece) != min(PIECE_BYTES, self._missing):
            return False
        self._missing -= len(piece)
        if self._then is not None:
            self._pieces.append(piece)
        return True

    async def finish(self) -> None:
        if self._then is not None:
            await self._then(b"".join(self._pieces))


def pieces_of(data: bytes) -> Iterator[bytes]:
    """What is sent after the message that announced them."""
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]
