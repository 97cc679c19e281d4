"""Hints to pages that a room or a worker changed. Truth is in the database; a hint may be lost.

A consumer adds itself to `room_group(room_id)` and gets
`{"type": "room.changed", "room": room_id, "revision": n}`, and to `WORKERS_GROUP`, where
`{"type": "workers.changed"}` says that a worker came, is ready or went: the server's own help in
every room, also in one that has no row yet.

- With Redis, `announce` and `announce_workers` send the hint after the commit.
- Embedded, the worker is another process and the channel layer does not reach the site: there
  `genqueue.site` sees the commit in the database and sends the same hint.
"""

from typing import Literal, TypedDict

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection, transaction

from genqueue.models import Room

ROOM_CHANGED: Literal["room.changed"] = "room.changed"
WORKERS_CHANGED: Literal["workers.changed"] = "workers.changed"
WORKERS_GROUP = "workers"


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
            " (SELECT MAX(revision) FROM queue_room)) WHERE id = %s",
            [room_id],
        )
    if not settings.EMBEDDED:
        transaction.on_commit(lambda: _send(room_id), robust=True)


def announce_workers() -> None:
    """Send the hint that a worker's state changed, when this transaction commits."""
    if not settings.EMBEDDED:
        transaction.on_commit(async_to_sync(send_workers_hint), robust=True)


def _send(room_id: str) -> None:
    revision = Room.objects.filter(pk=room_id).values_list("revision", flat=True).first()
    if revision is not None:
        async_to_sync(send_hint)(room_id, revision)


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
