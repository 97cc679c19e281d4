"""How fast the other end takes what we send, and how fast we take what it sends.

ASGI has no word for either. Daphne writes whatever it is given into a buffer without end, and
queues whatever comes in: a client that does not read, or sends faster than we look, would cost
memory without bound. What Twisted tells the producer of a transport is enough for both. Servers
that wait in `send` themselves need nothing of it.
"""

import asyncio
from typing import Any

from autobahn.exception import Disconnected
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

# What `send` raises when the other end has gone and `receive` has not said so yet
GONE = (Disconnected, OSError)


class Flow:
    """Of a server whose `send` waits until the other end has taken enough."""

    async def ready(self) -> None:
        """Returns once there is room for one more message."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None:
        """Cut the connection, whatever waits to be written."""


@implementer(IPushProducer)
class DaphneFlow(Flow):
    """Twisted calls the camelCase methods: `pauseProducing` when more than 64 KiB wait."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._room = asyncio.Event()
        self._room.set()
        # The HTTP request that the socket was once is still the transport's producer.
        protocol.unregisterProducer()
        protocol.registerProducer(self, True)

    async def ready(self) -> None:
        await self._room.wait()

    def pause_reading(self) -> None:
        self._protocol.transport.pauseProducing()

    def resume_reading(self) -> None:
        self._protocol.transport.resumeProducing()

    def abort(self) -> None:
        self._protocol.dropConnection(abort=True)

    def pauseProducing(self) -> None:  # noqa: N802
        self._room.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self._room.set()

    def stopProducing(self) -> None:  # noqa: N802
        self._room.set()


def flow_of(send: Any) -> Flow:
    """send: as the server gave it to the application. Daphne's is bound to its protocol."""
    for given in getattr(send, "args", ()):
        if isinstance(given, WebSocketProtocol):
            return DaphneFlow(given)
    return Flow()
