"""The one Celery task, and how a Celery process becomes a worker of the queue.

A message says "there is work" and nothing else; what to do is in the database. Sweeping needs no
message: every site and worker process has a thread for it.
"""

import logging
from typing import Any

from celery import shared_task, signals
from celery.exceptions import WorkerShutdown

log = logging.getLogger(__name__)


@shared_task(name="queue.work", ignore_result=True)
def work() -> None:
    """Claim the next chunk and run it; messages for what follows are sent when it is committed."""
    from genqueue import worker  # the site only sends this task and never loads what it needs

    worker.current().work()


@signals.worker_init.connect
def _worker_starts(sender: Any, **_: object) -> None:
    from genqueue import worker

    own_queue = worker.start(sender.hostname)
    sender.app.amqp.queues.select_add(own_queue)


@signals.worker_ready.connect
def _worker_is_ready(**_: object) -> None:
    from genqueue import worker

    try:
        worker.current().load()
    except Exception as error:
        # Celery only logs what a signal handler raises; a worker without a model must not stay.
        log.exception("the model could not be loaded")
        raise WorkerShutdown(1) from error


@signals.worker_shutting_down.connect
def _worker_is_asked_to_stop(**_: object) -> None:
    from genqueue import worker

    worker.current().ask_to_stop()


@signals.worker_shutdown.connect
def _worker_stops(**_: object) -> None:
    from genqueue import worker

    worker.current().stop()
