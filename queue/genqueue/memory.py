"""For what a worker had too little memory. Twin of static/js/work/queue/memory.js.

Nobody can say it beforehand: WebGPU tells no page how much a graphics processor has, nor how much
of it others take. So the first time tells: that is no fault of the chunk while somebody is there
who may do better, and such chunks are left to them.
"""

from django.db.models import F, Q, QuerySet

from genqueue.kinds import ChunkKind
from genqueue.models import Chunk, Worker

_ENCODE_PIXELS = 1  # reading a prompt takes as much whatever the picture's size


def has_room(worker: Worker, chunk: Chunk) -> bool:
    """False: it had too little for this, or for less."""
    least: int | None = worker.lacks.get(_kind_of(chunk))
    return least is None or _size_of(chunk) < least


def note_lack(worker: Worker, chunk: Chunk) -> bool:
    """It had too little memory for this. Whether that is news."""
    if not has_room(worker, chunk):
        return False
    worker.lacks = {**worker.lacks, _kind_of(chunk): _size_of(chunk)}
    worker.save(update_fields=["lacks"])
    return True


def too_large(worker: Worker, chunks: QuerySet[Chunk]) -> QuerySet[Chunk]:
    """Those for which it has no room."""
    pixels = F("job__width") * F("job__height")
    found = Q(pk__in=[])
    for kind, least in worker.lacks.items():
        same = Q(kind=kind) | Q(kind=ChunkKind.CHECK, check_of__kind=kind)
        found |= same if kind == ChunkKind.ENCODE else same & Q(pixels__gte=least)
    return chunks.alias(pixels=pixels).filter(found)


def _kind_of(chunk: Chunk) -> str:
    """Of a check that of what is computed again."""
    return str(chunk.kind if chunk.check_of is None else chunk.check_of.kind)


def _size_of(chunk: Chunk) -> int:
    if _kind_of(chunk) == ChunkKind.ENCODE:
        return _ENCODE_PIXELS
    return chunk.job.width * chunk.job.height
