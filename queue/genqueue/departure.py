"""What a worker leaves behind: its leases go back, and what waited for it is open to everybody.

Called by whoever knows: the worker when it stops or starts anew, its supervisor, a tab's socket,
the sweeper.
"""

from uuid import UUID

from genqueue import protocol, roster
from genqueue.faults import Fault
from genqueue.models import Chunk, Worker
from genqueue.transitions import ChunkState, WorkerState


def give_back(worker_id: UUID, fault: Fault | None, detail: str) -> int:
    """Everything that this worker holds or that is kept for it; returns how many leases."""
    leased = Chunk.objects.filter(worker_id=worker_id, state=ChunkState.LEASED)
    taken = protocol.take_back(leased, fault, detail)
    protocol.free_images(worker_id)
    return taken


def worker_is_gone(worker_id: UUID, *, crashed: bool) -> None:
    """Its process has ended: nobody waits for its leases to run out.

    crashed: then its leases count as faults. One that was asked to stop did nothing wrong.
    """
    row = Worker.objects.filter(pk=worker_id).first()
    if row is not None and row.state != WorkerState.GONE:
        roster.set_state(row.pk, row.state, WorkerState.GONE)
    give_back(worker_id, Fault.WORKER_LOST if crashed else None, "The worker's process ended.")
