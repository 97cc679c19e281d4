"""Who is next, and when.

The order: the room served least recently, in it the client served least recently, then that
client's jobs in order, then the images of a job in order. One turn is one image (with the
encoding, for the first of a job). A worker stays with its image until it is done, unless its
room was paused or a clearly faster worker is idle.

`forecast.py` plays the same order forward, to say positions and expected times.
"""

import time
from datetime import timedelta

from django.db import transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from genqueue import speeds
from genqueue.models import Chunk, ChunkKind, Job, Room, Turn, Worker
from genqueue.transitions import ChunkState, ImageState

# A chunk waits this long for the worker that has its latent in memory. It asks again within
# milliseconds when it is alive.
RESERVED = timedelta(seconds=2)
CLEARLY_FASTER = 1.3


def open_to(worker: Worker) -> QuerySet[Chunk]:
    """Pending chunks that this worker may lease."""
    open_chunks = Chunk.objects.filter(state=ChunkState.PENDING, job__room__paused=False)
    if worker.room_id is not None:
        return open_chunks.filter(job__room_id=worker.room_id)
    return open_chunks.filter(job__room__server_helps=True)


def next_chunk(worker: Worker) -> Chunk | None:
    """The chunk this worker should lease now, or None."""
    chunks = open_to(worker)
    own = chunks.filter(image__worker=worker).order_by("created_at").first()
    if own is not None:
        return own
    orphan = (
        chunks.filter(image__state=ImageState.RUNNING, image__worker=None)
        .order_by("created_at")
        .first()
    )
    return orphan or _fresh(chunks) or _taken_over(chunks, worker)


def _fresh(chunks: QuerySet[Chunk]) -> Chunk | None:
    """The next image (or encoding) that nobody has begun."""
    client_turn = Turn.objects.filter(room=OuterRef("job__room"), client=OuterRef("job__client"))
    return (
        chunks.filter(Q(kind=ChunkKind.ENCODE) | Q(image__state=ImageState.QUEUED))
        .filter(image__worker=None)
        .annotate(turn=Coalesce(Subquery(client_turn.values("last_turn")[:1]), Value(0)))
        .order_by(
            "job__room__last_turn", "job__room_id", "turn", "job__client",
            "job__created_at", "job_id", F("image__index").asc(nulls_first=True),
        )
        .first()
    )  # fmt: skip


def _taken_over(chunks: QuerySet[Chunk], worker: Worker) -> Chunk | None:
    """An image of another worker: one that is gone or silent, or is clearly slower than we are."""
    waiting = chunks.exclude(image__worker=None).select_related("image__worker", "job")
    now = timezone.now()
    measured: speeds.Speeds | None = None
    for chunk in waiting.order_by("created_at")[:20]:
        assert chunk.image is not None
        if now - chunk.created_at > RESERVED:
            return chunk
        measured = measured or speeds.Speeds()
        kind = speeds.kind_of(chunk.kind, chunk.job)
        theirs = measured.seconds(chunk.image.worker_id, kind)
        ours = measured.seconds(worker.pk, kind)
        if theirs and ours and ours * CLEARLY_FASTER < theirs:
            return chunk
    return None


def take_turn(job: Job) -> None:
    """This room and this client have just been served."""
    now = time.time_ns()
    Room.objects.filter(pk=job.room_id).update(last_turn=now)
    Turn.objects.update_or_create(
        room_id=job.room_id, client=job.client, defaults={"last_turn": now}
    )


def wake_workers() -> None:
    """On commit, tell as many workers as there is open work for (at least one message if any)."""
    transaction.on_commit(_send_wake_ups)


def _send_wake_ups() -> None:
    from genqueue.tasks import work

    helpful = Q(job__room__server_helps=True, job__room__paused=False)
    at_most = max(1, Worker.objects.online().filter(room=None).count())
    pending = Chunk.objects.filter(helpful, state=ChunkState.PENDING)[:at_most].count()
    for _ in range(pending):
        work.delay()
