"""How a picture was made: who computed which steps, when, and what went wrong.

- One entry is one lease: a chunk that was handed in, given back or taken back. Chunks in a row of
  one worker are one entry, so most pictures have three.
- It is kept with the picture (`Image.timeline`), because chunks are forgotten, and so are workers:
  what is said of them is copied.
- It is bounded: of more than MOST_ENTRIES the oldest go, those without a result first.

`added`, `covered` and `steps_by` are pure; static/js/work/queue/timeline.js is their twin. Who
calls `note_done` or `note_ended` holds the job's lock.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from genqueue import faults
from genqueue.clients import client_label
from genqueue.kinds import ChunkKind
from genqueue.models import Checkpoint, Chunk, Image, Worker
from genqueue.shapes import ErrorJson, TimelineEntryJson, TimelineJson, WorkerJson
from genqueue.transitions import IMAGE_ENDED, ChunkState

MOST_ENTRIES = 128

Entry = dict[str, Any]
Timeline = dict[str, Any]


def added(entries: Sequence[Entry], entry: Entry) -> list[Entry]:
    """With one more entry, at most MOST_ENTRIES.

    kind; outcome: done, returned (unharmed) or failed; start, stop: the steps that count, the same
    twice where none does; worker: an id; kernels; began, ended: ms since the epoch; seconds: of
    computing, None where no result came; attempt: how often the chunk had been taken back before;
    chunks: how many are in it; received, sent: bytes that its worker was sent and has sent;
    fault: a code, of a failed one.
    """
    last = entries[-1] if entries else None
    if last is not None and _goes_on(last, entry):
        sums = ("seconds", "chunks", "received", "sent")
        together = {**last, "stop": entry["stop"], "ended": entry["ended"]}
        together |= {name: _rounded(last[name] + entry[name]) for name in sums}
        return [*entries[:-1], together]
    kept = [*entries, entry]
    while len(kept) > MOST_ENTRIES:
        fruitless = (n for n, one in enumerate(kept[:-1]) if one["outcome"] != "done")
        del kept[next(fruitless, 0)]
    return kept


def _goes_on(last: Entry, entry: Entry) -> bool:
    both_done = last["outcome"] == entry["outcome"] == "done"
    alike = all(last[name] == entry[name] for name in ("kind", "worker", "kernels"))
    ranges = entry["kind"] == ChunkKind.DENOISE and last["stop"] == entry["start"]
    return both_done and alike and ranges and not entry["attempt"]


def covered(entries: Sequence[Entry]) -> int:
    """The step that the image goes on from, as the entries tell."""
    denoised = (one for one in reversed(entries) if one["kind"] == ChunkKind.DENOISE)
    last = next(denoised, None)
    return last["stop"] if last is not None else 0


def steps_by(entries: Sequence[Entry]) -> dict[str, int]:
    """How many steps each worker has computed, by its id. Steps that were lost count for nobody."""
    steps: dict[str, int] = {}
    for one in entries:
        number = one["stop"] - one["start"]
        if number:
            steps[one["worker"]] = steps.get(one["worker"], 0) + number
    return steps


def _rounded(number: float) -> float:
    return number if isinstance(number, int) else round(number, 3)


def note_done(chunk: Chunk, start: int, received: int, sent: int) -> None:
    """A chunk was handed in. start: of its lease, which may have begun at a later checkpoint.
    received, sent: bytes that its worker was sent and has sent over a network."""
    steps = (start, chunk.stop) if chunk.kind == ChunkKind.DENOISE else (0, 0)
    done = {"seconds": round(chunk.seconds or 0, 3), "received": received, "sent": sent}
    _note(chunk, steps, {**_NOTHING, "outcome": "done", **done})


def note_ended(chunk: Chunk, fault: str | None) -> None:
    """A lease has ended without a result: unharmed, or by this fault. What its worker left as a
    checkpoint counts. A check is no work at the picture."""
    if chunk.kind == ChunkKind.CHECK:
        return
    steps = (0, 0)
    if chunk.image_id is not None and chunk.kind == ChunkKind.DENOISE:
        newest = Checkpoint.objects.filter(image=chunk.image_id).order_by("-step").first()
        stop = newest.step if newest is not None else 0
        known = Image.objects.values_list("timeline", flat=True).get(pk=chunk.image_id)
        entries = entries_of(known)
        begun = covered(entries) if entries else stop  # nothing is known of before an upgrade
        steps = (min(begun, stop), stop)
    outcome = "failed" if fault else "returned"
    _note(chunk, steps, {**_NOTHING, "outcome": outcome, "fault": fault})


_NOTHING = {"seconds": None, "received": 0, "sent": 0, "fault": None, "chunks": 1}


def _note(chunk: Chunk, steps: tuple[int, int], what: Entry) -> None:
    """In the image of the chunk; what concerns the encoding in all images that wait for it, of
    which nothing else is known yet."""
    worker = chunk.worker
    if worker is None:
        return  # somebody has removed it from the database by hand
    images = Image.objects.filter(job=chunk.job_id).exclude(state__in=IMAGE_ENDED)
    if chunk.image_id is not None:
        images = Image.objects.filter(pk=chunk.image_id)
    known = images.values_list("timeline", flat=True).first()
    if known is None:
        return
    now = timezone.now()
    entry = {
        "kind": str(chunk.kind),
        "start": steps[0],
        "stop": steps[1],
        "worker": str(worker.pk),
        "kernels": worker.kernels,
        "began": _ms(chunk.leased_at or now),
        "ended": _ms(now),
        "attempt": chunk.attempt,
        **what,
    }
    entries = added(entries_of(known), entry)
    workers = {**known.get("workers", {}), str(worker.pk): _about(worker)}
    named = {one["worker"] for one in entries}
    of_entries = {key: about for key, about in workers.items() if key in named}
    images.update(timeline={"entries": entries, "workers": of_entries})


def entries_of(timeline: Timeline) -> list[Entry]:
    """Of `Image.timeline`, which is empty until something has happened."""
    entries: list[Entry] = timeline.get("entries", [])
    return entries


def _about(worker: Worker) -> dict[str, str | None]:
    return {
        "name": worker.name,
        "kind": worker.kind,
        "client": client_label(worker.client) if worker.client else None,
        "device": worker.device,
    }


def as_json(image: Image) -> TimelineJson:
    """All that is known, with what is computed at this moment as its last entry."""
    known, workers = entries_of(image.timeline), image.timeline.get("workers", {})
    entries = [_entry(one, workers[one["worker"]]) for one in known]
    chunks = Chunk.objects.filter(state=ChunkState.LEASED).select_related("worker")
    running = chunks.filter(image=image).first()
    if running is None and image.state in ("queued", "running"):  # for texts that were lost
        running = chunks.filter(job=image.job_id, kind=ChunkKind.ENCODE).first()
    if running is not None:
        entries.append(_running(running, image.step, covered(known)))
    return TimelineJson(
        job=str(image.job_id),
        index=image.index,
        state=image.state,  # type: ignore[typeddict-item]
        steps=image.job.steps,
        entries=entries,
    )


def _entry(one: Entry, about: dict[str, str | None]) -> TimelineEntryJson:
    return TimelineEntryJson(
        kind=one["kind"],
        outcome=one["outcome"],
        start=one["start"],
        stop=one["stop"],
        worker=_worker(one["worker"], about, one["kernels"]),
        began_at=_time(one["began"]),
        ended_at=_time(one["ended"]),
        seconds=one["seconds"],
        attempt=one["attempt"],
        chunks=one["chunks"],
        received=one["received"],
        sent=one["sent"],
        fault=_fault(one["fault"]),
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
        worker=_worker(str(worker.pk), _about(worker), worker.kernels),
        began_at=chunk.leased_at.isoformat(),
        ended_at=None,
        seconds=None,
        attempt=chunk.attempt,
        chunks=1,
        received=0,
        sent=0,
        fault=None,
    )


def _worker(key: str, about: dict[str, str | None], kernels: str) -> WorkerJson:
    return WorkerJson(
        id=key,
        name=about["name"] or "",
        kind=about["kind"],  # type: ignore[typeddict-item]
        client=about["client"],
        device=about["device"] or "",
        kernels=kernels,
    )


def _fault(code: str | None) -> ErrorJson | None:
    return ErrorJson(code=code, detail=faults.of_one_lease(code)) if code else None


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
