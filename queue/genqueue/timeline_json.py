"""A timeline (`timeline`) as the JSON that everybody gets."""

from datetime import UTC, datetime

from genqueue import faults
from genqueue.check_models import Check
from genqueue.kinds import ChunkKind
from genqueue.models import Chunk, Image, Worker
from genqueue.partners import Kept
from genqueue.shapes import (
    ErrorJson,
    PartnerJson,
    TimelineCheckJson,
    TimelineEntryJson,
    TimelineJson,
    WorkerJson,
)
from genqueue.timeline import (
    Checked,
    Entry,
    about,
    checks_of,
    covered,
    entries_of,
    partners_of,
)
from genqueue.transitions import CheckState, ChunkState


def as_json(image: Image) -> TimelineJson:
    """All that is known, with what is computed at this moment as its last entry, and what is to be
    checked yet as its last checks."""
    known, workers = entries_of(image.timeline), image.timeline.get("workers", {})
    entries = [_entry(one, workers) for one in known]
    checks = [_checked(one, workers) for one in checks_of(image.timeline)]
    chunks = Chunk.objects.filter(state=ChunkState.LEASED).select_related("worker")
    running = chunks.filter(image=image).first()
    if running is None and image.state in ("queued", "running"):  # for texts that were lost
        running = chunks.filter(job=image.job_id, kind=ChunkKind.ENCODE).first()
    if running is not None:
        entries.append(_running(running, image.step, covered(image.timeline)))
    return TimelineJson(
        job=str(image.job_id),
        index=image.index,
        state=image.state,  # type: ignore[typeddict-item]
        steps=image.job.steps,
        entries=entries,
        checks=[*checks, *_waiting(image)],
    )


Said = dict[str, dict[str, str | None]]  # what is kept of workers, by their ids


def _entry(one: Entry, workers: Said) -> TimelineEntryJson:
    return TimelineEntryJson(
        kind=one["kind"],
        outcome=one["outcome"],
        start=one["start"],
        stop=one["stop"],
        worker=_worker(one["worker"], workers[one["worker"]], one["kernels"]),
        began_at=_time(one["began"]),
        ended_at=_time(one["ended"]),
        seconds=one["seconds"],
        attempt=one["attempt"],
        chunks=one["chunks"],
        received=one["received"],
        sent=one["sent"],
        fault=_fault(one["fault"]),
        partners=[_partner(partner, workers) for partner in partners_of(one)],
    )


def _partner(one: Kept, workers: Said) -> PartnerJson:
    return PartnerJson(
        worker=_worker(one["worker"], workers[one["worker"]]),
        how=one["how"],
        steps=one["steps"],
        received=one["received"],
        sent=one["sent"],
    )


def _running(chunk: Chunk, step: int, start: int) -> TimelineEntryJson:
    worker = chunk.worker
    assert worker is not None, "a leased chunk has a holder"
    assert chunk.leased_at is not None
    denoises = chunk.kind == ChunkKind.DENOISE
    return TimelineEntryJson(
        kind=chunk.kind,  # type: ignore[typeddict-item]
        outcome="running",
        start=start if denoises else 0,
        stop=max(start, step) if denoises else 0,
        worker=_of_row(worker),
        began_at=chunk.leased_at.isoformat(),
        ended_at=None,
        seconds=None,
        attempt=chunk.attempt,
        chunks=1,
        received=0,
        sent=0,
        fault=None,
        partners=[],
    )


def _checked(one: Checked, workers: Said) -> TimelineCheckJson:
    checker = one["checker"]
    return TimelineCheckJson(
        kind=one["kind"],
        start=one["start"],
        stop=one["stop"],
        worker=_worker(one["worker"], workers[one["worker"]]),
        checker=_worker(checker, workers[checker]) if checker else None,
        verdict=one["verdict"],
        done_again=one["again"],
        distance=one["distance"],
        limit=one["limit"],
        at=_time(one["at"]),
        checks=one["checks"],
    )


def _waiting(image: Image) -> list[TimelineCheckJson]:
    open_ones = Check.objects.of_image(image).filter(state=CheckState.OPEN)
    chunks = Chunk.objects.filter(check_of__in=open_ones, state=ChunkState.LEASED)
    checkers = {chunk.check_of_id: chunk.worker for chunk in chunks.select_related("worker")}
    return [
        TimelineCheckJson(
            kind=check.kind,  # type: ignore[typeddict-item]
            start=check.start,
            stop=check.stop,
            worker=_of_row(check.worker),
            checker=_of_row(checker) if (checker := checkers.get(check.pk)) else None,
            verdict="waiting",
            done_again=False,
            distance=None,
            limit=None,
            at=None,
            checks=1,
        )
        for check in open_ones.select_related("worker")
        if check.worker is not None
    ]


def _of_row(worker: Worker) -> WorkerJson:
    return _worker(str(worker.pk), about(worker), worker.kernels)


def _worker(key: str, said: dict[str, str | None], kernels: str = "") -> WorkerJson:
    return WorkerJson(
        id=key,
        name=said["name"] or "",
        kind=said["kind"],  # type: ignore[typeddict-item]
        client=said["client"],
        device=said["device"] or "",
        kernels=kernels,
    )


def _fault(code: str | None) -> ErrorJson | None:
    return ErrorJson(code=code, detail=faults.of_one_lease(code)) if code else None


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
