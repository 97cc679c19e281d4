"""Telling idle workers that there is something to do."""

from uuid import UUID

from django.db import transaction

from genqueue import fairness
from genqueue.breaker import Breaker
from genqueue.kinds import WorkerKind
from genqueue.models import Job, Worker
from genqueue.transitions import WorkerState

_broker = Breaker("The broker")


def queue_of(worker_id: UUID) -> str:
    """The worker's own queue of Celery messages. There is no shared one: from it a worker might
    take the message, and could not take the chunk, because it lacks the model or because the image
    is another one's.
    """
    return f"work-{worker_id}"


def wake_workers(besides: UUID | None = None, job: Job | None = None) -> None:
    """On commit, send a message to every idle Celery worker that could lease something.

    job: whose chunks alone it can be about.
    besides: a worker that asks again by itself. So do those that load or compute now, when they
    have done, and tabs, whose sockets hear of every change (`rooms.work`). A broker that cannot be
    reached loses the message and nothing else: the sweeper sends another.
    """
    transaction.on_commit(lambda: _send_wake_ups(besides, job), robust=True)


def _send_wake_ups(besides: UUID | None, job: Job | None) -> None:
    ready = Worker.objects.online().filter(state=WorkerState.READY, kind=WorkerKind.CELERY)
    others = [worker for worker in ready if worker.pk != besides]
    if job is not None:
        others = [worker for worker in others if fairness.may_do(worker, job)]
    for worker in fairness.Now().idle(others):
        if fairness.has_open(worker):
            wake(worker.pk)


def wake(worker_id: UUID) -> bool:
    """Tell this worker that there is work; a broker that hangs is not waited for each time.

    False: the message is lost.
    """
    from genqueue.tasks import work

    if _broker.paused:
        return False
    try:
        work.apply_async(queue=queue_of(worker_id))
    except Exception as error:  # each broker has its own
        _broker.failed(error)
        return False
    _broker.worked()
    return True
