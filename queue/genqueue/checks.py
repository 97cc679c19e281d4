"""Spot checks: what a worker hands in that is not taken on trust, and whether somebody looks.

The server's own workers are trusted; tabs and helpers are not. docs/checks.md is the whole story.

- Every lease of an untrusted worker has a `Check` row: where it began, and the newest it has handed
  in. Nobody can choose afterwards what will be looked at, because all of it has come by then.
- When the lease ends, well or not, it is drawn: always, until its worker has `PROVEN` results that
  others have computed alike; then with probability max(1/n, `LEAST_SHARE`).
- What is drawn is `open`, and a chunk of kind `check` waits for somebody else to compute it again.
  The files that it needs are kept. `verdicts` says what follows from the result.

Callers hold the job's row lock.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.conf import settings as site
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from diffusion import likeness
from genqueue import files, timeline
from genqueue.check_models import Check
from genqueue.kinds import ChunkKind, WorkerKind
from genqueue.models import Checkpoint, Chunk, Image, Job, Worker
from genqueue.transitions import (
    CHECK_LIVE,
    CHUNK_LIVE,
    JOB_ENDED,
    CheckState,
    ChunkState,
    lock_job,
    move,
)

if TYPE_CHECKING:
    from genqueue.protocol import Lease

PROVEN: Final = 10  # results found right, before which all are checked
LEAST_SHARE: Final = 0.05
KEPT_FOR: Final = timedelta(hours=1)  # what nobody could check, with its files

_dice = random.SystemRandom()  # whoever computes must not know what will be looked at


@dataclass(frozen=True, slots=True)
class Finding:
    """How far a result is from the checker's, and how far an honest one may be."""

    distance: float
    limit: float

    @property
    def alike(self) -> bool:
        return self.distance <= self.limit


def probability(valid: int) -> float:
    """That the next result of a worker is checked, `valid` of whose results were found right."""
    return 1.0 if valid < PROVEN else max(1 / valid, LEAST_SHARE)


def is_trusted(worker: Worker) -> bool:
    return worker.kind == WorkerKind.CELERY


def precision(worker: Worker) -> str:
    """What `likeness.limit` must know of it."""
    return likeness.precision(worker.variant, worker.kernels)


# What is handed in ------------------------------------------------------------------------------
def begin(chunk: Chunk, worker: Worker, start: int, given: str) -> None:
    """This worker has leased the chunk, from step `start`, whose latent is `given`."""
    if is_trusted(worker) or not site.P2PWEB_SPOT_CHECKS:
        return
    Check.objects.create(
        job_id=chunk.job_id,
        image_id=chunk.image_id,
        chunk=chunk,
        attempt=chunk.attempt,
        kind=chunk.kind,
        start=start,
        stop=start,
        given=given,
        worker=worker,
        client=worker.client,
        variant=precision(worker),
    )


def hand_in(lease: "Lease", stop: int, result: str) -> bool:
    """The newest that has come under this lease. False: nothing of it is checked."""
    rows = Check.objects.filter(chunk=lease.chunk_id, attempt=lease.attempt, state=CheckState.HELD)
    return rows.update(stop=stop, result=result) > 0


def end_lease(chunk_id: int, attempt: int) -> None:
    """The lease has ended, well or not: draw what has come under it."""
    rows = Check.objects.filter(chunk=chunk_id, attempt=attempt, state=CheckState.HELD)
    check = rows.select_related("worker").first()
    if check is None:
        return
    if not check.result:
        check.delete()
        _let_files_go(check)
        return
    valid = check.worker.valid if check.worker else 0
    if _dice.random() < probability(valid):
        move(Check, check.pk, CheckState.HELD, CheckState.OPEN)
        ask(check)
    else:
        move(Check, check.pk, CheckState.HELD, CheckState.SPARED, settled_at=timezone.now())
        _let_files_go(check)


def ask(check: Check) -> None:
    """Let somebody compute it again."""
    Chunk.objects.create(job_id=check.job_id, check_of=check, kind=ChunkKind.CHECK)


def reopen(check: Check) -> None:
    """One that was spared, after all: its files happen to be there."""
    result = Job.objects.values_list("conditioning", flat=True).get(pk=check.job_id)
    old, new = CheckState.SPARED, CheckState.OPEN
    if move(Check, check.pk, old, new, result=result, settled_at=None):
        ask(check)


# Endings ----------------------------------------------------------------------------------------
def settle(check: Check, state: CheckState, **values: object) -> None:
    """An open one is over; its files go, unless something else names them."""
    now = timezone.now()
    moved = move(Check, check.pk, CheckState.OPEN, state, fence=None, settled_at=now, **values)
    assert moved, "the job is locked"
    for chunk in Chunk.objects.filter(check_of=check, state__in=CHUNK_LIVE):
        move(Chunk, chunk.pk, chunk.state, ChunkState.CANCELLED, deadline=None, finished_at=now)
    _let_files_go(check)


def lapse(check: Check) -> None:
    """Nobody can say of an open one, or has come to."""
    settle(check, CheckState.LAPSED)
    timeline.note_check(check, "unsaid", None)


def drop(checks: QuerySet[Check]) -> None:
    """Nobody needs to know any more: what they are about is done again, or gone."""
    for check in checks.filter(state__in=[CheckState.SPARED, CheckState.LAPSED]):
        move(Check, check.pk, check.state, CheckState.DROPPED)
    for check in checks.filter(state=CheckState.HELD):
        move(Check, check.pk, CheckState.HELD, CheckState.DROPPED, settled_at=timezone.now())
        _let_files_go(check)
    for check in checks.filter(state=CheckState.OPEN):
        settle(check, CheckState.DROPPED)


def forget_old(now: datetime) -> None:
    """What nobody has come to check, of jobs that have ended."""
    old = Check.objects.filter(
        state=CheckState.OPEN, created_at__lt=now - KEPT_FOR, job__state__in=JOB_ENDED
    )
    for job_id in set(old.values_list("job_id", flat=True)):
        with transaction.atomic():
            if lock_job(job_id):
                for check in old.filter(job=job_id):
                    lapse(check)


# Files ------------------------------------------------------------------------------------------
def let_go(job_id: UUID, names: Iterable[str]) -> None:
    """Remove files that no other row names, on commit, but for those that a check still needs."""
    named = set(names)
    if named:
        files.delete_on_commit(sorted(named - _needed(job_id)))


def _needed(job_id: UUID) -> set[str]:
    live = Check.objects.filter(job=job_id, state__in=CHECK_LIVE)
    names, of_steps = set(), False
    for kind, *files_of_it in live.values_list("kind", "given", "result", "second"):
        names.update(files_of_it)
        of_steps = of_steps or kind == ChunkKind.DENOISE
    if of_steps:  # steps are computed again from the texts
        names |= set(Job.objects.filter(pk=job_id).values_list("conditioning", flat=True))
    return names


def _let_files_go(check: Check) -> None:
    texts = Job.objects.filter(pk=check.job_id).values_list("conditioning", flat=True)
    named = {check.given, check.result, check.second, *texts} - {""}
    named -= set(
        Checkpoint.objects.filter(image__job=check.job_id).values_list("latent", flat=True)
    )
    named -= set(Image.objects.filter(job=check.job_id).values_list("picture", flat=True))
    unfinished = Job.objects.unfinished().filter(pk=check.job_id)
    named -= set(unfinished.values_list("conditioning", flat=True))
    let_go(check.job_id, named)
