"""Who has handed in something wrong computes no more in that room, and everybody there sees why.

It goes by the client, and for a while by the network that it came from, so that a new cookie does
not help at once. Asking for pictures is nobody's crime: that they may still do.
"""

import hashlib
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from django.utils import timezone

from genqueue import events
from genqueue.check_models import Check, ShutOut
from genqueue.checks import Finding
from genqueue.clients import client_label
from genqueue.kinds import ChunkKind
from genqueue.models import Room, Worker
from genqueue.networks import network_of
from genqueue.problems import Problem
from genqueue.shapes import ShutOutJson

NETWORK_SHUT_OUT_FOR: Final = timedelta(minutes=10)
MOST_SHOWN: Final = 5


def network_hash(address: str) -> str:
    """What is kept of where somebody came from; "" where nobody knows."""
    if not address:
        return ""
    return hashlib.sha256(network_of(address).encode()).hexdigest()[:32]


def shut_out(check: Check, client: str, worker: Worker | None, finding: Finding) -> None:
    """Inside the transaction that found it wrong; `pursuit` follows it."""
    room = check.job.room
    label = client_label(client)
    ShutOut.objects.update_or_create(
        room=room,
        label=label,
        defaults={
            "network": worker.network if worker else "",
            "name": worker.name if worker else f"worker of {label}",
            "kind": check.kind,
            "start": check.start,
            "stop": check.stop,
            "distance": min(finding.distance, 1e9),  # texts of another length are infinitely far
            "limit": finding.limit,
            "created_at": timezone.now(),
        },
    )
    events.announce(room.pk)


def refuse_shut_out(room: Room, client_id: str, network: str) -> None:
    """Raises Problem: `shut-out` and `network-shut-out` (403)."""
    rows = ShutOut.objects.filter(room=room)
    if rows.filter(label=client_label(client_id)).exists():
        raise Problem(
            "shut-out",
            HTTPStatus.FORBIDDEN,
            "What you computed here was found wrong, so you compute no more in this room.",
        )
    lately = rows.filter(created_at__gt=timezone.now() - NETWORK_SHUT_OUT_FOR)
    if network and lately.filter(network=network).exists():
        minutes = round(NETWORK_SHUT_OUT_FOR.total_seconds() / 60)
        raise Problem(
            "network-shut-out",
            HTTPStatus.FORBIDDEN,
            "What somebody at your network address computed here was found wrong:"
            f" try again in {minutes} minutes.",
        )


def shut_out_of(room: Room | None) -> list[ShutOutJson]:
    """The newest, for everybody in the room."""
    if room is None:
        return []
    rows = ShutOut.objects.filter(room=room).order_by("-created_at", "-pk")[:MOST_SHOWN]
    return [
        ShutOutJson(
            name=row.name,
            client=row.label,
            reason=_reason(row),
            at=row.created_at.isoformat(),
        )
        for row in rows
    ]


_WHAT: Final = {
    ChunkKind.ENCODE: "the encoded prompt",
    ChunkKind.DECODE: "the decoded picture",
}


def _reason(row: ShutOut) -> str:
    what = _WHAT.get(ChunkKind(row.kind)) or f"steps {row.start + 1} to {row.stop}"
    return f"{what} differed from what others computed: by {_percent(row.distance)}, and" + (
        f" {_percent(row.limit)} is allowed"
    )


def _percent(ratio: float) -> str:
    return f"{float(f'{100 * ratio:.2g}'):g} %" if ratio < 10 else "far more than all of it"
