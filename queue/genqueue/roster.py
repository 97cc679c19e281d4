"""The workers' states as everybody sees them: every change of one is told to the open pages."""

from collections.abc import Mapping
from uuid import UUID

from genqueue import events
from genqueue.models import Worker
from genqueue.transitions import move


def set_state(
    worker_id: UUID,
    old: str,
    new: str,
    *,
    fence: Mapping[str, object] | None = None,
    **values: object,
) -> bool:
    """`transitions.move` of a worker, and the hint to all pages when it moved."""
    moved = move(Worker, worker_id, old, new, fence=fence, **values)
    if moved:
        events.announce_workers()
    return moved
