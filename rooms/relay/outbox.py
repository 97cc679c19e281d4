"""What waits to be sent to one client: so much and no more."""

import asyncio
from collections import deque

from rooms.relay.limits import Limits

# Close codes. Of those below 4000 Daphne can send none but 1000.
TOO_MUCH = 4008
TRY_AGAIN_LATER = 4013


class Outbox:
    """code: why the connection is to be closed, once it is. dropped: the client reads too slowly;
    the connection is cut, because a word of farewell would have to wait as well."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[str] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self.code: int | None = None
        self.dropped = asyncio.Event()

    def put(self, text: str) -> None:
        if self.code is not None:
            return
        self._waiting.append(text)
        self._bytes += len(text)
        if (
            len(self._waiting) > self._limits.waiting_messages
            or self._bytes > self._limits.waiting_bytes
        ):
            self._waiting.clear()
            self.close(TOO_MUCH)
            self.dropped.set()
        self._changed.set()

    def close(self, code: int) -> None:
        """After what waits already."""
        if self.code is None:
            self.code = code
        self._changed.set()

    async def next(self) -> str | None:
        """The next message, when there is one; None when the connection is to be closed."""
        while not self._waiting:
            if self.code is not None:
                return None
            self._changed.clear()
            await self._changed.wait()
        text = self._waiting.popleft()
        self._bytes -= len(text)
        return text
