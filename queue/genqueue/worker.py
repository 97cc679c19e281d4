"""The Celery worker process as the queue sees it: its row, its heartbeat, its runner.

- Its id is stable over restarts (from its supervisor, or from its node name), so that a new start
  knows: whatever this id still leases is from before, and goes back at once.
- It announces the models that it has, and leases chunks of no other.
- A thread renews the lease and the row every HEARTBEAT_SECONDS while torch computes.
- Started by a supervisor, it ends itself when that is gone.
"""

import logging
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_DNS, UUID, uuid4, uuid5

from django.conf import settings
from django.utils import timezone

from genqueue import departure, equipment, events, fairness, protocol, roster, sweeper, waking
from genqueue.equipment import Equipment
from genqueue.faults import Fault
from genqueue.models import Worker
from genqueue.protocol import Lease, LeaseLostError
from genqueue.transitions import WorkerState

if TYPE_CHECKING:
    from diffusion.backends import Backend

log = logging.getLogger(__name__)

SUPERVISOR_PID = "P2PWEB_SUPERVISOR_PID"
WORKER_ID = "P2PWEB_WORKER_ID"

_current: "CeleryWorker | None" = None


def current() -> "CeleryWorker":
    assert _current is not None, "tasks run in a Celery worker process only"
    return _current


class CeleryWorker:
    """This process. Made by `start` when Celery starts, ended by `stop`."""

    def __init__(self, worker_id: UUID, name: str) -> None:
        from genqueue.runner import Runner

        self.id = worker_id
        self.name = name
        self.queue = waking.queue_of(worker_id)
        self.stopping = threading.Event()
        self.loaded = False
        self._lease: Lease | None = None
        self._timer: threading.Timer | None = None
        self._equipment: Equipment | None = None  # as everybody was told last
        self._runner = Runner(self.stopping.is_set, self._computes_with)
        self._threads = [
            sweeper.Repeating("heartbeat", settings.HEARTBEAT_SECONDS, self.heartbeat),
            sweeper.Repeating("sweep", settings.SWEEP_SECONDS, sweeper.sweep),
        ]
        if os.environ.get(SUPERVISOR_PID):
            self._threads.append(sweeper.Repeating("orphan watch", 1, self._end_when_orphaned))

    def register(self) -> None:
        """Say that this worker is loading, and take back what it leased before it was restarted."""
        now = timezone.now()
        here: dict[str, Any] = {
            "name": self.name, "host": socket.gethostname(), "pid": os.getpid(),
            "model_names": models_here(), "last_seen_at": now, "started_at": now, "lacks": {},
        }  # fmt: skip
        row, _new = Worker.objects.get_or_create(pk=self.id, defaults=here)
        if row.state != WorkerState.LOADING:  # in one write: a silent worker's state is not shown
            roster.set_state(self.id, row.state, WorkerState.LOADING, **here)
        else:
            Worker.objects.filter(pk=self.id).update(**here)
            events.announce_workers()
        departure.give_back(self.id, Fault.WORKER_LOST, "The worker was restarted.")
        for thread in self._threads:
            thread.start()

    def load(self) -> None:
        """Open the default model. Raises what the backend raises: the process then ends."""
        from diffusion.model_folder import find_models

        models = find_models(*settings.MODEL_ROOTS)
        if models:
            name = (
                settings.DEFAULT_MODEL if settings.DEFAULT_MODEL in models else next(iter(models))
            )
            self._computes_with(self._runner.load(name))
        else:
            log.warning("no model in %s", ", ".join(map(str, settings.MODEL_ROOTS)))
        roster.set_state(
            self.id, WorkerState.LOADING, WorkerState.READY, last_seen_at=timezone.now()
        )
        self.loaded = True
        waking.wake_workers()

    def _computes_with(self, backend: "Backend") -> None:
        """Before it hands in: others' results are held against how exactly it computes."""
        now = equipment.of_backend(backend)
        if now != self._equipment:
            equipment.record(self.id, now)
            self._equipment = now

    def work(self) -> None:
        """Claim one chunk and run it; the next ones too while no message about them can be sent."""
        while not self.stopping.is_set():
            lease = protocol.claim(self.id)
            if lease is not None:
                self._lease = lease
                try:
                    self._runner.run(lease)
                finally:
                    self._lease = None
            row = Worker.objects.filter(pk=self.id).first()
            if row is None or not fairness.has_open(row):
                return
            if lease is None:
                self._ask_later()
                return
            if waking.wake(self.id):
                return

    def _ask_later(self) -> None:
        """What is open was left to a faster worker, which may not come. Usually it does, and this
        one is woken for what is open then.
        """
        if self._timer is None or not self._timer.is_alive():
            seconds = fairness.RESERVED.total_seconds() + 0.1
            self._timer = threading.Timer(seconds, waking.wake, [self.id])
            self._timer.daemon = True
            self._timer.start()

    def heartbeat(self) -> None:
        row = Worker.objects.filter(pk=self.id)
        row.update(last_seen_at=timezone.now())
        # This machine slept and woke, or was too busy to be heard of.
        now = WorkerState.READY if self.loaded else WorkerState.LOADING
        if not self.stopping.is_set() and roster.set_state(self.id, WorkerState.GONE, now):
            waking.wake_workers()
        lease = self._lease
        if lease is not None:
            try:
                protocol.renew(lease)
            except LeaseLostError:
                log.info("the lease of chunk %d has ended", lease.chunk_id)
        row.update(model_names=models_here())  # last: looking may fail, or hang on a network

    def ask_to_stop(self) -> None:
        """The chunk at hand ends at its next step. Importing torch cannot be asked to end."""
        self.stopping.set()
        if not self.loaded:
            # In a thread, because the signal may have come in the middle of a query.
            threading.Thread(target=self._leave_at_once, name="leaving").start()

    def _leave_at_once(self) -> None:
        try:
            departure.worker_is_gone(self.id, crashed=False)
        finally:
            os._exit(0)

    def stop(self) -> None:
        """The chunk at hand has ended; the next one of its image need not wait for us."""
        self.stopping.set()
        for thread in self._threads:
            thread.stop()
        self._runner.close()
        departure.worker_is_gone(self.id, crashed=False)

    def _end_when_orphaned(self) -> None:
        if os.getppid() != int(os.environ[SUPERVISOR_PID]):
            log.warning("the site that started this worker is gone; ending too")
            self.stopping.set()
            os.kill(os.getpid(), signal.SIGTERM)


def start(node_name: str) -> str:
    """Called once, when Celery starts this process; returns the name of its own queue."""
    global _current
    if settings.EMBEDDED:
        os.nice(settings.WORKER_NICENESS)  # pages stay quick while the cores compute
    _current = CeleryWorker(_stable_id(node_name), node_name.removeprefix("celery@"))
    _current.register()
    return _current.queue


def _stable_id(node_name: str) -> UUID:
    given = os.environ.get(WORKER_ID)
    if given:
        return UUID(given)
    worker_id = uuid5(NAMESPACE_DNS, f"{node_name}.p2pweb")
    namesake = Worker.objects.filter(pk=worker_id).first()
    if namesake is not None and _is_another(namesake):
        return uuid4()  # two workers were started under one name: both may work
    return worker_id


def _is_another(namesake: Worker) -> bool:
    """Whether it is a process that still runs, and not what this one was before its restart."""
    if namesake.host != socket.gethostname():
        return Worker.objects.online().filter(pk=namesake.pk).exists()
    return namesake.pid not in (None, os.getpid()) and _alive(namesake.pid)


def _alive(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def models_here() -> list[str]:
    """The names of the model folders that this process finds now."""
    from diffusion.model_folder import find_models

    return sorted(find_models(*settings.MODEL_ROOTS))
