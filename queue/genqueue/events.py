"""Hints to pages that a room or a worker changed. Truth is in the database; a hint may be lost.

A consumer adds itself to `room_group(room_id)` and gets
`{"type": "room.changed", "room": room_id, "revision": n}`, and to `WORKERS_GROUP`, where
`{"type": "workers.changed"}` says that a worker came, is ready or went: the server's own help in
every room, also in one that has no row yet.

- With Redis, `announce` and `announce_workers` send the hint after the commit.
- Embedded, the worker is another process and the channel layer does not reach the site: there
  `genqueue.watching` sees the commit in the database and sends the same hint. PostgreSQL has to be
  told what to say: `NOTIFY`, in the transaction, with the room and its revision, or with nothing
  for the workers.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypedDict

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection, transaction

ROOM_CHANGED: Literal["room.changed"] = "room.changed"
WORKERS_CHANGED: Literal["workers.changed"] = "workers.changed"
WORKERS_GROUP = "workers"
CHANNEL = "queue_changed"  # of PostgreSQL's notifications


class RoomChanged(TypedDict):
    type: Literal["room.changed"]
    room: str
    revision: int


class WorkersChanged(TypedDict):
    type: Literal["workers.changed"]


def room_group(room_id: str) -> str:
    """The channel-layer group of everybody who looks at this room (ids are valid group names)."""
    return f"room.{room_id}"


def announce(room_id: str) -> None:
    """Count the room's revision up now, and send the hint when this transaction commits.

    Revisions grow over all rooms, so that a watcher finds the changed rooms by one number.
    """
    # Plain SQL: this runs with every step of every image, and building the query takes Django
    # longer than SQLite takes to run it. GREATEST, because on PostgreSQL a row that another
    # transaction has just changed is read anew, and the subquery is not.
    greatest = "MAX" if connection.vendor == "sqlite" else "GREATEST"
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE queue_room SET revision = 1 + {greatest}(revision,"  # noqa: S608
            " (SELECT MAX(revision) FROM queue_room)) WHERE id = %s RETURNING revision",
            [room_id],
        )
        changed = cursor.fetchone()
    if changed is not None:
        revision: int = changed[0]
        hint = partial(async_to_sync(send_hint), room_id, revision)
        _when_committed(hint, f"{room_id} {revision}")


def announce_workers() -> None:
    """Send the hint that a worker's state changed, when this transaction commits."""
    _when_committed(async_to_sync(send_workers_hint), "")


def _when_committed(send: Callable[[], object], notice: str) -> None:
    if not settings.EMBEDDED:
        transaction.on_commit(send, robust=True)
    elif connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, notice])


async def pass_on(notice: str) -> None:
    """Send the hint that PostgreSQL has just told this process of."""
    room_id, _, revision = notice.partition(" ")
    if room_id:
        await send_hint(room_id, int(revision))
    else:
        await send_workers_hint()


async def send_hint(room_id: str, revision: int) -> None:
    """A full or unreachable channel layer loses the hint, and nothing else."""
    hint: RoomChanged = {"type": ROOM_CHANGED, "room": room_id, "revision": revision}
    await _send_to(room_group(room_id), hint)


async def send_workers_hint() -> None:
    hint: WorkersChanged = {"type": WORKERS_CHANGED}
    await _send_to(WORKERS_GROUP, hint)


async def _send_to(group: str, hint: RoomChanged | WorkersChanged) -> None:
    layer = get_channel_layer()
    assert layer is not None
    await layer.group_send(group, hint)
