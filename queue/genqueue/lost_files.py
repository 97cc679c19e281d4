"""Files that are named and cannot be read any more: what was in them is made once more.

A latent is made from the one before it, or from the noise; texts are encoded again, and images go
on from their checkpoints. Twin of what static/js/work/queue/leases.js does in rooms without a
server, where the tab that had the only copy may have gone.
"""

from typing import Final
from uuid import UUID

from django.db.models import F

from genqueue import checks, events, verdicts, waking
from genqueue.kinds import ChunkKind
from genqueue.models import Checkpoint, Chunk, Image, Job
from genqueue.transitions import CHUNK_LIVE, IMAGE_ENDED, ChunkState, ImageState

MOST_TIMES_BACK: Final = 32  # of one image: a storage that loses everything is no storage


def may_be_made_again(chunk: Chunk) -> bool:
    """Whether what this chunk lacks is made once more: at the second fault, so it is not that one
    worker alone cannot reach the file."""
    image = chunk.image
    return chunk.faults > 0 and image is not None and image.put_back < MOST_TIMES_BACK


def go_back(image: Image, latent: str) -> None:
    """This latent is lost: go on from the one before it, or from the noise. Ranges that were done
    are done again then, as other chunks. The job is locked, and no chunk of the image leased.
    """
    Checkpoint.objects.filter(image=image, latent=latent).delete()
    checks.let_go(image.job_id, [latent])
    step = _reached(image)
    if step < image.job.steps:  # else its decoding waits already, for what somebody made meanwhile
        verdicts.make_pending(image, step)
    Image.objects.filter(pk=image.pk).update(step=step, put_back=F("put_back") + 1)


def encode_again(job_id: UUID) -> None:
    """The texts are lost: the images of the job wait for them. It is locked, none of its chunks is
    leased."""
    job = Job.objects.get(pk=job_id)
    chunks = Chunk.objects.filter(job=job)
    chunks.filter(kind=ChunkKind.ENCODE).delete()
    chunks.filter(image__isnull=False, state__in=CHUNK_LIVE).delete()
    images = Image.objects.filter(job=job).exclude(state__in=IMAGE_ENDED)
    images.update(put_back=F("put_back") + 1)
    images.filter(state=ImageState.QUEUED).update(worker=None)
    Job.objects.filter(pk=job.pk).update(conditioning="")
    checks.let_go(job.pk, [job.conditioning])
    Chunk.objects.create(job=job, kind=ChunkKind.ENCODE)
    events.announce(job.room_id)
    waking.wake_workers()


def add_next_chunk(image: Image) -> None:
    """The chunk with which a running image goes on from its newest checkpoint."""
    step = _reached(image)
    if step < image.job.steps:
        verdicts.make_pending(image, step)
    else:
        Chunk.objects.create(job_id=image.job_id, image=image, kind=ChunkKind.DECODE)


def _reached(image: Image) -> int:
    newest = Checkpoint.objects.filter(image=image).order_by("-step").first()
    return newest.step if newest is not None else 0


def leased(job_id: UUID) -> list[Chunk]:
    """What is leased of the job's own work; checks are apart."""
    work = Chunk.objects.filter(job_id=job_id, state=ChunkState.LEASED)
    return list(work.exclude(kind=ChunkKind.CHECK))
