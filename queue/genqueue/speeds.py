"""Measured seconds per step, encode and decode: what ranges and expected times are sized by."""

from datetime import timedelta
from statistics import median
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from genqueue.models import ChunkKind, Job, Speed, Worker

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
    """Add one finished chunk. The median of the newest few forgets a slow first run."""
    per_unit = seconds / steps if steps else seconds
    key = kind_of(chunk_kind, job)._asdict()
    row = Speed.objects.filter(worker_id=worker_id, **key).first()
    if row is None:
        row = Speed(worker_id=worker_id, **key)
    row.samples = [*row.samples, round(per_unit, 5)][-SAMPLES_KEPT:]
    row.seconds = median(row.samples)
    row.count += 1
    row.save()


def steps_in_a_chunk(worker: Worker, job: Job) -> int:
    """How many steps this worker does in about CHUNK_SECONDS; few until that is measured."""
    row = Speed.objects.filter(worker=worker, **kind_of(ChunkKind.DENOISE, job)._asdict()).first()
    if row is None or row.seconds <= 0:
        return STEPS_BEFORE_ANY_MEASUREMENT
    return max(1, round(settings.CHUNK_SECONDS / row.seconds))


class Speeds:
    """All measured speeds, read once: of a worker, or else the median over the workers."""

    def __init__(self) -> None:
        self._of_worker: dict[tuple[UUID, Kind], float] = {}
        everybody: dict[Kind, list[float]] = {}
        recently = timezone.now() - FORGOTTEN_AFTER
        for row in Speed.objects.filter(worker__last_seen_at__gte=recently):
            key = Kind(row.kind, row.model, row.width, row.height, row.halves)
            self._of_worker[row.worker_id, key] = row.seconds
            everybody.setdefault(key, []).append(row.seconds)
        self._of_all = {key: median(values) for key, values in everybody.items()}

    def seconds(self, worker_id: UUID | None, key: Kind) -> float | None:
        """Seconds per step, encode or decode; None when nobody has done this kind yet."""
        if worker_id is not None and (worker_id, key) in self._of_worker:
            return self._of_worker[worker_id, key]
        return self._of_all.get(key)
