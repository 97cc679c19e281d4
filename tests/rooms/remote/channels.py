"""A data channel in memory, and what hostile ends send over one."""

import asyncio
from collections.abc import Callable
from typing import Any

from pyee.asyncio import AsyncIOEventEmitter


class MemoryChannel(AsyncIOEventEmitter):
    """One of two ends; what it sends is heard at the other in a later turn of the loop.

    sent: all of it. bufferedAmount is never more than nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readyState = "open"
        self.bufferedAmount = self.bufferedAmountLowThreshold = 0
        self.sent: list[bytes] = []
        self.other: MemoryChannel | None = None
        self.changes: Callable[[bytes], bytes] = lambda frame: frame

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        if self.other is not None:
            asyncio.get_running_loop().call_soon(self.other.emit, "message", self.changes(data))

    def hear(self, data: Any) -> None:
        self.emit("message", data)

    def close(self) -> None:
        if self.readyState == "closed":
            return
        self.readyState = "closed"
        self.emit("close")
        if self.other is not None:
            asyncio.get_running_loop().call_soon(self.other.close)


def pair() -> tuple[MemoryChannel, MemoryChannel]:
    one, other = MemoryChannel(), MemoryChannel()
    one.other, other.other = other, one
    return one, other
