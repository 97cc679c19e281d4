"""How many peers look at each room. The rooms app writes, everybody reads.

Each site process counts its own sockets; a count that was not repeated for 30 s is forgotten, so
a killed site process leaves nobody behind. A site repeats its counts with `repeat`.
"""

import secrets
from datetime import timedelta

from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from genqueue import events
from genqueue.models import Presence, Room

SITE = secrets.token_hex(8)  # this process
FORGOTTEN_AFTER = timedelta(seconds=30)
VISIT_NOTED_EVERY = timedelta(hours=1)


def set_peers(room_id: str, count: int) -> None:
    """This site process has `count` sockets in the room. Announces the room when that is news."""
    mine = Presence.objects.filter(site=SITE, room_name=room_id)
    known = mine.values_list("peers", flat=True).first()
    now = timezone.now()
    if count == 0:
        mine.delete()
    else:
        Presence.objects.update_or_create(
            site=SITE, room_name=room_id, defaults={"peers": count, "seen_at": now}
        )
    if count != (known or 0):
        visited(room_id)
        events.announce(room_id)


def visited(room_id: str) -> None:
    """Somebody is, or was until now, in this room: one where nobody has been for long is
    forgotten (`retention`). Noted at most once an hour, so that looking seldom writes.
    """
    now = timezone.now()
    unnoted = Room.objects.filter(pk=room_id, visited_at__lt=now - VISIT_NOTED_EVERY)
    if unnoted.exists():  # on SQLite, changing nothing would still wait for other writers
        unnoted.update(visited_at=now)


def repeat() -> None:
    """Keep this site's counts alive, and forget those of dead sites."""
    now = timezone.now()
    Presence.objects.filter(site=SITE).update(seen_at=now)
    Presence.objects.filter(seen_at__lt=now - FORGOTTEN_AFTER).delete()


def peers(room_id: str) -> int:
    here: int | None = recent().filter(room_name=room_id).aggregate(here=Sum("peers"))["here"]
    return here or 0


def rooms_and_peers() -> tuple[int, int]:
    """How many rooms have somebody in them, and how many peers there are in all."""
    total = recent().aggregate(rooms=Count("room_name", distinct=True), peers=Sum("peers"))
    return total["rooms"], total["peers"] or 0


def recent() -> QuerySet[Presence]:
    """Counts that were repeated lately."""
    return Presence.objects.filter(seen_at__gte=timezone.now() - FORGOTTEN_AFTER)
