"""What a site process does beside answering: sweep, repeat its presence, pass on changes.

`start` is called for every request and begins once. Embedded, the worker is another process and
its messages do not reach this one's channel layer: there the site asks SQLite every 30 ms whether
anybody committed (`PRAGMA data_version`, microseconds), and hints at the rooms whose revision grew
and at workers whose state changed.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from genqueue import events, presence, sweeper

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 0.03
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
    watched = settings.EMBEDDED and connection.vendor == "sqlite"
    if watched and (_watch is None or _watch.done()):
        _watch = asyncio.get_running_loop().create_task(
            watch(str(connection.settings_dict["NAME"]))
        )


def stop() -> None:
    while _threads:
        _threads.pop().stop()


async def watch(path: str) -> None:
    """Hint at every room and worker that changes in this database, for ever."""
    database = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)
    try:
        seen = _newest(database)
        workers = _workers(database)
        version = 0
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            try:
                found: int = database.execute("PRAGMA data_version").fetchone()[0]
                if found == version:
                    continue
                version = found
                rows = database.execute(
                    "SELECT id, revision FROM queue_room WHERE revision > ? ORDER BY revision",
                    (seen,),
                ).fetchall()
                before, workers = workers, _workers(database)
            except sqlite3.OperationalError as error:  # busy for once: look again
                log.warning("watching the database: %s", error)
                continue
            for room_id, revision in rows:
                seen = revision
                await events.send_hint(room_id, revision)
            if workers != before:
                await events.send_workers_hint()
    finally:
        database.close()


def _newest(database: sqlite3.Connection) -> int:
    newest: int | None = database.execute("SELECT MAX(revision) FROM queue_room").fetchone()[0]
    return newest or 0


def _workers(database: sqlite3.Connection) -> list[tuple[str, ...]]:
    """What pages show of the workers. started_at: one that starts again may be loading again."""
    return database.execute("SELECT id, state, device, started_at FROM queue_worker").fetchall()


class WithDuties:
    """An ASGI application that starts this process's duties with the first request."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        start()
        await self.application(scope, receive, send)
