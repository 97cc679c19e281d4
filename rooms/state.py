"""What a room looks like at one moment, loaded once for everybody who looks.

The jobs that wait or run are read anew each time. Ended jobs change only when a picture is
removed, so their JSON is kept as long as their state and number of pictures are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from django.db.models import Count, Prefetch, Q

from genqueue.clients import client_label
from genqueue.models import Image, Job, JobQuerySet, Room
from genqueue.representation import jobs_as_json, room_workers
from genqueue.shapes import JobJson, RoomWorkerJson
from genqueue.transitions import JOB_ENDED, ImageState, JobState

SHOWN_ENDED_JOBS = 200  # older pictures stay in the database and in the API


class HeadJson(TypedDict):
    """All about a room but its jobs."""

    room: str
    title: str
    owner: str | None
    paused: bool
    workers: list[RoomWorkerJson]


@dataclass(frozen=True, slots=True)
class RoomState:
    """revision: at least this one. jobs: by id, oldest first."""

    revision: int
    head: HeadJson
    jobs: Mapping[str, JobJson] = field(default_factory=dict)


def revision_of(room_id: str) -> int:
    return Room.objects.filter(pk=room_id).values_list("revision", flat=True).first() or 0


def head_of(room_id: str) -> HeadJson:
    return _head(Room.objects.filter(pk=room_id).first(), room_id)


def load(room_id: str, known: RoomState | None = None) -> RoomState:
    """The room now. Jobs that are as in `known` are the same objects again."""
    room = Room.objects.filter(pk=room_id).first()
    head = _head(room, room_id)
    if room is None:
        return RoomState(0, head)
    before: Mapping[str, JobJson] = known.jobs if known else {}
    jobs = [*_ended(room, before), *_unfinished(room)]
    jobs.sort(key=lambda job: (job["created_at"], job["id"]))
    return RoomState(
        revision=room.revision,
        head=head,
        jobs={job["id"]: _same(before.get(job["id"]), job) for job in jobs},
    )


def _same(old: JobJson | None, new: JobJson) -> JobJson:
    return old if old is not None and old == new else new


def _head(room: Room | None, room_id: str) -> HeadJson:
    return HeadJson(
        room=room_id,
        title=room.title if room else "",
        owner=client_label(room.owner) if room and room.owner else None,
        paused=room.paused if room else False,
        workers=room_workers(room),
    )


def _unfinished(room: Room) -> list[JobJson]:
    return jobs_as_json(_with_images(Job.objects.filter(room=room).unfinished()))


def _ended(room: Room, before: Mapping[str, JobJson]) -> list[JobJson]:
    done = Count("images", filter=Q(images__state=ImageState.DONE))
    rows = (
        Job.objects.filter(room=room, state__in=JOB_ENDED)
        .annotate(pictures=done)
        .filter(Q(pictures__gt=0) | Q(state=JobState.FAILED))
        .order_by("-created_at")
        .values_list("pk", "state", "pictures")[:SHOWN_ENDED_JOBS]
    )
    kept: list[JobJson] = []
    missing = []
    for pk, state, pictures in rows:
        old = before.get(str(pk))
        if old is not None and old["state"] == state and _pictures(old) == pictures:
            kept.append(old)
        else:
            missing.append(pk)
    if missing:
        kept += jobs_as_json(_with_images(Job.objects.filter(pk__in=missing)))
    return kept


def _pictures(job: JobJson) -> int:
    return sum(image["url"] is not None for image in job["images"])


def _with_images(jobs: JobQuerySet) -> JobQuerySet:
    images = Image.objects.select_related("worker").order_by("index")
    return jobs.prefetch_related(Prefetch("images", images))
