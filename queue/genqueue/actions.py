"""What people do with the queue. Each function is one decision and one transaction.

Refusals are `Problem`s with a sentence for people. Who may do what is the caller's question.
"""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings as site
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from genqueue import checks, departure, events, files, presence, protocol, waking
from genqueue.check_models import Check
from genqueue.clients import client_label, new_job_token
from genqueue.kinds import ChunkKind, WorkerKind
from genqueue.locks import lock_client, lock_room
from genqueue.models import Chunk, Image, Job, RemovedClient, Room, Worker
from genqueue.problems import Problem
from genqueue.transitions import (
    CHUNK_LIVE,
    IMAGE_ENDED,
    JOB_ENDED,
    ChunkState,
    ImageState,
    JobState,
    WorkerState,
    lock_job,
    move,
)

if TYPE_CHECKING:
    from diffusion.settings import Settings

RETRY_AFTER_SECONDS = 10


def make_room(room_id: str, client_id: str, title: str = "", listed: bool = False) -> Room:
    """The room with this id; who makes it first owns it, later callers get it as it is."""
    room, _made = Room.objects.get_or_create(
        pk=room_id, defaults={"owner": client_id, "title": title, "listed": listed}
    )
    return room


@transaction.atomic
def submit_job(room_id: str, client_id: str, settings: "Settings") -> tuple[Job, str]:
    """Add a job; returns it and its token, which is shown this once and never again.

    settings: already checked against the model (`diffusion.settings.check`).
    Raises Problem: `client-removed` (403), `room-full` or `client-full` (429 with Retry-After).
    """
    room = make_room(room_id, client_id)
    while not lock_room(room_id):  # forgotten meanwhile, because nobody had been there for long
        room = make_room(room_id, client_id)
    lock_client(client_id)
    if room.removed_clients.filter(label=client_label(client_id)).exists():
        raise Problem("client-removed", 403, "The owner of this room has removed you from it.")
    in_room = Job.objects.unfinished().filter(room=room).count()
    _refuse_beyond(in_room, site.P2PWEB_LIMITS["room_jobs"], "room-full", "This room has")
    mine = Job.objects.unfinished().filter(client=client_id).count()  # in all rooms
    _refuse_beyond(mine, site.P2PWEB_LIMITS["client_jobs"], "client-full", "You have")

    token, token_hash = new_job_token()
    presence.visited(room_id)
    return _add_job(room.pk, client_id, token_hash, settings.as_dict()), token


def _add_job(room_id: str, client_id: str, token_hash: str, settings: dict[str, Any]) -> Job:
    """A new job with its images and its first chunk, announced; inside a transaction."""
    job = Job.objects.create(room_id=room_id, client=client_id, token_hash=token_hash, **settings)
    Image.objects.bulk_create(
        Image(job=job, index=index, seed=(job.seed + index) % 2**32)
        for index in range(job.num_images)
    )
    Chunk.objects.create(job=job, kind=ChunkKind.ENCODE)
    events.announce(room_id)
    waking.wake_workers()
    return job


def _refuse_beyond(count: int, limit: int, code: str, who_has: str) -> None:
    if count >= limit:
        raise Problem(
            code,
            429,
            f"{who_has} {count} unfinished jobs; at most {limit} are allowed.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            limit=limit,
        )


@transaction.atomic
def cancel_job(job: Job) -> bool:
    """Stop a queued or running job; its worker stops within one step. False: it had ended."""
    lock_job(job.pk)
    state = Job.objects.filter(pk=job.pk).values_list("state", flat=True).first()
    if state is None or state in JOB_ENDED:
        return False
    job.refresh_from_db()
    _cancel_images(job)
    cancelled = move(Job, job.pk, state, JobState.CANCELLED, finished_at=timezone.now())
    assert cancelled, "the row lock is held"
    events.announce(job.room_id)
    job.refresh_from_db()
    return True


def _cancel_images(job: Job) -> None:
    """Every unfinished image, and every live chunk, of a locked job."""
    now = timezone.now()
    for chunk in Chunk.objects.filter(job=job, state__in=CHUNK_LIVE):
        move(Chunk, chunk.pk, chunk.state, ChunkState.CANCELLED, deadline=None, finished_at=now)
    for image in Image.objects.filter(job=job).exclude(state__in=IMAGE_ENDED):
        move(Image, image.pk, image.state, ImageState.CANCELLED, finished_at=now, picture="")
        files.delete_on_commit([image.picture, *files.working_files(image)])
        image.checkpoints.all().delete()
    checks.drop(Check.objects.filter(job=job))
    files.delete_on_commit([job.conditioning])


@transaction.atomic
def delete_image(image: Image) -> None:
    """Remove a picture. The last picture of an ended job takes the job along.

    Raises Problem `not-finished` (409) while the image is still in the queue.
    """
    lock_job(image.job_id)
    if not Image.objects.filter(pk=image.pk).exists():
        return
    image.refresh_from_db()
    if image.state not in IMAGE_ENDED:
        raise Problem("not-finished", 409, "This picture is not finished: cancel its job instead.")
    job = image.job
    checks.drop(Check.objects.filter(image=image))
    files.delete_on_commit([image.picture, *files.working_files(image)])
    image.delete()
    if job.state in JOB_ENDED and not job.images.filter(state=ImageState.DONE).exists():
        delete_job(job)
    events.announce(job.room_id)


@transaction.atomic
def delete_job(job: Job) -> None:
    """Remove an ended job with its files. Raises Problem `not-finished` (409)."""
    lock_job(job.pk)
    if not Job.objects.filter(pk=job.pk).exists():
        return
    job.refresh_from_db()
    if job.state not in JOB_ENDED:
        raise Problem("not-finished", 409, "This job is not finished: cancel it first.")
    files.delete_folder_on_commit(job.pk)
    job.delete()
    events.announce(job.room_id)


@transaction.atomic
def requeue_job(job: Job) -> Job:
    """Do it again: an ended job is added anew with the same settings; of one that runs, the leases
    are taken back, so that other workers go on from its checkpoints.
    """
    if job.state not in JOB_ENDED:
        protocol.take_back(Chunk.objects.filter(job=job, state=ChunkState.LEASED))
        return job
    settings = {name: getattr(job, name) for name in SETTINGS_COLUMNS}
    return _add_job(job.room_id, job.client, job.token_hash, settings)


SETTINGS_COLUMNS = (
    "prompt", "negative_prompt", "model", "width", "height",
    "steps", "guidance", "seed", "num_images",
)  # fmt: skip


def clear_finished(room_id: str | None = None) -> int:
    """Remove ended jobs (of one room, or of all) with their pictures; returns how many."""
    ended = Job.objects.ended()
    if room_id is not None:
        ended = ended.filter(room_id=room_id)
    doomed = list(ended)
    for job in doomed:
        delete_job(job)
    return len(doomed)


@transaction.atomic
def pause_room(room: Room, paused: bool) -> None:
    """A paused room starts no chunk; those that run finish."""
    Room.objects.filter(pk=room.pk).update(paused=paused)
    room.paused = paused
    events.announce(room.pk)
    if not paused:
        waking.wake_workers()


@transaction.atomic
def join_server(room: Room, helps: bool = True) -> None:
    """Let the server's own workers help in this room, or not."""
    Room.objects.filter(pk=room.pk).update(server_helps=helps)
    room.server_helps = helps
    events.announce(room.pk)
    if helps:
        waking.wake_workers()


def let_tabs_help(room: Room, helps: bool) -> None:
    """Let the tabs of people in this room compute, or not: those that do stop within one step."""
    with transaction.atomic():
        Room.objects.filter(pk=room.pk).update(tabs_help=helps)
        events.announce(room.pk)
    room.tabs_help = helps
    if not helps:  # with the room's row let go: leases end under the locks of their jobs
        _send_home(_brought_to(room))


def _brought_to(room: Room) -> QuerySet[Worker]:
    """The tabs and helpers that people have brought and that are here."""
    here = Worker.objects.filter(room=room).exclude(state=WorkerState.GONE)
    return here.exclude(kind=WorkerKind.CELERY)


def _send_home(brought: QuerySet[Worker]) -> None:
    """Their leases go back, and their sockets hear why (`tabs.stand`)."""
    for worker_id in brought.values_list("pk", flat=True):
        departure.worker_is_gone(worker_id, crashed=False)


def remove_client(room: Room, label: str) -> None:
    """Cancel what this client has in the room, take no more from it and let none of its tabs
    compute.
    """
    with transaction.atomic():
        lock_room(room.pk)  # a job is added before this, and seen below, or finds the door shut
        RemovedClient.objects.get_or_create(room=room, label=label)
    for job in Job.objects.filter(room=room).unfinished():
        if client_label(job.client) == label:
            cancel_job(job)
    brought = _brought_to(room)
    theirs = [worker.pk for worker in brought if client_label(worker.client) == label]
    _send_home(brought.filter(pk__in=theirs))
    events.announce(room.pk)


def job_of(job_id: UUID) -> Job | None:
    return Job.objects.filter(pk=job_id).select_related("room").first()
