"""What nobody else notices: late leases, silent workers, pictures whose checkers have left, old
turns, lost wake-ups, old rows and files.

Every site and worker process sweeps, every SWEEP_SECONDS; any number at once is safe, because each
change is compare-and-set.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import close_old_connections, connection
from django.utils import timezone

from genqueue import (
    checks,
    fairness,
    finishing,
    orphans,
    protocol,
    pursuit,
    retention,
    roster,
    waking,
)
from genqueue.faults import Fault
from genqueue.models import Chunk, Worker
from genqueue.transitions import ChunkState, WorkerState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    leases: int
    workers: int


def sweep() -> Swept:
    """One sweep; returns how many late leases and silent workers it ended."""
    now = timezone.now()
    late = Chunk.objects.filter(state=ChunkState.LEASED, deadline__lt=now)
    leases = protocol.take_back(
        late, Fault.WORKER_LOST, "The worker was not heard of any more.", late_at=now
    )
    unheard_since = now - timedelta(seconds=settings.LEASE_SECONDS)
    silent = Worker.objects.exclude(state=WorkerState.GONE).filter(last_seen_at__lt=unheard_since)
    fence = {"last_seen_at__lt": unheard_since}
    workers = 0
    for worker in silent:
        if roster.set_state(worker.pk, worker.state, WorkerState.GONE, fence=fence):
            protocol.free_images(worker.pk)
            workers += 1
    pursuit.send_all_home()
    finishing.finish_all_ready()
    checks.forget_old(now)
    fairness.forget_old_turns()
    # A broker that restarted has forgotten its messages: those for nothing cost nothing.
    pending_since = now - timedelta(seconds=settings.SWEEP_SECONDS)
    busy = Chunk.objects.filter(state=ChunkState.LEASED).values("worker_id")
    idle = Worker.objects.online(now).filter(state=WorkerState.READY).exclude(pk__in=busy)
    forgotten = Chunk.objects.filter(state=ChunkState.PENDING, created_at__lt=pending_since)
    if forgotten.exists() and idle.exists():
        waking.wake_workers()
    retention.prune(now)
    orphans.remove_orphans(now)
    return Swept(leases, workers)


class Repeating(threading.Thread):
    """Calls a function every few seconds, whatever it raises, until `stop`."""

    def __init__(self, name: str, seconds: float, function: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self.seconds = seconds
        self.function = function
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self.seconds):
            close_old_connections()
            try:
                self.function()
            except Exception:
                log.exception("%s failed; it goes on in %.0f s", self.name, self.seconds)
        connection.close()

    def stop(self) -> None:
        self._stopped.set()
        if self.is_alive():
            self.join(timeout=5)
