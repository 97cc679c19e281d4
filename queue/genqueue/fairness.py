"""Who is next, and when.

The order: the room served least recently, in it the client served least recently, then that
client's jobs in order, then the images of a job in order. One turn is one image (with the
encoding, for the first of a job). A worker stays with its image until it is done, unless its
room was paused or a clearly faster worker is idle.

`forecast.py` plays the same order forward, to say positions and expected times.
"""

import time
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from genqueue import speeds
from genqueue.breaker import Breaker
from genqueue.models import Chunk, ChunkKind, Job, Room, Turn, Worker
from genqueue.transitions import ChunkState, ImageState, WorkerState

# A chunk waits this long for the worker that has its latent in memory. It asks again within
# milliseconds when it is alive.
RESERVED = timedelta(seconds=2)
CLEARLY_FASTER = 1.3
TURNS_KEPT = timedelta(days=1)

_broker = Breaker("The broker")


def open_to(worker: Worker) -> QuerySet[Chunk]:
    """Pending chunks that this worker may lease: of models that it has, in rooms where it helps."""
    open_chunks = Chunk.objects.filter(
        state=ChunkState.PENDING, job__room__paused=False, job__model__in=worker.model_names
    )
    if worker.room_id is not None:
        return open_chunks.filter(job__room_id=worker.room_id)
    return open_chunks.filter(job__room__server_helps=True)


def next_chunk(worker: Worker) -> Chunk | None:
    """The chunk this worker should lease now, or None."""
    chunks = open_to(worker)
    own = chunks.filter(image__worker=worker).select_related("job").order_by("created_at").first()
    if own is not None and not _left_to_a_faster_one(own, worker):
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


def _left_to_a_faster_one(chunk: Chunk, worker: Worker) -> bool:
    """Whether an idle worker would finish our image clearly sooner; it has been woken."""
    if chunk.kind != ChunkKind.DENOISE:
        return False  # the latent stays where it is
    if timezone.now() - chunk.created_at > RESERVED:
        return False  # it did not come
    model = chunk.job.model
    idle = [w for w in idle_workers(besides=worker.pk) if model in w.model_names]
    if not idle:
        return False
    measured = speeds.Speeds()
    kind = speeds.kind_of(chunk.kind, chunk.job)
    ours = measured.seconds(worker.pk, kind)
    theirs = [measured.seconds(other.pk, kind) for other in idle]
    return ours is not None and any(t and t * CLEARLY_FASTER < ours for t in theirs)


def idle_workers(besides: UUID | None = None) -> list[Worker]:
    """The server's ready workers that hold no lease."""
    ready = Worker.objects.online().filter(state=WorkerState.READY, room=None)
    others = [worker for worker in ready if worker.pk != besides]
    if not others:
        return []
    leasing = Chunk.objects.filter(state=ChunkState.LEASED).values_list("worker_id", flat=True)
    busy = set(leasing)
    return [worker for worker in others if worker.pk not in busy]


def take_turn(job: Job) -> None:
    """This room and this client have just been served."""
    now = time.time_ns()
    Room.objects.filter(pk=job.room_id).update(last_turn=now)
    turns = Turn.objects.filter(room_id=job.room_id, client=job.client)
    if not turns.update(last_turn=now):
        Turn.objects.get_or_create(
            room_id=job.room_id, client=job.client, defaults={"last_turn": now}
        )


def forget_old_turns() -> None:
    """Who was served long ago is as good as new; callers without a cookie are new each time."""
    long_ago = time.time_ns() - int(TURNS_KEPT.total_seconds() * 1e9)
    old = Turn.objects.filter(last_turn__lt=long_ago)
    if old.exists():  # on SQLite, deleting nothing would still wait for other writers
        old.delete()


def queue_of(worker_id: UUID) -> str:
    """The worker's own queue of Celery messages. There is no shared one: from it a worker might
    take the message, and could not take the chunk, because it lacks the model or because the image
    is another one's.
    """
    return f"work-{worker_id}"


def wake_workers(besides: UUID | None = None) -> None:
    """On commit, send a message to every idle worker that could lease something.

    besides: a worker that asks again by itself. So do those that load or compute now, when they
    have done. A broker that cannot be reached loses the message and nothing else: the sweeper sends
    another.
    """
    transaction.on_commit(lambda: _send_wake_ups(besides), robust=True)


def _send_wake_ups(besides: UUID | None) -> None:
    for worker in idle_workers(besides):
        if open_to(worker).exists():
            wake(worker.pk)


def wake(worker_id: UUID) -> None:
    """Tell this worker that there is work; a broker that hangs is not waited for each time."""
    from genqueue.tasks import work

    if _broker.paused:
        return
    try:
        work.apply_async(queue=queue_of(worker_id))
    except Exception as error:  # each broker has its own
        _broker.failed(error)
    else:
        _broker.worked()
