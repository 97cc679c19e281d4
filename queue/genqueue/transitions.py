"""Every state there is, who moves it on, and the one function that writes states.

- `JOB`, `IMAGE`, `CHUNK`, `WORKER` and `CHECK` list every allowed move; nothing else may happen.
- `move` is the only writer of a `state` column. It names the state it expects (and, for a leased
  chunk, the attempt and the worker) and changes exactly one row, or none and says so: a late or
  repeated answer changes nothing.
- `hold` writes other columns of a leased chunk under the same fence.

Callers hold the job's row lock (`lock_job`) while they move anything below it, so that two
transactions never wait for each other crosswise.
"""

from collections.abc import Mapping
from uuid import UUID

from django.db import connection, models


class JobState(models.TextChoices):
    QUEUED = "queued"  # protocol.claim moves it on, with its first chunk; or its owner cancels
    RUNNING = "running"  # its last image ends it (protocol), or its owner cancels
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ImageState(models.TextChoices):
    QUEUED = "queued"  # protocol.claim, with its first denoise chunk
    RUNNING = (
        "running"  # protocol.complete of its decode chunk, or the failure of any of its chunks
    )
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ChunkState(models.TextChoices):
    PENDING = "pending"  # protocol.claim
    LEASED = "leased"  # its worker completes or fails it; the sweeper takes it back when it is late
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CheckState(models.TextChoices):
    """Of what a worker that is not taken on trust hands in (`checks`)."""

    HELD = "held"  # its lease runs: handing in, or the end of the lease, moves it on
    OPEN = "open"  # drawn: a verdict, or the end of what it could be checked by
    SPARED = "spared"  # not drawn; dropped with what is done again when its maker is shut out
    AGREED = "agreed"
    WRONG = "wrong"
    LAPSED = "lapsed"  # nobody could say; dropped when the same is done again
    DROPPED = "dropped"  # nobody needs to know any more


class WorkerState(models.TextChoices):
    LOADING = "loading"  # the worker itself, when its model is in memory
    READY = "ready"  # gone: itself when it stops, its supervisor, the sweeper; or it starts anew
    GONE = "gone"  # the worker itself: its process started again, or its machine woke up


Moves = Mapping[str, frozenset[str]]

JOB: Moves = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED}),
}
IMAGE: Moves = {
    # queued -> failed: the encoding that all images of a job share has failed.
    ImageState.QUEUED: frozenset({ImageState.RUNNING, ImageState.FAILED, ImageState.CANCELLED}),
    ImageState.RUNNING: frozenset({ImageState.DONE, ImageState.FAILED, ImageState.CANCELLED}),
}
CHUNK: Moves = {
    ChunkState.PENDING: frozenset({ChunkState.LEASED, ChunkState.CANCELLED}),
    ChunkState.LEASED: frozenset(
        # leased -> pending: late, or the worker is gone. The attempt goes up with it.
        {ChunkState.DONE, ChunkState.FAILED, ChunkState.CANCELLED, ChunkState.PENDING}
    ),
}
WORKER: Moves = {
    WorkerState.LOADING: frozenset({WorkerState.READY, WorkerState.GONE}),
    WorkerState.READY: frozenset({WorkerState.LOADING, WorkerState.GONE}),
    WorkerState.GONE: frozenset({WorkerState.LOADING, WorkerState.READY}),
}
CHECK: Moves = {
    CheckState.HELD: frozenset({CheckState.OPEN, CheckState.SPARED, CheckState.DROPPED}),
    CheckState.OPEN: frozenset(
        {CheckState.AGREED, CheckState.WRONG, CheckState.LAPSED, CheckState.DROPPED}
    ),
    # spared -> open: the encoding of somebody who was shut out since
    CheckState.SPARED: frozenset({CheckState.OPEN, CheckState.DROPPED}),
    CheckState.LAPSED: frozenset({CheckState.DROPPED}),
}
MOVES: Mapping[str, Moves] = {
    "job": JOB, "image": IMAGE, "chunk": CHUNK, "worker": WORKER, "check": CHECK,
}  # fmt: skip

# Tuples, in a fixed order: migrations quote them.
JOB_ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
IMAGE_ENDED = (ImageState.DONE, ImageState.FAILED, ImageState.CANCELLED)
CHUNK_LIVE = (ChunkState.PENDING, ChunkState.LEASED)
CHECK_LIVE = (CheckState.HELD, CheckState.OPEN)  # their files are kept


def lock_job(job_id: UUID) -> bool:
    """Hold the job's row until the transaction ends; False when it is known to be gone.

    SQLite has no row locks and needs none: its transactions (IMMEDIATE) run one after the other.
    """
    from genqueue.models import Job

    if not connection.features.has_select_for_update:
        return True
    return Job.objects.select_for_update().filter(pk=job_id).values("pk").first() is not None


class IllegalMoveError(AssertionError):
    """The program asked for a move that the table does not have: a bug, not a race."""


def move(
    model: type[models.Model],
    pk: int | UUID,
    old: str,
    new: str,
    *,
    fence: Mapping[str, object] | None = None,
    **values: object,
) -> bool:
    """Compare and set: True when exactly this row moved, False when another was first.

    fence: further columns that must still hold these values, such as attempt and worker.
    values: columns written together with the state.
    Raises IllegalMoveError for a move that the table does not allow.
    """
    moves = MOVES[model._meta.model_name or ""]
    if new not in moves.get(old, frozenset()):
        raise IllegalMoveError(f"{model.__name__}: {old} -> {new}")
    rows = model._default_manager.filter(pk=pk, state=old, **(fence or {}))
    return rows.update(state=new, **values) == 1


def hold(
    model: type[models.Model], pk: int, state: str, fence: Mapping[str, object], **values: object
) -> bool:
    """Write columns of a row that stays in its state, under the same fence as `move`."""
    return model._default_manager.filter(pk=pk, state=state, **fence).update(**values) == 1
