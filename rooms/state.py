"""What a room looks like at one moment, loaded once for everybody who looks.

The jobs that wait or run are read anew each time. Ended jobs change only when a picture is removed
or checked, so their JSON is kept as long as state, number of pictures and doubts are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict
from uuid import UUID

from genqueue.clients import client_label
from genqueue.models import Image, Job, Room
from genqueue.paging import Cursor, cursor_in, newest
from genqueue.representation import jobs_as_json, room_workers
from genqueue.shapes import JobJson, RoomWorkerJson, ShutOutJson
from genqueue.shutting_out import shut_out_of

SHOWN_ENDED_JOBS = 200  # on the page that lives; older pictures come when asked for
OLDER_JOBS_A_PAGE = 100


class HeadJson(TypedDict):
    """All about a room but its jobs."""

    room: str
    title: str
    owner: str | None
    paused: bool
    tabs_help: bool
    """Whether the owner lets people's tabs compute."""
    workers: list[RoomWorkerJson]
    shut_out: list[ShutOutJson]
    """Who computes no more here, because something of theirs was found wrong."""


@dataclass(frozen=True, slots=True)
class RoomState:
    """revision: at least this one. jobs: by id, oldest first. older: the cursor of the pictures
    that came before all of these; None when there are none."""

    revision: int
    head: HeadJson
    jobs: Mapping[str, JobJson] = field(default_factory=dict)
    older: str | None = None


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
    unfinished = _unfinished(room)
    ended, older = _ended(room, before)
    now = {job["id"]: job for job in [*unfinished, *ended]}  # one may have ended in between
    jobs = sorted(now.values(), key=lambda job: (job["created_at"], job["id"]))
    return RoomState(
        revision=room.revision,
        head=head,
        jobs={job["id"]: _same(before.get(job["id"]), job) for job in jobs},
        older=older,
    )


def _same(old: JobJson | None, new: JobJson) -> JobJson:
    return old if old is not None and old == new else new


def _head(room: Room | None, room_id: str) -> HeadJson:
    return HeadJson(
        room=room_id,
        title=room.title if room else "",
        owner=client_label(room.owner) if room and room.owner else None,
        paused=room.paused if room else False,
        tabs_help=room.tabs_help if room else True,
        workers=room_workers(room),
        shut_out=shut_out_of(room),
    )


def older_pictures(room_id: str, before: Cursor | None) -> tuple[list[JobJson], str | None]:
    """Jobs with pictures made before the cursor, and the cursor of those before them."""
    jobs = Job.objects.filter(room_id=room_id).ended().with_pictures()
    rows, older = newest(jobs, OLDER_JOBS_A_PAGE, before)
    return jobs_as_json(Job.objects.filter(pk__in=[pk for (pk,) in rows]).with_images()), older


def _unfinished(room: Room) -> list[JobJson]:
    return jobs_as_json(Job.objects.filter(room=room).unfinished().with_images())


def _ended(room: Room, before: Mapping[str, JobJson]) -> tuple[list[JobJson], str | None]:
    shown = Job.objects.filter(room=room).ended().with_pictures_or_failed()
    columns = ("state", "pictures")
    rows, older = newest(shown.counting_pictures(), SHOWN_ENDED_JOBS, columns=columns)
    kept: list[JobJson] = []
    missing = []
    doubts = _doubts(room, older)
    for pk, state, pictures in rows:
        old = before.get(str(pk))
        same = old is not None and _doubts_shown(old) == doubts.get(pk, {})
        if old is not None and same and old["state"] == state and _pictures(old) == pictures:
            kept.append(old)
        else:
            missing.append(pk)
    if missing:
        kept += jobs_as_json(Job.objects.filter(pk__in=missing).with_images())
    return kept, older


def _doubts(room: Room, older: str | None) -> dict[UUID, dict[int, str]]:
    """Of the pictures that are in doubt, by job and index; few are. older: the cursor of the jobs
    before which nobody looks."""
    doubtful: dict[UUID, dict[int, str]] = {}
    images = Image.objects.filter(job__room=room).exclude(doubt="")
    if older is not None:
        images = images.filter(job__created_at__gte=cursor_in(older).created_at)
    rows = images.order_by()
    for job_id, index, doubt in rows.values_list("job_id", "index", "doubt"):
        doubtful.setdefault(job_id, {})[index] = doubt
    return doubtful


def _doubts_shown(job: JobJson) -> dict[int, str]:
    return {image["index"]: image["doubt"] for image in job["images"] if image["doubt"]}


def _pictures(job: JobJson) -> int:
    return sum(image["url"] is not None for image in job["images"])
