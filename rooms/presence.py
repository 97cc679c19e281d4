"""Which tabs are in which room.

Each WebSocket is a row while it lives. `repeat` keeps the rows of this process alive; rows of a
process that died are forgotten after `FORGOTTEN_AFTER`. The counts go to genqueue.presence, where
the API and the statistics read them.
"""

from datetime import timedelta
from typing import TypedDict

from django.utils import timezone

from genqueue import presence as counts
from genqueue.clients import client_label
from genqueue.models import Room
from rooms.models import Peer

REPEAT_SECONDS = 4
FORGOTTEN_AFTER = timedelta(seconds=12)


class PeerJson(TypedDict):
    id: str
    client: str
    owner: bool


def join(room_id: str, peer_id: str, client: str) -> None:
    """client: the public label."""
    Peer.objects.create(id=peer_id, room_name=room_id, client=client, site=counts.SITE)
    _count(room_id)


def leave(room_id: str, peer_id: str) -> None:
    Peer.objects.filter(pk=peer_id).delete()
    _count(room_id)


def _count(room_id: str) -> None:
    mine = Peer.objects.filter(site=counts.SITE, room_name=room_id).count()
    counts.set_peers(room_id, mine)


def repeat() -> None:
    """Say that the tabs of this process are still here, and forget those of dead processes."""
    now = timezone.now()
    Peer.objects.filter(site=counts.SITE).update(seen_at=now)
    Peer.objects.filter(seen_at__lt=now - FORGOTTEN_AFTER).delete()


def peers(room_id: str) -> list[PeerJson]:
    """The tabs in the room, first come first."""
    owner = Room.objects.filter(pk=room_id).values_list("owner", flat=True).first()
    owner_label = client_label(owner) if owner else None
    recent = Peer.objects.filter(
        room_name=room_id, seen_at__gte=timezone.now() - FORGOTTEN_AFTER
    ).values_list("pk", "client")
    return [PeerJson(id=pk, client=client, owner=client == owner_label) for pk, client in recent]
