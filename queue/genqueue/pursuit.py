"""After a result was found wrong: its maker's workers go home, and their other work is done again.

It takes the locks of other jobs one by one, so no lock may be held here. Should the process end
before it is done, the sweeper sends the workers home.
"""

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction

from genqueue import checks, departure, verdicts
from genqueue.check_models import Check, ShutOut
from genqueue.clients import client_label
from genqueue.kinds import ChunkKind
from genqueue.models import Image, Worker
from genqueue.transitions import CheckState, ImageState, WorkerState, lock_job
from genqueue.verdicts import Culprit


def pursue(culprits: Iterable[Culprit]) -> None:
    """Send home what these clients have brought to the room, and have done again what nobody has
    found right of their work on pictures that are not finished. With no lock held.
    """
    for culprit in culprits:
        send_home(culprit.room_id, culprit.client)
        for job_id in _jobs_in_doubt(culprit):
            with transaction.atomic():
                if lock_job(job_id):
                    for image in Image.objects.filter(job=job_id, state=ImageState.RUNNING):
                        verdicts.put_back(image, culprit.client)
                    _ask_for_the_encoding(job_id, culprit.client)


def _jobs_in_doubt(culprit: Culprit) -> list[UUID]:
    theirs = Check.objects.filter(client=culprit.client, job__room=culprit.room_id)
    doubtful = theirs.filter(state__in=[CheckState.OPEN, CheckState.SPARED, CheckState.LAPSED])
    running = doubtful.filter(job__finished_at=None)
    return list(running.order_by("job").values_list("job_id", flat=True).distinct())


def _ask_for_the_encoding(job_id: UUID, client: str) -> None:
    """One that was spared: its result and the prompt are there, so it can still be checked."""
    spared = Check.objects.filter(
        job=job_id, client=client, kind=ChunkKind.ENCODE, state=CheckState.SPARED
    )
    for check in spared.exclude(job__conditioning=""):
        checks.reopen(check)


def send_home(room_id: str, client: str) -> None:
    """End the leases of all that this client has brought, with no lock held."""
    theirs = Worker.objects.filter(room=room_id, client=client).exclude(state=WorkerState.GONE)
    for worker_id in theirs.values_list("pk", flat=True):
        departure.worker_is_gone(worker_id, crashed=False)


def send_all_home() -> None:
    """The same for whoever was shut out when the process ended that should have done it."""
    here = Worker.objects.exclude(state=WorkerState.GONE).exclude(client="")
    rooms = ShutOut.objects.values("room")
    for room_id, client in set(here.filter(room__in=rooms).values_list("room_id", "client")):
        if room_id and ShutOut.objects.filter(room=room_id, label=client_label(client)).exists():
            send_home(room_id, client)
