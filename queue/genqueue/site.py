"""What a site process does beside answering: sweep, repeat its presence, pass on changes.

`start` is called for every request and begins once. Embedded, the worker is another process and
its messages do not reach this one's channel layer: there `watching` looks at the database instead.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings

from genqueue import presence, sweeper, watching

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]

REPEAT_PRESENCE_SECONDS = 10

_lock = threading.Lock()
_threads: list[sweeper.Repeating] = []
_watch: asyncio.Task[None] | None = None


def start_threads() -> None:
    with _lock:
        if _threads:
            return
        _threads.append(sweeper.Repeating("sweep", settings.SWEEP_SECONDS, sweeper.sweep))
        _threads.append(sweeper.Repeating("presence", REPEAT_PRESENCE_SECONDS, presence.repeat))
    for thread in _threads:
        thread.start()


def start() -> None:
    """Called inside the site's event loop."""
    global _watch
    if not _threads:
        start_threads()
    if settings.EMBEDDED and (_watch is None or _watch.done()):
        _watch = asyncio.get_running_loop().create_task(watching.watch())


def stop() -> None:
    while _threads:
        _threads.pop().stop()


class WithDuties:
    """An ASGI application that starts this process's duties with the first request."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        start()
        await self.application(scope, receive, send)
