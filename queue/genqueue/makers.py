"""Who computed what a chunk starts from: that worker may still have it in memory."""

from dataclasses import dataclass
from uuid import UUID

from genqueue.kinds import ChunkKind
from genqueue.models import Chunk
from genqueue.protocol import Lease
from genqueue.transitions import ChunkState


@dataclass(frozen=True, slots=True)
class Makers:
    """conditioning: who has encoded the job's texts. latent: who has computed the image up to where
    this chunk starts. None where nobody is known, or nothing was computed."""

    conditioning: UUID | None
    latent: UUID | None


def makers(lease: Lease) -> Makers:
    """Of the tensors that this chunk starts from."""
    done = Chunk.objects.filter(job_id=lease.job_id, state=ChunkState.DONE)
    encoder = latest = None
    if lease.kind == ChunkKind.DENOISE:
        texts = done.filter(kind=ChunkKind.ENCODE)
        encoder = texts.values_list("worker_id", flat=True).first()
    if lease.latent is not None and lease.image_id is not None:
        step = lease.start if lease.kind == ChunkKind.DENOISE else lease.settings.steps
        before = done.filter(image_id=lease.image_id, kind=ChunkKind.DENOISE, stop=step)
        latest = before.values_list("worker_id", flat=True).first()
    return Makers(conditioning=encoder, latent=latest)
