"""How a picture was made, as the slots of queue/timeline.html and queue/timeline_entry.html.

Twin of static/js/page/timeline/timeline.js; see rooms.slots. Another kind of entry is one more word
in WHAT on both sides.
"""

from datetime import UTC, datetime, timedelta
from math import floor

from rooms.people import steps_words
from rooms.slots import Json, Slots, Viewer, plural, tenths, worker_name

WHAT = {"encode": "Read the prompt", "decode": "Finished the picture"}
WIDTH = 1000  # of the bars of all entries, in units of their viewBox
NARROWEST = 8
COLOURS = 5
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timeline_slots(timeline: Json, viewer: Viewer) -> Slots:
    """For queue/timeline.html."""
    entries = timeline["entries"]
    if not entries:
        return {"summary": "Nothing is known of how it was made.", "entries": []}
    began = min(_ms(one["began_at"]) for one in entries)
    ended = max(_ms(one["ended_at"] or one["began_at"]) for one in entries)
    workers = list(dict.fromkeys(one["worker"]["id"] for one in entries))
    broken = sum(one["outcome"] in ("failed", "returned") for one in entries)
    said = [plural(len(workers), "worker"), f"{tenths((ended - began) / 1000)} s in all"]
    said += [plural(broken, "interruption")] if broken else []
    shown = []
    before: Json | None = None  # who has computed the steps before
    for one in entries:
        colour = workers.index(one["worker"]["id"]) % COLOURS
        shown.append(_entry(one, before, viewer, (began, ended), colour))
        if one["stop"] > one["start"]:
            before = one["worker"]
    return {"summary": ", ".join(said), "entries": shown}


def _entry(
    one: Json, before: Json | None, viewer: Viewer, all_of_it: tuple[int, int], colour: int
) -> Slots:
    began, ended = all_of_it
    start = _ms(one["began_at"])
    stop = _ms(one["ended_at"]) if one["ended_at"] else max(ended, start)
    span = max(1, ended - began)
    width = max(NARROWEST, floor(WIDTH * (stop - start) / span + 0.5))
    x = min(floor(WIDTH * (start - began) / span + 0.5), WIDTH - width)
    said = _said(one, before, viewer)
    return {
        "outcome": one["outcome"],
        "colour": str(colour),
        "what": _what(one),
        "who": worker_name(one["worker"], viewer),
        "x": str(max(0, x)),
        "width": str(min(WIDTH, width)),
        "when": _when(one, start - began, stop - start),
        "said": said,
        "said_hidden": None if said else True,
    }


def _what(one: Json) -> str:
    if one["kind"] != "denoise":
        return WHAT[one["kind"]]
    if one["stop"] == one["start"]:
        return "No step yet" if one["outcome"] == "running" else "No step"
    words = steps_words(one["start"], one["stop"])
    return words[0].upper() + words[1:]


def _when(one: Json, after: int, long: int) -> str:
    said = [f"after {tenths(after / 1000)} s"]
    said.append("now" if one["outcome"] == "running" else f"for {tenths(long / 1000)} s")
    if one["chunks"] > 1:
        said.append(f"{one['chunks']} chunks")
    if one["received"]:
        said.append(f"{_bytes(one['received'])} received")
    if one["sent"]:
        said.append(f"{_bytes(one['sent'])} sent")
    if one["worker"]["kernels"]:
        said.append(f"kernels {one['worker']['kernels']}")
    return " · ".join(said)


def _said(one: Json, before: Json | None, viewer: Viewer) -> str | None:
    said = []
    if one["attempt"]:
        said.append(f"Attempt {one['attempt'] + 1}.")
    if before is not None and before["id"] != one["worker"]["id"]:
        said.append(f"Took over from {worker_name(before, viewer)}.")
    if one["outcome"] == "failed":
        said.append(one["fault"]["detail"])
    if one["outcome"] == "returned":
        said.append("It gave the rest back unharmed.")
    return " ".join(said) or None


def _bytes(number: int) -> str:
    thousands = floor(number / 1000 + 0.5)
    return f"{thousands} kB" if thousands < 1000 else f"{tenths(number / 1e6)} MB"


def _ms(time: str) -> int:
    return (datetime.fromisoformat(time) - EPOCH) // timedelta(milliseconds=1)
