"""Jobs and rooms as JSON: the one form that the API, the pages and the WebSocket all use."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Prefetch, Q

from genqueue import faults, presence
from genqueue.clients import client_label
from genqueue.forecast import Forecast, forecast
from genqueue.models import Image, Job, Room, Worker
from genqueue.shapes import (
    ErrorJson,
    ImageJson,
    JobJson,
    RoomJson,
    RoomWorkerJson,
    WorkerJson,
)
from genqueue.transitions import JOB_ENDED, ImageState, JobState


def job_as_json(job: Job) -> JobJson:
    """One job with its images, as it is now."""
    return jobs_as_json([job])[0]


def jobs_as_json(jobs: Iterable[Job]) -> list[JobJson]:
    """Jobs in the given order; prefetch `images__worker` for many."""
    jobs = list(jobs)
    unfinished = {job.pk for job in jobs if job.state not in JOB_ENDED}
    expected = forecast(unfinished) if unfinished else {}
    return [_job(job, expected.get(job.pk)) for job in jobs]


def room_as_json(room_id: str) -> RoomJson:
    """The room's jobs, oldest first, its workers and how many peers look at it.

    A room nobody has used yet is empty and has revision 0.
    """
    room = Room.objects.filter(pk=room_id).first()
    peers = presence.peers(room_id)
    if room is None:
        return RoomJson(
            room=room_id, title="", owner=None, paused=False, revision=0, jobs=[],
            workers=room_workers(None), peers=peers,
        )  # fmt: skip
    images = Prefetch("images", Image.objects.select_related("worker").order_by("index"))
    jobs = Job.objects.filter(room=room).prefetch_related(images)
    return RoomJson(
        room=room.pk,
        title=room.title,
        owner=client_label(room.owner) if room.owner else None,
        paused=room.paused,
        revision=room.revision,
        jobs=jobs_as_json(jobs),
        workers=room_workers(room),
        peers=peers,
    )


def room_workers(room: Room | None) -> list[RoomWorkerJson]:
    """Workers online that help in this room: its own, and the server's if it lets them."""
    of_room = Q(room=room) if room is not None else Q(pk=None)
    if room is None or room.server_helps:
        of_room |= Q(room__isnull=True)
    return [
        RoomWorkerJson(**_worker(worker), state=worker.state)  # type: ignore[typeddict-item]
        for worker in Worker.objects.online().filter(of_room).order_by("started_at")
    ]


def _job(job: Job, expected: Forecast | None) -> JobJson:
    ended_badly = job.state == JobState.FAILED
    waits = job.state == JobState.QUEUED
    ended = job.state in JOB_ENDED
    return JobJson(
        id=str(job.pk),
        room=job.room_id,
        client=client_label(job.client),
        state=job.state,  # type: ignore[typeddict-item]
        position=expected.position if expected and waits else None,
        eta_seconds=expected.eta_seconds if expected and not ended else None,
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        model=job.model,
        width=job.width,
        height=job.height,
        steps=job.steps,
        guidance=job.guidance,
        seed=job.seed,
        num_images=job.num_images,
        created_at=job.created_at.isoformat(),
        started_at=_time(job.started_at),
        finished_at=_time(job.finished_at),
        error=_error(job) if ended_badly else None,
        images=[_image(job, image) for image in job.images.all()],
    )


def _error(job: Job) -> ErrorJson:
    """`job.error_detail` is for the admin: it may hold what is nobody else's business."""
    return ErrorJson(code=job.error_code, detail=faults.sentence(job.error_code))


def _image(job: Job, image: Image) -> ImageJson:
    done = image.state == ImageState.DONE
    address = f"/api/jobs/{job.pk}/images/{image.index}"
    has_preview = image.preview_step is not None and image.state == ImageState.RUNNING
    return ImageJson(
        index=image.index,
        seed=image.seed,
        state=image.state,  # type: ignore[typeddict-item]
        step=image.step,
        steps=job.steps,
        worker=_worker(image.worker) if image.worker else None,
        url=f"{address}.png" if done else None,
        preview_url=f"{address}/preview.webp?step={image.preview_step}" if has_preview else None,
        seconds=round(image.seconds, 3) if done else None,
    )


def _worker(worker: Worker) -> WorkerJson:
    return WorkerJson(
        id=str(worker.pk),
        name=worker.name,
        kind=worker.kind,  # type: ignore[typeddict-item]
        device=worker.device,
    )


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
