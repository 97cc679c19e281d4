"""The relay within the site: the WebSocket `/relay/`, for pages of any origin.

It reads no cookie and asks no database, so a page of another site gains nothing from the visitor
whose browser it runs in. It is a plain ASGI application instead of a Channels consumer, because
those look after database connections in a thread, for each message.

- One hub a process, in memory; with Redis, the hubs of all processes are one relay.
- What comes in faster than it is looked at stays in the network, as in rooms.relay.bare.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings

from rooms.relay.client import Client, CrowdedError
from rooms.relay.flow import GONE, Flow, flow_of
from rooms.relay.hub import Hub
from rooms.relay.limits import Limits
from rooms.relay.outbox import TRY_AGAIN_LATER, Outbox
from rooms.relay.shared import Shared

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LIMITS = Limits(**settings.P2PWEB_RELAY_LIMITS)
MOST_UNREAD = 32  # messages that were read and not looked at yet

_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Hub, Shared | None]] = WeakKeyDictionary()


def hub_of_this_process() -> Hub:
    """Called inside the site's event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        hub = Hub(LIMITS)
        shared = Shared(hub, settings.REDIS_URL) if settings.REDIS_URL else None
        _hubs[loop] = hub, shared
    return _hubs[loop][0]


async def relay(scope: Message, receive: Receive, send: Send) -> None:
    """An ASGI application."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    hub = hub_of_this_process()
    outbox = Outbox(hub.limits)
    try:
        client = Client(hub, (scope.get("client") or ["unknown"])[0], outbox)
    except CrowdedError:  # those who are told so come again in seconds
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
        return
    flow = flow_of(send)
    unread = Unread(receive, flow)
    tasks = [
        asyncio.create_task(unread.fill()),
        asyncio.create_task(_send(outbox, send, flow)),
        asyncio.create_task(_drop(outbox, flow)),
    ]
    try:
        while (message := await unread.next()) is not None:
            client.receive(message)
            await asyncio.sleep(0)  # others get their turn, however much waits here
    finally:
        client.leave()
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error


async def _send(outbox: Outbox, send: Send, flow: Flow) -> None:
    with suppress(*GONE):
        while (text := await outbox.next()) is not None:
            await flow.ready()
            await send({"type": "websocket.send", "text": text})
        await flow.ready()
        await send({"type": "websocket.close", "code": outbox.code})


async def _drop(outbox: Outbox, flow: Flow) -> None:
    await outbox.dropped.wait()
    flow.abort()


class Unread:
    """What a client has said and nobody has looked at: little, because then it is not read."""

    def __init__(self, receive: Receive, flow: Flow) -> None:
        self._receive = receive
        self._flow = flow
        self._messages: deque[str | bytes | None] = deque()
        self._came = asyncio.Event()

    async def fill(self) -> None:
        """Until the connection is closed."""
        open_ = True
        while open_:
            message = await self._receive()
            open_ = message["type"] == "websocket.receive"
            text = message.get("text")
            said = text if text is not None else message.get("bytes", b"")
            self._messages.append(said if open_ else None)
            self._came.set()
            if len(self._messages) == MOST_UNREAD:
                self._flow.pause_reading()

    async def next(self) -> str | bytes | None:
        """None at the end."""
        while not self._messages:
            self._came.clear()
            await self._came.wait()
        message = self._messages.popleft()
        if len(self._messages) == MOST_UNREAD - 1:
            self._flow.resume_reading()
        return message
