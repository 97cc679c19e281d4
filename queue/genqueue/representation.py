"""Jobs and rooms as JSON: the one form that the API, the pages and the WebSocket all use."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db.models import Q

from genqueue import faults, paging, presence, shutting_out, timeline
from genqueue.check_models import Check
from genqueue.clients import client_label
from genqueue.forecast import Forecast, forecast
from genqueue.kinds import ChunkKind
from genqueue.models import Chunk, Image, Job, Room, Speed, Worker
from genqueue.shapes import (
    AtWorkJson,
    ErrorJson,
    ImageJson,
    JobJson,
    RoomJson,
    RoomWorkerJson,
    WorkerJson,
)
from genqueue.transitions import JOB_ENDED, CheckState, ChunkState, ImageState, JobState

ENDED_JOBS_A_PAGE = 100


def job_as_json(job: Job) -> JobJson:
    """One job with its images, as it is now."""
    expected = {} if job.state in JOB_ENDED else forecast({job.pk})
    images = job.images.select_related("worker").order_by("index")
    return _job(job, expected.get(job.pk), images)


def jobs_as_json(jobs: Iterable[Job]) -> list[JobJson]:
    """Jobs in the given order; for many, with `with_images`."""
    jobs = list(jobs)
    unfinished = {job.pk for job in jobs if job.state not in JOB_ENDED}
    expected = forecast(unfinished) if unfinished else {}
    return [_job(job, expected.get(job.pk), job.images.all()) for job in jobs]


def room_as_json(room_id: str, before: paging.Cursor | None = None) -> RoomJson:
    """The room with its unfinished and its newest ended jobs, or a page of older ended ones.

    before: `older` of another answer. A room nobody has used yet is empty and has revision 0.
    """
    room = Room.objects.filter(pk=room_id).first()
    of_room = Job.objects.filter(room_id=room_id)
    unfinished = [] if before is not None else list(of_room.unfinished().with_images())
    rows, older = paging.newest(of_room.ended(), ENDED_JOBS_A_PAGE, before)
    ended = Job.objects.filter(pk__in=[pk for (pk,) in rows]).with_images()
    jobs = {job.pk: job for job in [*unfinished, *ended]}  # one may have ended in between
    return RoomJson(
        room=room_id,
        title=room.title if room else "",
        owner=client_label(room.owner) if room and room.owner else None,
        paused=room.paused if room else False,
        revision=room.revision if room else 0,
        jobs=jobs_as_json(sorted(jobs.values(), key=lambda job: (job.created_at, job.pk))),
        older=older,
        workers=room_workers(room),
        peers=presence.peers(room_id),
        shut_out=shutting_out.shut_out_of(room),
    )


def room_workers(room: Room | None) -> list[RoomWorkerJson]:
    """Workers online that help in this room: its own, and the server's if it lets them."""
    of_room = Q(room=room) if room is not None else Q(pk=None)
    if room is None or room.server_helps:
        of_room |= Q(room__isnull=True)
    workers = list(Worker.objects.online().filter(of_room).order_by("started_at"))
    speeds = _seconds_a_step(workers)
    at_work = _at_work(room, workers)
    return [
        RoomWorkerJson(
            **_worker(worker),
            state=worker.state,  # type: ignore[typeddict-item]
            seconds_a_step=speeds.get(worker.pk),
            at_work=at_work.get(worker.pk),
            lacks=worker.lacks,
        )
        for worker in workers
    ]


def _seconds_a_step(workers: list[Worker]) -> dict[UUID, float]:
    """Of those that have computed steps: of the kind that was measured last."""
    measured = Speed.objects.filter(worker__in=workers, kind=ChunkKind.DENOISE)
    return {row.worker_id: round(row.seconds, 3) for row in measured.order_by("measured_at")}


def _at_work(room: Room | None, workers: list[Worker]) -> dict[UUID | None, AtWorkJson]:
    leased = Chunk.objects.filter(job__room=room, state=ChunkState.LEASED, worker__in=workers)
    at_work: dict[UUID | None, AtWorkJson] = {}
    for chunk in leased.select_related("image"):
        image, denoises = chunk.image, chunk.kind == ChunkKind.DENOISE
        at_work[chunk.worker_id] = AtWorkJson(
            job=str(chunk.job_id),
            index=image.index if image is not None else None,
            kind=chunk.kind,  # type: ignore[typeddict-item]
            start=timeline.covered(image.timeline) if image is not None and denoises else 0,
            stop=chunk.stop,
        )
    return at_work


def _job(job: Job, expected: Forecast | None, images: Iterable[Image]) -> JobJson:
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
        waits_for_model=bool(expected and expected.waits_for_model and not ended),
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
        images=[_image(job, image) for image in images],
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
        steps_by=timeline.steps_by(timeline.entries_of(image.timeline)),
        check=_check(image),
        doubt=(image.doubt or None) if done else None,  # type: ignore[typeddict-item]
    )


def _check(image: Image) -> Literal["waiting", "running"] | None:
    if image.state != ImageState.RUNNING or not image.picture:
        return None
    undecided = Check.objects.of_image(image).filter(state=CheckState.OPEN)
    begun = Chunk.objects.filter(check_of__in=undecided, state=ChunkState.LEASED)
    return "running" if begun.exists() else "waiting"


def _worker(worker: Worker) -> WorkerJson:
    return WorkerJson(
        id=str(worker.pk),
        name=worker.name,
        kind=worker.kind,  # type: ignore[typeddict-item]
        client=client_label(worker.client) if worker.client else None,
        device=worker.device,
        kernels=worker.kernels,
    )


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
