"""The lease protocol: claim, renew, checkpoint, complete, fail. One for every kind of worker.

- A lease is (chunk, attempt, worker) with a deadline. Every later call names it, and changes
  nothing but raises `LeaseLostError` when the chunk has moved on: cancelled, taken back, done.
- `take_back` ends leases from outside: of late workers (sweeper), of dead ones (supervisor).
  `free_images` ends what is no lease yet: a worker's claim to the next chunk of its image.
- Completing a chunk makes the next one of its image in the same transaction.
- Who checks something has a lease like that of whom it checks, and completes it as that one did;
  what comes of it is `verdicts`' business.

Files are written before the transaction that names them (previews inside it); whoever is refused
removes its own. When nobody can say whether it was (the connection broke in the commit), they stay.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings as site
from django.db import transaction
from django.db.models import F, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from diffusion.settings import Settings
from genqueue import (
    checks,
    events,
    fairness,
    files,
    finishing,
    lost_files,
    memory,
    speeds,
    timeline,
    verdicts,
    waking,
)
from genqueue.check_models import Check
from genqueue.faults import Fault
from genqueue.kinds import ChunkKind
from genqueue.models import Checkpoint, Chunk, Image, Job, Worker
from genqueue.partners import Partner
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
    check_id: of what it computes again, when it is a check; kind and all the others are those of
    what is checked.  fresh: what the worker remembers of this image or its prompt may be wrong.
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
    check_id: int | None = None
    fresh: bool = False

    @property
    def fence(self) -> dict[str, object]:
        return {"attempt": self.attempt, "worker_id": self.worker_id}


def claim(worker_id: UUID) -> Lease | None:
    """The next chunk for this worker, or None when there is none (or the worker is not ready).

    It is chosen before the transaction: most who ask get nothing, and would wait for everybody who
    writes. Who was second to choose a chunk does not move it, and chooses again.
    """
    ready = Worker.objects.filter(pk=worker_id, state=WorkerState.READY)
    for _ in range(CLAIM_RACES):
        worker = ready.first()
        found = fairness.next_chunk(worker) if worker else None
        if worker is None or found is None:
            return None
        chunk, portion = found
        with transaction.atomic():
            if lock_job(chunk.job_id) and ready.exists():
                checks_it = chunk.check_of_id is not None
                lease = _check(chunk, worker) if checks_it else _lease(chunk, worker, portion)
                if lease is not None:
                    return lease
    return None


def _draft(chunk: Chunk, worker: Worker, job: Job, image: Image | None) -> Lease:
    """What a lease of this chunk, beginning now, says of it by itself."""
    now = timezone.now()
    return Lease(
        chunk_id=chunk.pk,
        attempt=chunk.attempt,
        worker_id=worker.pk,
        began_at=now,
        deadline=now + timedelta(seconds=site.LEASE_SECONDS),
        kind=ChunkKind(chunk.kind),
        job_id=job.pk,
        room_id=job.room_id,
        settings=settings_of(job),
        image_id=image.pk if image else None,
        index=image.index if image else None,
        seed=image.seed if image else None,
        start=chunk.start,
        stop=chunk.stop,
        conditioning=job.conditioning,
        latent=None,
    )


def _take(lease: Lease, **values: object) -> bool:
    """Make it true, unless another worker was quicker. values: further ones of the chunk's row."""
    return move(
        Chunk,
        lease.chunk_id,
        ChunkState.PENDING,
        ChunkState.LEASED,
        fence={"attempt": lease.attempt},
        worker_id=lease.worker_id,
        deadline=lease.deadline,
        leased_at=lease.began_at,
        **values,
    )


def _lease(chunk: Chunk, worker: Worker, portion: speeds.Portion | None) -> Lease | None:
    job = Job.objects.get(pk=chunk.job_id)
    image = Image.objects.get(pk=chunk.image_id) if chunk.image_id else None
    start, stop, latent = chunk.start, chunk.stop, None
    if image is not None:
        newest = image.checkpoints.order_by("-step").first()
        if newest is not None:
            latent = newest.latent
        if portion is not None:
            start = newest.step if newest is not None else 0
            stop = start + portion.of(job.steps - start)
    fresh = image is not None and image.put_back > 0
    draft = _draft(chunk, worker, job, image)
    lease = replace(draft, start=start, stop=stop, latent=latent, fresh=fresh)
    if not _take(lease, stop=stop):
        return None
    now = lease.began_at
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
    checks.begin(chunk, worker, start, latent or "")
    events.announce(job.room_id)
    goes_on = image is not None and image.worker_id == worker.pk
    if not goes_on:
        # who left this to us may take what is next
        waking.wake_workers(besides=worker.pk, job=chunk.job)
    if goes_on and fairness.is_young(chunk):
        return replace(lease, began_at=chunk.created_at)
    return lease


def _check(chunk: Chunk, worker: Worker) -> Lease | None:
    """The lease of a check: everything is as it was for the one whose result is checked."""
    assert chunk.check_of_id is not None, "a constraint"
    check = Check.objects.select_related("job", "image").get(pk=chunk.check_of_id)
    lease = replace(
        _draft(chunk, worker, check.job, check.image),
        kind=ChunkKind(check.kind),
        start=check.start,
        stop=check.stop if check.kind == ChunkKind.DENOISE else 0,
        latent=check.given or None,
        check_id=check.pk,
        fresh=True,
    )
    if not _take(lease):
        return None
    events.announce(lease.room_id)
    return lease


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
    preview: a small WebP.  A step that comes after a later one only renews the lease.
    Raises LeaseLostError, and ValueError for a step outside the lease.
    """
    if lease.image_id is None or not lease.start < step <= lease.stop:
        raise ValueError(f"step {step} is outside {lease.start}..{lease.stop}")
    if lease.check_id is not None:  # nobody goes on from what a checker computes
        renew(lease)
        return
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
        if not Image.objects.filter(pk=lease.image_id, step__lte=step).update(**progress):
            files.delete(written)
            return
        if preview is not None:  # its name is shared with other workers: only under the fence
            files.write_preview(image, step, preview)
        if written:
            _keep_checkpoint(lease, step, written[0])
            checks.hand_in(lease, step, written[0])
        events.announce(lease.room_id)


def complete(
    lease: Lease,
    result: bytes,
    seconds: float,
    received: int = 0,
    sent: int = 0,
    helped: Sequence[Partner] = (),
) -> None:
    """Hand in the result and make the next chunk.

    result: safetensors (conditioning of `encode`, latent of `denoise`) or PNG (`decode`).
    seconds: computing time.  received, sent: bytes to the worker and from it over a network.
    helped: who else had a part in it, as the worker says; of a check nobody has.
    Raises LeaseLostError: then somebody else answers for the chunk.
    """
    if lease.check_id is not None:
        _complete_check(lease, result, seconds)
        return
    written = _stored(lease, result)
    with transaction.atomic(), _own_files([written]):
        lock_job(lease.job_id)
        job = _done(lease, seconds)
        chunk = Chunk.objects.select_related("worker").get(pk=lease.chunk_id)
        chunk.job = job
        timeline.note_done(chunk, lease.start, received, sent, helped)
        checked = checks.hand_in(lease, lease.stop, written)
        if lease.kind == ChunkKind.ENCODE:
            _encoded(lease, job, written)
        elif lease.kind == ChunkKind.DENOISE:
            _denoised(lease, job, written, seconds)
        else:
            _decoded(lease, written, seconds)
        if checked:
            checks.end_lease(lease.chunk_id, lease.attempt)
        if lease.kind == ChunkKind.DENOISE:
            finishing.count(steps_done=lease.stop - lease.start)
        if lease.kind == ChunkKind.DECODE:
            finishing.finish_ready(job)
        waking.wake_workers(besides=lease.worker_id, job=job)


def _stored(lease: Lease, result: bytes) -> str:
    suffix = ".png" if lease.kind == ChunkKind.DECODE else ".safetensors"
    return files.write(files.job_folder(lease.job_id), suffix, result)


def _done(lease: Lease, seconds: float) -> Job:
    """The chunk is done, and its worker was so fast. Raises LeaseLostError."""
    worker = Worker.objects.filter(pk=lease.worker_id)
    moved = move(
        Chunk,
        lease.chunk_id,
        ChunkState.LEASED,
        ChunkState.DONE,
        fence=lease.fence,
        deadline=None,
        finished_at=timezone.now(),
        seconds=seconds,
        kernels=Coalesce(Subquery(worker.values("kernels")), Value("")),
    )
    if not moved:
        raise LeaseLostError
    job = Job.objects.get(pk=lease.job_id)
    steps = lease.stop - lease.start
    in_all = (timezone.now() - lease.began_at).total_seconds()
    speeds.record(lease.worker_id, lease.kind, job, steps, max(seconds, in_all))
    worker.update(chunks_done=F("chunks_done") + 1, steps_done=F("steps_done") + steps)
    events.announce(lease.room_id)
    return job


def _complete_check(lease: Lease, result: bytes, seconds: float) -> None:
    """Hold it against what it checks. What follows for other jobs follows after the commit."""
    from genqueue import pursuit
    from genqueue.comparing import NotComparableError, compare

    assert lease.check_id is not None
    found = Check.objects.filter(pk=lease.check_id).select_related("job")
    check, checker = found.first(), Worker.objects.filter(pk=lease.worker_id).first()
    if check is None or checker is None:
        raise LeaseLostError
    try:
        first, second = compare(check, result, checks.precision(checker))
    except NotComparableError:
        with transaction.atomic():
            lock_job(lease.job_id)
            _done(lease, seconds)
            verdicts.cannot_say(found.get())
        return
    written = _stored(lease, result)
    with transaction.atomic(), _own_files([written]):
        lock_job(lease.job_id)
        job = _done(lease, seconds)
        culprits, used = verdicts.decide(found.get(), checker, written, first, second)
        if not used:
            files.delete_on_commit([written])
        finishing.finish_ready(job)
        waking.wake_workers(besides=lease.worker_id)
    pursuit.pursue(culprits)


def _encoded(lease: Lease, job: Job, conditioning: str) -> None:
    Job.objects.filter(pk=job.pk).update(conditioning=conditioning)
    unfinished = Image.objects.filter(job=job, picture="").exclude(state__in=IMAGE_ENDED)
    images = list(unfinished.select_related("job").order_by("index"))
    Chunk.objects.bulk_create(
        Chunk(job=job, image=image, kind=ChunkKind.DENOISE, start=0, stop=job.steps)
        for image in images
        if image.state == ImageState.QUEUED
    )
    for image in images:
        if image.state == ImageState.RUNNING:  # the texts were lost, and are made once more
            lost_files.add_next_chunk(image)
    if images:  # who encoded goes on with the first image: both were one turn
        Image.objects.filter(pk=images[0].pk).update(worker_id=lease.worker_id)


def _denoised(lease: Lease, job: Job, latent: str, seconds: float) -> None:
    assert lease.image_id is not None
    _keep_checkpoint(lease, lease.stop, latent)
    Image.objects.filter(pk=lease.image_id).update(step=lease.stop, seconds=F("seconds") + seconds)
    if lease.stop < job.steps:
        follow_up = Chunk(kind=ChunkKind.DENOISE, start=lease.stop, stop=job.steps)
    else:
        follow_up = Chunk(kind=ChunkKind.DECODE)
    follow_up.job, follow_up.image_id = job, lease.image_id
    follow_up.save()


def _decoded(lease: Lease, picture: str, seconds: float) -> None:
    assert lease.image_id is not None
    rows = Image.objects.filter(pk=lease.image_id, state=ImageState.RUNNING)
    kept = rows.update(picture=picture, seconds=F("seconds") + seconds)
    assert kept, "an image runs as long as its chunk is leased"


def fail(lease: Lease, fault: Fault, detail: str = "", lost: str = "") -> bool:
    """The worker could not compute the chunk: try again, until the third fault.

    detail: for the admin, never for clients.  lost: of FILE_LOST the name of the file, where it is
    known; at the second time what was in it is made once more.  Whether it counts: too little
    memory does not while others may have more.  Raises LeaseLostError.
    """
    return _give_up(lease, fault, detail, lost)


def release(lease: Lease) -> None:
    """Give the chunk back unharmed, because the worker stops. Raises LeaseLostError."""
    _give_up(lease, None, "")


def _give_up(lease: Lease, fault: Fault | None, detail: str, lost: str = "") -> bool:
    with transaction.atomic():
        lock_job(lease.job_id)
        held = Chunk.objects.filter(pk=lease.chunk_id, state=ChunkState.LEASED, **lease.fence)
        chunk = held.select_related("image__job", "job__room", "check_of", "worker").first()
        if chunk is None:
            raise LeaseLostError
        if fault is Fault.OUT_OF_MEMORY and _others_have_room(chunk):
            _return_chunk(chunk, fault, detail, counts=False)
            return False
        again = fault is Fault.FILE_LOST and lost_files.may_be_made_again(chunk)
        _return_chunk(chunk, fault, detail, again=again)
        if not again:
            return fault is not None
        if lost == lease.conditioning if lost else lease.latent is None:
            take_back(lost_files.leased(lease.job_id))
            lost_files.encode_again(lease.job_id)
        else:
            assert chunk.image is not None, "checked by may_be_made_again"
            lost_files.go_back(chunk.image, lease.latent or "")
    return True


def _others_have_room(chunk: Chunk) -> bool:
    """Whether it is news that its worker has too little memory, and somebody is here who may have
    more."""
    worker = chunk.worker
    if worker is None or not memory.note_lack(worker, chunk):
        return False
    return fairness.others_have_room(worker, chunk)


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
                waking.wake_workers()


def _return_chunk(
    chunk: Chunk,
    fault: Fault | None,
    detail: str,
    late_at: datetime | None = None,
    *,
    again: bool = False,
    counts: bool = True,
) -> bool:
    """leased -> pending, or failed after too many faults. The job is locked.

    again: what it lacked is made once more, and faults are counted anew. counts: whether this one
    is counted.
    """
    fence: dict[str, object] = {"attempt": chunk.attempt, "worker_id": chunk.worker_id}
    if late_at is not None:
        fence["deadline__lt"] = late_at
    faults = 0 if again else chunk.faults + (fault is not None and counts)
    failed = fault is not None and counts and faults >= site.MAX_FAULTS
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
    timeline.note_ended(chunk, fault)
    checks.end_lease(chunk.pk, chunk.attempt)
    job = Job.objects.select_related("room").get(pk=chunk.job_id)
    if failed and chunk.check_of_id is not None:
        verdicts.cannot_say(Check.objects.select_related("job__room").get(pk=chunk.check_of_id))
    elif fault is not None and failed:
        _fail_images(job, chunk, fault, detail)
    else:
        if chunk.image_id is not None:
            Image.objects.filter(pk=chunk.image_id).update(worker=None)  # anybody may go on
        waking.wake_workers()
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
        checks.drop(Check.objects.filter(image=image))
        files.delete_on_commit(files.working_files(image))
        image.checkpoints.all().delete()
    said = (
        f"{chunk.kind}, step {chunk.start}: {detail}" if chunk.stop else f"{chunk.kind}: {detail}"
    )
    Job.objects.filter(pk=job.pk).update(error_code=fault, error_detail=said)
    finishing.end_after_images(job)


def _keep_checkpoint(lease: Lease, step: int, latent: str) -> None:
    """Keep this one and the newest before it."""
    image_id = lease.image_id
    assert image_id is not None
    old = Checkpoint.objects.filter(image_id=image_id).order_by("-step")
    replaced = [row for row in old if row.step >= step]
    surplus = [row for row in old if row.step < step][CHECKPOINTS_KEPT - 1 :]
    Checkpoint.objects.filter(pk__in=[row.pk for row in replaced + surplus]).delete()
    Checkpoint.objects.create(image_id=image_id, step=step, latent=latent)
    checks.let_go(lease.job_id, [row.latent for row in replaced + surplus])


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
