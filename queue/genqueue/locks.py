"""What transactions wait for each other over, beside the job's row (`transitions.lock_job`).

SQLite has no such locks and needs none: its transactions (IMMEDIATE) run one after the other. Who
takes several takes the job's row first, then the room's, then the client's.
"""

from django.db import connection

from genqueue.models import Room


def lock_room(room_id: str) -> bool:
    """Hold the room's row until the transaction ends; False when there is none."""
    rooms = Room.objects.filter(pk=room_id)
    if connection.features.has_select_for_update:
        rooms = rooms.select_for_update()
    return rooms.values("pk").first() is not None


def lock_client(client_id: str) -> None:
    """Let one transaction at a time count what this client has, over all rooms.

    Clients have no rows, so this is an advisory lock; two clients that share a number only wait.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [client_id])
