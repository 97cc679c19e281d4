"""The lease protocol: claim, renew, checkpoint, complete, fail. One for every kind of worker.

- A lease is (chunk, attempt, worker) with a deadline. Every later call names it, and changes
  nothing but raises `LeaseLostError` when the chunk has moved on: cancelled, taken back, done.
- `take_back` ends leases from outside: of late workers (sweeper), of dead ones (supervisor).
  `free_images` ends what is no lease yet: a worker's claim to the next chunk of its image.
- Completing a chunk makes the next one of its image in the same transaction.

Files are written before the transaction that names them (previews inside it); whoever is refused
removes its own. When nobody can say whether it was (the connection broke in the commit), they stay.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings as site
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from diffusion.settings import Settings
from genqueue import events, fairness, files, speeds
from genqueue.faults import Fault
from genqueue.models import Checkpoint, Chunk, ChunkKind, Image, Job, Tally, Worker
from genqueue.transitions import (
    IMAGE_ENDED,
    ChunkState,
    ImageState,
    JobState,
    WorkerState,
    hold,
    lock_job,
    move,
)

CLAIM_RACES = 20  # candidates lost to other workers before giving up; the next wake-up tries again
CHECKPOINTS_KEPT = 2


class LeaseLostError(Exception):
    """The chunk is not this lease's any more. Stop computing; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to compute one chunk. Seconds and times are the database's, not the worker's.

    began_at: when the worker was free for it; of an image that it goes on with, before the claim.
    index, seed: of the image (None for `encode`).  start, stop: steps of a `denoise` chunk.
    conditioning, latent: names in the storage; latent is None at step 0, where it is the noise.
    """

    chunk_id: int
    attempt: int
    worker_id: UUID
    began_at: datetime
    deadline: datetime
    kind: ChunkKind
    job_id: UUID
    room_id: str
    settings: Settings
    image_id: int | None
    index: int | None
    seed: int | None
    start: int
    stop: int
    conditioning: str
    latent: str | None

    @property
    def fence(self) -> dict[str, object]:
        return {"attempt": self.attempt, "worker_id": self.worker_id}


def claim(worker_id: UUID) -> Lease | None:
    """The next chunk for this worker, or None when there is none (or the worker is not ready)."""
    for _ in range(CLAIM_RACES):
        with transaction.atomic():
            worker = Worker.objects.filter(pk=worker_id, state=WorkerState.READY).first()
            chunk = fairness.next_chunk(worker) if worker else None
            if worker is None or chunk is None:
                return None
            if lock_job(chunk.job_id):
                lease = _lease(chunk, worker)
                if lease is not None:
                    return lease
    return None


def _lease(chunk: Chunk, worker: Worker) -> Lease | None:
    now = timezone.now()
    deadline = now + timedelta(seconds=site.LEASE_SECONDS)
    job = Job.objects.get(pk=chunk.job_id)
    image = Image.objects.get(pk=chunk.image_id) if chunk.image_id else None
    start, stop, latent = chunk.start, chunk.stop, None
    if image is not None:
        newest = image.checkpoints.order_by("-step").first()
        if newest is not None:
            latent = newest.latent
        if chunk.kind == ChunkKind.DENOISE:
            start = newest.step if newest is not None else 0
            stop = min(job.steps, start + speeds.steps_in_a_chunk(worker, job))
    leased = move(
        Chunk,
        chunk.pk,
        ChunkState.PENDING,
        ChunkState.LEASED,
        fence={"attempt": chunk.attempt},
        worker=worker,
        deadline=deadline,
        leased_at=now,
        stop=stop,
    )
    if not leased:
        return None
    if image is None or (image.state == ImageState.QUEUED and image.worker_id is None):
        fairness.take_turn(job)
    if job.state == JobState.QUEUED:
        move(Job, job.pk, JobState.QUEUED, JobState.RUNNING, started_at=now)
    if image is not None and image.state == ImageState.QUEUED:
        move(Image, image.pk, ImageState.QUEUED, ImageState.RUNNING, started_at=now, worker=worker)
    elif image is not None and chunk.kind == ChunkKind.DENOISE:
        preview_step = start if start and image.preview_step else None
        Image.objects.filter(pk=image.pk).update(
            worker=worker, step=start, preview_step=preview_step
        )
    elif image is not None:
        Image.objects.filter(pk=image.pk).update(worker=worker)
    events.announce(job.room_id)
    goes_on = image is not None and image.worker_id == worker.pk
    if not goes_on:
        fairness.wake_workers(besides=worker.pk)  # who left this to us may take what is next
    began_at = chunk.created_at if goes_on and fairness.is_young(chunk) else now
    return Lease(
        chunk_id=chunk.pk,
        attempt=chunk.attempt,
        worker_id=worker.pk,
        began_at=began_at,
        deadline=deadline,
        kind=ChunkKind(chunk.kind),
        job_id=job.pk,
        room_id=job.room_id,
        settings=settings_of(job),
        image_id=image.pk if image else None,
        index=image.index if image else None,
        seed=image.seed if image else None,
        start=start,
        stop=stop,
        conditioning=job.conditioning,
        latent=latent,
    )


def settings_of(job: Job) -> Settings:
    """The settings as `diffusion` knows them."""
    return Settings(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        model=job.model,
        width=job.width,
        height=job.height,
        steps=job.steps,
        guidance=job.guidance,
        seed=job.seed,
        num_images=job.num_images,
    )


def renew(lease: Lease) -> Lease:
    """A new deadline. Raises LeaseLostError."""
    deadline = timezone.now() + timedelta(seconds=site.LEASE_SECONDS)
    if not hold(Chunk, lease.chunk_id, ChunkState.LEASED, lease.fence, deadline=deadline):
        raise LeaseLostError
    return replace(lease, deadline=deadline)


def checkpoint(
    lease: Lease, step: int, latent: bytes | None = None, preview: bytes | None = None
) -> None:
    """Say that a `denoise` chunk has computed `step` steps of its image, start < step <= stop.

    latent: safetensors to go on from (kept, the newest two); None says only how far it is.
    preview: a small WebP.  Raises LeaseLostError, and ValueError for a step outside the lease.
    """
    if lease.image_id is None or not lease.start < step <= lease.stop:
        raise ValueError(f"step {step} is outside {lease.start}..{lease.stop}")
    image = Image(pk=lease.image_id, job_id=lease.job_id, index=lease.index or 0)
    written = []
    if latent is not None:
        written.append(files.write(files.job_folder(lease.job_id), ".safetensors", latent))
    progress: dict[str, object] = {"step": step}
    if preview is not None:
        progress["preview_step"] = step
    with transaction.atomic(), _own_files(written):
        lock_job(lease.job_id)
        deadline = timezone.now() + timedelta(seconds=site.LEASE_SECONDS)
        if not hold(Chunk, lease.chunk_id, ChunkState.LEASED, lease.fence, deadline=deadline):
            raise LeaseLostError
        if preview is not None:  # its name is shared with other workers: only under the fence
            files.write_preview(image, step, preview)
        Image.objects.filter(pk=lease.image_id).update(**progress)
        if written:
            _keep_checkpoint(lease.image_id, step, written[0])
        events.announce(lease.room_id)


def complete(lease: Lease, result: bytes, seconds: float) -> None:
    """Hand in the result and make the next chunk.

    result: safetensors (conditioning of `encode`, latent of `denoise`) or PNG (`decode`).
    seconds: computing time.  Raises LeaseLostError: then somebody else answers for the chunk.
    """
    suffix = ".png" if lease.kind == ChunkKind.DECODE else ".safetensors"
    written = files.write(files.job_folder(lease.job_id), suffix, result)
    with transaction.atomic(), _own_files([written]):
        lock_job(lease.job_id)
        moved = move(
            Chunk,
            lease.chunk_id,
            ChunkState.LEASED,
            ChunkState.DONE,
            fence=lease.fence,
            deadline=None,
            finished_at=timezone.now(),
            seconds=seconds,
        )
        if not moved:
            raise LeaseLostError
        job = Job.objects.get(pk=lease.job_id)
        steps = lease.stop - lease.start
        done: dict[str, int] = {}
        if lease.kind == ChunkKind.ENCODE:
            _encoded(lease, job, written)
        elif lease.kind == ChunkKind.DENOISE:
            _denoised(lease, job, written, seconds)
            done = {"steps_done": steps}
        else:
            job_done = _decoded(lease, job, written, seconds)
            done = {"images_done": 1, "jobs_done": int(job_done)}
        in_all = (timezone.now() - lease.began_at).total_seconds()
        speeds.record(lease.worker_id, lease.kind, job, steps, max(seconds, in_all))
        Worker.objects.filter(pk=lease.worker_id).update(
            chunks_done=F("chunks_done") + 1, steps_done=F("steps_done") + steps
        )
        events.announce(lease.room_id)
        _count(done)
        fairness.wake_workers(besides=lease.worker_id)


def _encoded(lease: Lease, job: Job, conditioning: str) -> None:
    Job.objects.filter(pk=job.pk).update(conditioning=conditioning)
    images = list(Image.objects.filter(job=job, state=ImageState.QUEUED).order_by("index"))
    Chunk.objects.bulk_create(
        Chunk(job=job, image=image, kind=ChunkKind.DENOISE, start=0, stop=job.steps)
        for image in images
    )
    if images:  # who encoded goes on with the first image: both were one turn
        Image.objects.filter(pk=images[0].pk).update(worker_id=lease.worker_id)


def _denoised(lease: Lease, job: Job, latent: str, seconds: float) -> None:
    assert lease.image_id is not None
    _keep_checkpoint(lease.image_id, lease.stop, latent)
    Image.objects.filter(pk=lease.image_id).update(step=lease.stop, seconds=F("seconds") + seconds)
    if lease.stop < job.steps:
        follow_up = Chunk(kind=ChunkKind.DENOISE, start=lease.stop, stop=job.steps)
    else:
        follow_up = Chunk(kind=ChunkKind.DECODE)
    follow_up.job, follow_up.image_id = job, lease.image_id
    follow_up.save()


def _decoded(lease: Lease, job: Job, picture: str, seconds: float) -> bool:
    """True when the job is done with this picture."""
    assert lease.image_id is not None
    image = Image.objects.get(pk=lease.image_id)
    now = timezone.now()
    moved = move(
        Image,
        image.pk,
        ImageState.RUNNING,
        ImageState.DONE,
        picture=picture,
        finished_at=now,
        seconds=F("seconds") + seconds,
    )
    assert moved, "an image runs as long as its chunk is leased"
    files.delete_on_commit(files.working_files(image))
    image.checkpoints.all().delete()
    return _end_job_after_its_images(job) == JobState.DONE


def _end_job_after_its_images(job: Job) -> JobState | None:
    """The last image of a running job ends it: done, or failed if any image failed."""
    states = set(Image.objects.filter(job=job).values_list("state", flat=True))
    if not states <= set(IMAGE_ENDED):
        return None
    ending = JobState.FAILED if ImageState.FAILED in states else JobState.DONE
    if not move(Job, job.pk, JobState.RUNNING, ending, finished_at=timezone.now()):
        return None
    files.delete_on_commit([job.conditioning])
    return ending


def fail(lease: Lease, fault: Fault, detail: str = "") -> None:
    """The worker could not compute the chunk: try again, until the third fault.

    detail: for the admin, never for clients.  Raises LeaseLostError.
    """
    _give_up(lease, fault, detail)


def release(lease: Lease) -> None:
    """Give the chunk back unharmed, because the worker stops. Raises LeaseLostError."""
    _give_up(lease, None, "")


def _give_up(lease: Lease, fault: Fault | None, detail: str) -> None:
    with transaction.atomic():
        lock_job(lease.job_id)
        chunk = Chunk.objects.filter(
            pk=lease.chunk_id, state=ChunkState.LEASED, **lease.fence
        ).first()
        if chunk is None:
            raise LeaseLostError
        if fault is Fault.FILE_LOST and chunk.faults and chunk.kind == ChunkKind.DENOISE:
            # Twice, so it is not that one worker alone cannot reach the files: go on from the one
            # before it, or from the noise.
            Checkpoint.objects.filter(image=chunk.image_id, latent=lease.latent).delete()
        _return_chunk(chunk, fault, detail)


def lack_model(lease: Lease) -> None:
    """The worker does not find the model any more: it gets no more chunks of it, and this one goes
    back unharmed. Raises LeaseLostError.
    """
    worker = Worker.objects.get(pk=lease.worker_id)
    worker.model_names = [name for name in worker.model_names if name != lease.settings.model]
    worker.save(update_fields=["model_names"])
    release(lease)


def take_back(
    chunks: Iterable[Chunk],
    fault: Fault | None = None,
    detail: str = "",
    late_at: datetime | None = None,
) -> int:
    """End these leases from outside; returns how many. Without a fault they go back unharmed.

    late_at: only those whose deadline lies before it, even if one is renewed at this moment.
    """
    taken = 0
    for chunk in chunks:
        with transaction.atomic():
            if lock_job(chunk.job_id):
                taken += _return_chunk(chunk, fault, detail, late_at)
    return taken


def free_images(worker_id: UUID) -> None:
    """Let anybody go on with the images whose next chunk waits for this worker."""
    kept = Chunk.objects.filter(state=ChunkState.PENDING, image__worker_id=worker_id)
    for chunk in kept.select_related("job"):
        with transaction.atomic():
            if not lock_job(chunk.job_id):
                continue
            still_kept = kept.filter(pk=chunk.pk).values("image_id")
            if Image.objects.filter(pk__in=still_kept).update(worker=None):
                events.announce(chunk.job.room_id)
                fairness.wake_workers()


def _return_chunk(
    chunk: Chunk, fault: Fault | None, detail: str, late_at: datetime | None = None
) -> bool:
    """leased -> pending, or failed after too many faults. The job is locked."""
    fence: dict[str, object] = {"attempt": chunk.attempt, "worker_id": chunk.worker_id}
    if late_at is not None:
        fence["deadline__lt"] = late_at
    faults = chunk.faults + (fault is not None)
    failed = fault is not None and faults >= site.MAX_FAULTS
    now = timezone.now()
    moved = move(
        Chunk,
        chunk.pk,
        ChunkState.LEASED,
        ChunkState.FAILED if failed else ChunkState.PENDING,
        fence=fence,
        attempt=chunk.attempt + 1,
        faults=faults,
        deadline=None,
        finished_at=now if failed else None,
        error=f"{fault}: {detail}" if fault else chunk.error,
    )
    if not moved:
        return False
    job = Job.objects.get(pk=chunk.job_id)
    if fault is not None and failed:
        _fail_images(job, chunk, fault, detail)
    else:
        if chunk.image_id is not None:
            Image.objects.filter(pk=chunk.image_id).update(worker=None)  # anybody may go on
        fairness.wake_workers()
    events.announce(job.room_id)
    return True


def _fail_images(job: Job, chunk: Chunk, fault: Fault, detail: str) -> None:
    """Without its chunk an image cannot end well; without the encoding none of the job can."""
    now = timezone.now()
    doomed = Image.objects.filter(job=job).exclude(state__in=IMAGE_ENDED)
    if chunk.image_id is not None:
        doomed = doomed.filter(pk=chunk.image_id)
    for image in doomed:
        move(Image, image.pk, image.state, ImageState.FAILED, finished_at=now)
        files.delete_on_commit(files.working_files(image))
        image.checkpoints.all().delete()
    said = (
        f"{chunk.kind}, step {chunk.start}: {detail}" if chunk.stop else f"{chunk.kind}: {detail}"
    )
    Job.objects.filter(pk=job.pk).update(error_code=fault, error_detail=said)
    _end_job_after_its_images(job)


def _keep_checkpoint(image_id: int, step: int, latent: str) -> None:
    """Keep this one and the newest before it."""
    old = Checkpoint.objects.filter(image_id=image_id).order_by("-step")
    replaced = [row for row in old if row.step >= step]
    surplus = [row for row in old if row.step < step][CHECKPOINTS_KEPT - 1 :]
    files.delete_on_commit(row.latent for row in replaced + surplus)
    Checkpoint.objects.filter(pk__in=[row.pk for row in replaced + surplus]).delete()
    Checkpoint.objects.create(image_id=image_id, step=step, latent=latent)


def _count(amounts: dict[str, int]) -> None:
    """Add to the totals: one row that all workers write, so the last lock of a transaction."""
    more = {name: F(name) + number for name, number in amounts.items() if number}
    if not more:
        return
    if not Tally.objects.filter(pk=1).update(**more):
        Tally.objects.get_or_create(pk=1)
        Tally.objects.filter(pk=1).update(**more)


@contextmanager
def _own_files(names: list[str]) -> Iterator[None]:
    """Removes the named files when the block is refused.

    Stands inside the transaction: when the connection is lost while the database commits, nobody
    knows whether rows name them now. Then they stay, and `orphans` decides.
    """
    try:
        yield
    except BaseException:
        with suppress(OSError):
            files.delete(names)
        raise
