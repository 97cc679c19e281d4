"""Who had a part in a chunk beside the worker that holds it: helped to compute it, or gave it
directly what it began with.

- Who holds a chunk says with its result who has helped. It alone answers for the result, so this is
  information for people and nothing is trusted on account of it: of those whom it names the queue
  notes who is at work in its room, and no more than MOST_PARTNERS.
- Of a step that two have computed each one has half.

`together` and `parts` are pure; static/js/work/queue/partners.js is their twin.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal
from uuid import UUID

from genqueue.kinds import ChunkKind
from genqueue.models import Worker
from genqueue.transitions import WorkerState

MOST_PARTNERS: Final = 8  # of one entry of a timeline
MOST_BYTES: Final = 2**50

Kept = dict[str, Any]  # a Partner as a timeline keeps it


@dataclass(frozen=True, slots=True)
class Partner:
    """how: half of the guidance of `steps` steps, a band of a picture, or gave what the chunk began
    with.  received, sent: bytes that the holder has from it and has sent it.  worker: an id."""

    worker: str
    how: Literal["half", "band", "gave"]
    steps: int
    received: int
    sent: int


def read(value: object, kind: ChunkKind, steps: int) -> tuple[Partner, ...]:
    """What the holder of a chunk of so many steps says of those who have helped with it: a list of
    objects of `worker`, `steps`, `received` and `sent`. Raises ValueError for what is none."""
    if not isinstance(value, list) or len(value) > MOST_PARTNERS:
        raise ValueError(f"partners: a list of at most {MOST_PARTNERS}")
    if value and kind == ChunkKind.ENCODE:
        raise ValueError("partners: nobody helps to read a prompt")
    partners = tuple(_partner(one, kind, steps) for one in value)
    if len({one.worker for one in partners}) < len(partners):
        raise ValueError("partners: each worker once")
    if sum(one.steps for one in partners) > steps:
        raise ValueError(f"partners: of {steps} steps together")
    return partners


def _partner(one: object, kind: ChunkKind, steps: int) -> Partner:
    if not isinstance(one, dict):
        raise ValueError("partners: objects of worker, steps, received, sent")
    try:
        worker = str(UUID(str(one.get("worker"))))
    except ValueError:
        raise ValueError("partners: worker is an id") from None
    most = {"steps": steps, "received": MOST_BYTES, "sent": MOST_BYTES}
    for name, limit in most.items():
        number = one.get(name)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= limit:
            raise ValueError(f"partners: {name} is a whole number of 0 to {limit}")
    numbers = {name: one[name] for name in most}
    return Partner(worker=worker, how="half" if kind == ChunkKind.DENOISE else "band", **numbers)


def present(
    partners: Sequence[Partner], holder: Worker, room_id: str
) -> tuple[list[Kept], list[Worker]]:
    """Those of them that compute in this room beside the holder, and their rows. Who gave something
    was there when the chunk began, and may have left."""
    if not partners:
        return [], []
    others = Worker.objects.filter(pk__in=[one.worker for one in partners], room=room_id)
    rows = {str(row.pk): row for row in others.exclude(pk=holder.pk)}
    known = [
        one
        for one in partners
        if one.worker in rows and (one.how == "gave" or rows[one.worker].state == WorkerState.READY)
    ]
    kept = together(map(asdict, known), ())[:MOST_PARTNERS]
    return kept, [rows[one["worker"]] for one in kept]


def together(some: Iterable[Kept], others: Iterable[Kept]) -> list[Kept]:
    """Those of two entries that become one, with their sums."""
    sums: dict[tuple[str, str], Kept] = {}
    for one in (*some, *others):
        key = one["worker"], one["how"]
        known = sums.get(key)
        numbers = ("steps", "received", "sent")
        sums[key] = {**one, **{n: known[n] + one[n] for n in numbers}} if known else one
    return list(sums.values())


def parts(steps: int, worker: str, partners: Iterable[Kept]) -> Mapping[str, float]:
    """What each has computed of so many steps, by id: of those of `steps` in which another one has
    helped, both have half."""
    own, left, by = float(steps), steps, dict[str, float]()
    for one in partners:
        helped = min(one["steps"], left)
        left -= helped
        own -= helped / 2
        by[one["worker"]] = by.get(one["worker"], 0) + helped / 2
    by[worker] = by.get(worker, 0) + own
    return {who: int(part) if part == int(part) else part for who, part in by.items() if part}
