"""Measured seconds per step, encode and decode: what ranges and expected times are sized by."""

from datetime import timedelta
from statistics import median
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from genqueue.kinds import ChunkKind
from genqueue.models import Job, Speed, Worker

FORGOTTEN_AFTER = timedelta(days=7)
SAMPLES_KEPT = 9
STEPS_BEFORE_ANY_MEASUREMENT = 2


class Kind(NamedTuple):
    """What has a speed of its own. Encoding does not depend on the size: there it is 0 x 0."""

    kind: str
    model: str
    width: int
    height: int
    halves: int


def kind_of(chunk_kind: str, job: Job) -> Kind:
    halves = 2 if job.guidance > 1 else 1
    if chunk_kind == ChunkKind.ENCODE:
        return Kind(chunk_kind, job.model, 0, 0, halves)
    return Kind(chunk_kind, job.model, job.width, job.height, halves)


def record(worker_id: UUID, chunk_kind: str, job: Job, steps: int, seconds: float) -> None:
    """Add one finished chunk. The median of the newest few forgets a slow first run.

    seconds: all that passed until it was handed in, with the way to the worker, reading, writing
    and, now and then, loading another model: that is what others wait for.
    """
    per_unit = seconds / steps if steps else seconds
    key = kind_of(chunk_kind, job)._asdict()
    rows = Speed.objects.filter(worker_id=worker_id, **key)
    known = list(rows.values_list("samples", flat=True))
    samples = [*(known[0] if known else ()), round(per_unit, 5)][-SAMPLES_KEPT:]
    values = {"samples": samples, "seconds": median(samples)}
    if known:
        rows.update(**values, count=F("count") + 1, measured_at=timezone.now())
    else:
        Speed.objects.create(worker_id=worker_id, **key, **values, count=1)


class Portion(NamedTuple):
    """How many steps a worker does at a time: `steps`, or up to `most` if then none are left."""

    steps: int
    most: int

    def of(self, left: int) -> int:
        return left if left <= self.most else self.steps


def portion_for(worker: Worker, job: Job) -> Portion:
    """What this worker does in about CHUNK_SECONDS; little until that is measured."""
    row = Speed.objects.filter(worker=worker, **kind_of(ChunkKind.DENOISE, job)._asdict()).first()
    return portion(row.seconds if row else None)


def portion(seconds_a_step: float | None, seconds: float | None = None) -> Portion:
    """The same for a measured speed, None when there is none, and a range of so many seconds.

    A rest of less than half a range is not worth a lease of its own and goes with it; but not
    where ranges are shorter than CHUNK_SECONDS, so that images can move between them.
    """
    whole = float(settings.CHUNK_SECONDS)
    if seconds is None:
        seconds = whole
    steps = STEPS_BEFORE_ANY_MEASUREMENT
    if seconds_a_step:
        steps = max(1, round(seconds / seconds_a_step))
    return Portion(steps, steps if seconds < whole else (3 * steps - 1) // 2)


class Speeds:
    """All measured speeds, read once."""

    def __init__(self) -> None:
        self._by_worker: dict[UUID, dict[Kind, float]] = {}
        recently = timezone.now() - FORGOTTEN_AFTER
        for row in Speed.objects.filter(worker__last_seen_at__gte=recently):
            key = Kind(row.kind, row.model, row.width, row.height, row.halves)
            self._by_worker.setdefault(row.worker_id, {})[key] = row.seconds
        self._guesses: dict[tuple[UUID | None, Kind], float | None] = {}

    def seconds(self, worker_id: UUID | None, key: Kind) -> float | None:
        """Seconds per step, encode or decode: as measured, or else as the others suggest.

        Each other worker that has done this kind suggests its own seconds, times how much slower
        this one was at what both have done of that stage. None when nobody has done this kind yet.
        """
        measured = self.measured(worker_id, key)
        if measured is not None:
            return measured
        if (worker_id, key) not in self._guesses:
            self._guesses[worker_id, key] = self._guess(worker_id, key)
        return self._guesses[worker_id, key]

    def measured(self, worker_id: UUID | None, key: Kind) -> float | None:
        return self._of(worker_id).get(key)

    def compared(self, worker_id: UUID | None, key: Kind) -> float | None:
        """The same for telling who is faster: None also for a worker that has done nothing of that
        stage, of which the others suggest only that it is like them.
        """
        known = any(kind.kind == key.kind for kind in self._of(worker_id))
        return self.seconds(worker_id, key) if known else None

    def _of(self, worker_id: UUID | None) -> dict[Kind, float]:
        return self._by_worker.get(worker_id, {}) if worker_id else {}

    def _guess(self, worker_id: UUID | None, key: Kind) -> float | None:
        ours = {kind: s for kind, s in self._of(worker_id).items() if kind.kind == key.kind}
        suggested = []
        for theirs in self._by_worker.values():
            if key in theirs:
                ratios = [s / theirs[kind] for kind, s in ours.items() if theirs.get(kind)]
                suggested.append(theirs[key] * (median(ratios) if ratios else 1.0))
        return median(suggested) if suggested else None
