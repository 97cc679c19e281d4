"""What is forgotten, and when. All that is not listed here is kept.

`settings.KEPT_FOR` says how long; None keeps for ever.

- jobs_without_pictures: jobs that failed or were cancelled before any picture was finished.
- pictures: ended jobs with their pictures. For ever, unless somebody decides otherwise.
- chunks: who computed which steps of an ended job, and what checks found. The picture still says
  who finished it.
- empty_rooms: rooms without jobs where nobody has been, with their title and their owner.
- workers: workers that are gone and that no picture names, and speeds measured long ago.

The sweepers of all sites and workers call `prune`. It works in small batches, so that nobody waits
long for it, and any number at once is safe: each removal checks again what it removes.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Max, Model, OuterRef, QuerySet

from genqueue import actions, presence
from genqueue.check_models import Check
from genqueue.locks import lock_room
from genqueue.models import Chunk, Image, Job, Room, Speed, Worker
from genqueue.transitions import CheckState, ChunkState, ImageState, JobState, WorkerState

BEAT = timedelta(minutes=5)
BATCH = 50  # of each kind; a full batch is followed by another one with the next sweep

_next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many were removed; chunks and speeds: how many jobs' and rows."""

    jobs: int = 0
    chunks: int = 0
    rooms: int = 0
    workers: int = 0
    speeds: int = 0


def prune(now: datetime) -> Pruned:
    """Remove a batch of what is old enough, when this process has not done so for a BEAT."""
    global _next_at
    if _next_at is not None and now < _next_at:
        return Pruned()
    pruned = Pruned(
        jobs=_jobs(_long_before(now, "jobs_without_pictures"), _without_pictures())
        + _jobs(_long_before(now, "pictures"), Job.objects.ended()),
        chunks=_chunks(_long_before(now, "chunks")),
        rooms=_rooms(_long_before(now, "empty_rooms")),
        workers=_workers(_long_before(now, "workers")),
        speeds=_speeds(_long_before(now, "workers")),
    )
    more = any(number >= BATCH for number in astuple(pruned))
    _next_at = now if more else now + BEAT
    return pruned


def forget() -> None:
    """The next call prunes (tests)."""
    global _next_at
    _next_at = None


def _long_before(now: datetime, kind: str) -> datetime | None:
    kept_for: timedelta | None = settings.KEPT_FOR[kind]
    return None if kept_for is None else now - kept_for


def _without_pictures() -> QuerySet[Job]:
    """A job that is done has a picture: removing its last one removes it."""
    picture = Image.objects.filter(job=OuterRef("pk"), state=ImageState.DONE)
    ended = Job.objects.filter(state__in=[JobState.FAILED, JobState.CANCELLED])
    return ended.exclude(Exists(picture))


def _jobs(before: datetime | None, jobs: QuerySet[Job]) -> int:
    if before is None:
        return 0
    doomed = list(jobs.filter(finished_at__lt=before).order_by("finished_at")[:BATCH])
    for job in doomed:
        actions.delete_job(job)
    return len(doomed)


def _chunks(before: datetime | None) -> int:
    if before is None:
        return 0
    # Found by their own time: a job that waits in a paused room may have chunks of long ago.
    long_ended = Job.objects.filter(pk=OuterRef("job_id"), finished_at__lt=before)
    ended = [ChunkState.DONE, ChunkState.FAILED, ChunkState.CANCELLED]
    old = Chunk.objects.filter(Exists(long_ended), state__in=ended, finished_at__lt=before)
    job_ids = list(old.order_by().values_list("job_id", flat=True).distinct()[:BATCH])
    if job_ids:  # on SQLite, deleting nothing would still wait for other writers
        Check.objects.filter(job__in=job_ids).exclude(state=CheckState.OPEN).delete()
        Chunk.objects.filter(job__in=job_ids).delete()
    return len(job_ids)


def _rooms(before: datetime | None) -> int:
    if before is None:
        return 0
    newest = Room.objects.aggregate(newest=Max("revision"))["newest"] or 0
    unvisited = Room.objects.filter(
        ~Exists(Job.objects.filter(room=OuterRef("pk"))),
        ~Exists(presence.recent().filter(room_name=OuterRef("pk"))),
        ~Exists(Worker.objects.filter(room=OuterRef("pk")).exclude(state=WorkerState.GONE)),
        visited_at__lt=before,
        # The room that changed last carries the number from which all rooms count on: without it
        # the next change would get one that every watcher has seen already.
        revision__lt=newest,
    )
    removed = 0
    for room_id in list(unvisited.values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic():
            if lock_room(room_id):
                removed += _delete(unvisited.filter(pk=room_id))
    return removed


def _workers(before: datetime | None) -> int:
    if before is None:
        return 0
    unnamed = Worker.objects.filter(
        ~Exists(Image.objects.filter(worker=OuterRef("pk"))),
        ~Exists(Chunk.objects.filter(worker=OuterRef("pk"))),
        state=WorkerState.GONE,
        last_seen_at__lt=before,
    )
    return _delete(unnamed)


def _speeds(before: datetime | None) -> int:
    return 0 if before is None else _delete(Speed.objects.filter(measured_at__lt=before))


def _delete(rows: QuerySet[Model]) -> int:
    """At most a batch of them."""
    doomed: Iterable[object] = list(rows.values_list("pk", flat=True)[:BATCH])
    if not doomed:  # as above
        return 0
    _all, by_model = rows.filter(pk__in=doomed).delete()
    return by_model.get(rows.model._meta.label, 0)
