"""How the embedded site hears of its worker's commits, when no channel layer connects the two.

- SQLite is asked every 30 ms whether anybody committed (`PRAGMA data_version`, microseconds).
- PostgreSQL tells by itself: `events` notifies inside the transaction, and this listens.

Both pass on the same hints that Redis would carry, to the same consumers.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from django.db import connection

from genqueue import events

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 0.03
CONNECT_AGAIN_SECONDS = 1.0


async def watch() -> None:
    """Hint at every room and worker that changes in the site's database, for ever."""
    if connection.vendor == "postgresql":
        await watch_postgresql(_parameters())
    else:
        await watch_sqlite(str(connection.settings_dict["NAME"]))


async def watch_sqlite(path: str) -> None:
    """The database file at this path."""
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
                rows = database.execute(
                    "SELECT id, revision FROM queue_room WHERE revision > ? ORDER BY revision",
                    (seen,),
                ).fetchall()
                before, workers = workers, _workers(database)
            except sqlite3.OperationalError as error:  # busy for once: look again
                log.warning("watching the database: %s", error)
                continue
            version = found
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


async def watch_postgresql(parameters: Mapping[str, Any]) -> None:
    """The database that psycopg connects to with these. A lost connection is made again."""
    import psycopg  # a site on SQLite does not load it

    while True:
        try:
            listening = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
            async with listening:
                await listening.execute(f"LISTEN {events.CHANNEL}")
                async for notice in listening.notifies():
                    await events.pass_on(notice.payload)
        except psycopg.OperationalError as error:
            log.warning("watching the database: %s", error)
        await asyncio.sleep(CONNECT_AGAIN_SECONDS)


def _parameters() -> dict[str, Any]:
    """Django's own, less what is for its own cursors."""
    parameters: dict[str, Any] = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    return parameters
