"""Which tabs are in which room.

Each WebSocket is a row while it lives. `repeat` keeps the rows of this process alive; rows of a
process that died are forgotten after `FORGOTTEN_AFTER`. The counts go to genqueue.presence, where
the API and the statistics read them.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Literal, NotRequired, TypedDict, get_args
from uuid import UUID

from django.utils import timezone

from genqueue import presence as counts
from genqueue.clients import client_label
from genqueue.models import Room
from rooms.models import Peer

REPEAT_SECONDS = 4
FORGOTTEN_AFTER = timedelta(seconds=12)


Status = Literal["loading", "hidden", "battery", "unable", "helping", "away"]
STATUSES = get_args(Status)
LONGEST_WORKER = 64


class PeerJson(TypedDict):
    id: str
    client: str
    owner: bool
    worker: str | None
    """The id of the worker that it is, while it computes."""
    status: Status | None
    """Why it computes no chunk, as it says itself; null: it only watches, or waits. helping: it
    computes a part of another tab's. away: it computes for the exported pages of the room."""
    helps: NotRequired[str]
    """The id of the worker that it is `helping`, as it says."""
    mesh: NotRequired[str]
    """Its id among the tabs that talk directly, as it says; absent while it does not."""
    name: NotRequired[str]
    """What its person calls themselves, if they do."""


def join(room_id: str, peer_id: str, client: str) -> None:
    """client: the public label."""
    Peer.objects.create(id=peer_id, room_name=room_id, client=client, site=counts.SITE)
    _count(room_id)


def leave(room_id: str, peer_id: str) -> None:
    Peer.objects.filter(pk=peer_id).delete()
    _count(room_id)


def computes(peer_id: str, worker_id: UUID | None) -> None:
    """This tab is that worker of the queue from now on, or none any more."""
    Peer.objects.filter(pk=peer_id).update(worker=worker_id)


def says(peer_id: str, **said: str) -> bool:
    """What this tab says of itself; empty takes it back. True when that is news.

    name: a plain one (rooms.names).  status: a Status.  helps: the id of a worker.  mesh: the id
    under which others reach it directly."""
    mine = Peer.objects.filter(pk=peer_id).exclude(**said)
    return bool(mine.update(**said))


def mesh_of(room_id: str, workers: Iterable[UUID]) -> dict[UUID, str]:
    """The ids among tabs that talk directly of those workers that have one."""
    found = Peer.objects.filter(
        room_name=room_id,
        worker__in=list(workers),
        seen_at__gte=timezone.now() - FORGOTTEN_AFTER,
    ).exclude(mesh="")
    return {worker: mesh for worker, mesh in found.values_list("worker", "mesh") if worker}


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
    ).values_list("pk", "client", "worker", "status", "name", "mesh", "helps")
    found = []
    for pk, client, worker, status, name, mesh, helps in recent:
        peer = PeerJson(
            id=pk,
            client=client,
            owner=client == owner_label,
            worker=str(worker) if worker else None,
            status=status or None,  # type: ignore[typeddict-item]
        )
        if name:
            peer["name"] = name
        if mesh:
            peer["mesh"] = mesh
        if helps:
            peer["helps"] = helps
        found.append(peer)
    return found
