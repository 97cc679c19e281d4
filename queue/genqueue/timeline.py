"""How a picture was made: who computed which steps, when, and what went wrong.

- One entry is one lease: a chunk that was handed in, given back or taken back. Chunks in a row of
  one worker are one entry, so most pictures have three.
- Beside the entries is what checks have found of them, one a result of a checker; agreements in a
  row of one worker's steps by one checker are one.
- It is kept with the picture (`Image.timeline`), because chunks, checks and workers are forgotten:
  what is said of them is copied.
- It is bounded: of more than MOST_ENTRIES the oldest go, those without a result first; of more than
  MOST_CHECKS the oldest agreements.

`added`, `with_check` and `steps_by` are pure; static/js/work/queue/timeline.js is their twin. Who
calls a `note_` holds the job's lock. `timeline_json` tells it to everybody.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from django.utils import timezone

from genqueue import partners
from genqueue.check_models import Check
from genqueue.clients import client_label
from genqueue.kinds import ChunkKind
from genqueue.models import Checkpoint, Chunk, Image, Worker
from genqueue.partners import Partner
from genqueue.transitions import IMAGE_ENDED

MOST_ENTRIES = 128
MOST_CHECKS = 64
FARTHEST = 1e9  # texts of another length are infinitely far

Entry = dict[str, Any]
Checked = dict[str, Any]
Timeline = dict[str, Any]
Verdict = Literal["agreed", "wrong", "disputed", "unsaid"]


def added(entries: Sequence[Entry], entry: Entry) -> list[Entry]:
    """With one more entry, at most MOST_ENTRIES.

    kind; outcome: done, returned (unharmed) or failed; start, stop: the steps that count, the same
    twice where none does; worker: an id; kernels; began, ended: ms since the epoch; seconds: of
    computing, None where no result came; attempt: how often the chunk had been taken back before;
    chunks: how many are in it; received, sent: bytes that its worker was sent and has sent;
    fault: a code, of a failed one; partners: who else had a part in it, see `partners`.
    """
    last = entries[-1] if entries else None
    if last is not None and _goes_on(last, entry):
        sums = ("seconds", "chunks", "received", "sent")
        together = {**last, "stop": entry["stop"], "ended": entry["ended"]}
        together |= {name: _rounded(last[name] + entry[name]) for name in sums}
        together["partners"] = partners.together(partners_of(last), partners_of(entry))
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
    all_partners = partners.together(partners_of(last), partners_of(entry))
    few = len(all_partners) <= partners.MOST_PARTNERS
    return both_done and alike and ranges and few and not entry["attempt"]


def with_check(checks: Sequence[Checked], check: Checked) -> list[Checked]:
    """With one more of what was found, at most MOST_CHECKS.

    kind, start, stop: what was checked; worker: whose it was, an id; checker: an id, None where
    nobody could say; verdict; again: whether it was made once more; distance, limit: how far both
    results were apart and how far honest ones may be, None where it was not measured; at: ms since
    the epoch; checks: how many are in it.
    """
    last = checks[-1] if checks else None
    if last is not None and _agrees_on(last, check):
        together = {**last, "stop": check["stop"], "at": check["at"]}
        together["distance"] = max(last["distance"], check["distance"])
        together["checks"] = last["checks"] + check["checks"]
        return [*checks[:-1], together]
    kept = [*checks, check]
    while len(kept) > MOST_CHECKS:
        agreed = (n for n, one in enumerate(kept[:-1]) if one["verdict"] == "agreed")
        del kept[next(agreed, 0)]
    return kept


def _agrees_on(last: Checked, check: Checked) -> bool:
    both_agree = last["verdict"] == check["verdict"] == "agreed"
    alike = all(last[name] == check[name] for name in ("kind", "worker", "checker", "limit"))
    return both_agree and alike and check["kind"] == "denoise" and last["stop"] == check["start"]


def covered(timeline: Timeline) -> int:
    """The step that the lease at hand goes on from: where the last one ended, or where the image
    has gone `back` to since then."""
    if "back" in timeline:
        step: int = timeline["back"]
        return step
    denoised = (one for one in reversed(entries_of(timeline)) if one["kind"] == ChunkKind.DENOISE)
    last = next(denoised, None)
    return last["stop"] if last is not None else 0


def steps_by(entries: Sequence[Entry]) -> dict[str, float]:
    """How many steps each worker has computed, by its id; half of those that two have computed
    together. Steps that were lost, or found wrong and computed again, count for nobody."""
    ranges: list[tuple[int, int, Entry]] = []
    for one in entries:
        if one["kind"] != ChunkKind.DENOISE:
            continue
        begun = one["start"]  # whatever comes after it was done in vain
        ranges = [(start, min(stop, begun), by) for start, stop, by in ranges if start < begun]
        if one["stop"] > begun:
            ranges.append((begun, one["stop"], one))
    steps: dict[str, float] = {}
    for start, stop, one in ranges:
        for who, part in partners.parts(stop - start, one["worker"], partners_of(one)).items():
            steps[who] = steps.get(who, 0) + part
    return steps


def _rounded(number: float) -> float:
    return number if isinstance(number, int) else round(number, 3)


def note_done(
    chunk: Chunk, start: int, received: int, sent: int, helped: Sequence[Partner] = ()
) -> None:
    """A chunk was handed in. start: of its lease, which may have begun at a later checkpoint.
    received, sent: bytes that its worker was sent and has sent over a network. helped: who else had
    a part in it, as its worker says."""
    steps = (start, chunk.stop) if chunk.kind == ChunkKind.DENOISE else (0, 0)
    done = {"seconds": round(chunk.seconds or 0, 3), "received": received, "sent": sent}
    _note(chunk, steps, {**_NOTHING, "outcome": "done", **done}, helped)


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
        begun = covered(known) if entries_of(known) else stop  # unknown before an upgrade
        steps = (min(begun, stop), stop)
    outcome = "failed" if fault else "returned"
    _note(chunk, steps, {**_NOTHING, "outcome": outcome, "fault": fault})


_NOTHING = {"seconds": None, "received": 0, "sent": 0, "fault": None, "chunks": 1}


def _note(
    chunk: Chunk, steps: tuple[int, int], what: Entry, helped: Sequence[Partner] = ()
) -> None:
    """In the image of the chunk; what concerns the encoding in all images that wait for it."""
    worker = chunk.worker
    if worker is None:
        return  # somebody has removed it from the database by hand
    images = Image.objects.filter(job=chunk.job_id).exclude(state__in=IMAGE_ENDED)
    if chunk.image_id is not None:
        images = Image.objects.filter(pk=chunk.image_id)
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
    entry["partners"], others = partners.present(helped, worker, chunk.job.room_id)
    for image in images:
        if chunk.kind == ChunkKind.DENOISE:
            image.timeline.pop("back", None)
        _write(image, [worker, *others], entries=added(entries_of(image.timeline), entry))


def note_check(
    check: Check, verdict: Verdict, checker: Worker | None, distance: float | None = None,
    limit: float | None = None,
) -> None:  # fmt: skip
    """A checker's result was held against what had been handed in, or nobody can say any more. Of
    an encoding it is noted in all images of the job."""
    if check.worker is None:
        return  # somebody has removed it from the database by hand
    images = Image.objects.filter(job=check.job_id)
    if check.image_id is not None:
        images = images.filter(pk=check.image_id)
    one = {
        "kind": str(check.kind),
        "start": check.start,
        "stop": check.stop,
        "worker": str(check.worker.pk),
        "checker": str(checker.pk) if checker else None,
        "verdict": verdict,
        "distance": None if distance is None else _significant(min(distance, FARTHEST)),
        "limit": limit,
        "at": _ms(timezone.now()),
        "checks": 1,
    }
    for image in images:
        live = image.state not in IMAGE_ENDED
        # Of what is finished only the picture itself is replaced
        again = verdict == "wrong" and (live or check.kind == ChunkKind.DECODE)
        found = with_check(checks_of(image.timeline), {**one, "again": again})
        workers = [check.worker, *([checker] if checker else [])]
        _write(image, workers, checks=found)


def note_back(image_id: int, step: int) -> None:
    """The image goes on from this step, and what came after it was done in vain."""
    for image in Image.objects.filter(pk=image_id).exclude(timeline={}):
        image.timeline["back"] = step
        image.save(update_fields=["timeline"])


def _write(image: Image, workers: Sequence[Worker], **changed: list[dict[str, Any]]) -> None:
    """What is said of these workers is kept as long as anything names them."""
    known = image.timeline
    parts = {"entries": entries_of(known), "checks": checks_of(known), **changed}
    named = {one.get(name) for part in parts.values() for one in part for name in _NAMES}
    named |= {one["worker"] for entry in parts["entries"] for one in partners_of(entry)}
    said = {**known.get("workers", {}), **{str(one.pk): about(one) for one in workers}}
    kept = {key: what for key, what in said.items() if key in named}
    Image.objects.filter(pk=image.pk).update(timeline={**known, **parts, "workers": kept})


_NAMES = ("worker", "checker")


def entries_of(timeline: Timeline) -> list[Entry]:
    """Of `Image.timeline`, which is empty until something has happened."""
    entries: list[Entry] = timeline.get("entries", [])
    return entries


def partners_of(entry: Entry) -> list[partners.Kept]:
    """One that was written before partners were kept in it has none."""
    known: list[partners.Kept] = entry.get("partners", [])
    return known


def checks_of(timeline: Timeline) -> list[Checked]:
    """Of `Image.timeline`; one that was written before checks were kept in it has none."""
    checks: list[Checked] = timeline.get("checks", [])
    return checks


def about(worker: Worker) -> dict[str, str | None]:
    return {
        "name": worker.name,
        "kind": worker.kind,
        "client": client_label(worker.client) if worker.client else None,
        "device": worker.device,
    }


def _significant(number: float) -> float:
    return float(f"{number:.6g}")


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
