"""How a picture was made, as the slots of queue/timeline.html and of what is in it:
queue/timeline_entry.html and queue/timeline_check.html.

Twin of static/js/page/timeline/timeline.js; see rooms.slots. Another kind of entry is one more word
in WHAT on both sides.
"""

from datetime import UTC, datetime, timedelta
from math import floor

from rooms.people import steps_words
from rooms.slots import Json, Slots, Viewer, number, plural, tenths, worker_name

WHAT = {"encode": "Read the prompt", "decode": "Finished the picture"}
WIDTH = 1000  # of the bars of all entries, in units of their viewBox
NARROWEST = 8
COLOURS = 5
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timeline_slots(timeline: Json, viewer: Viewer) -> Slots:
    """For queue/timeline.html."""
    entries, checks = timeline["entries"], timeline["checks"]
    if not entries:
        summary = "Nothing is known of how it was made."
        return {"summary": summary, "entries": [], "checks": [], "checks_hidden": True}
    began = min(_ms(one["began_at"]) for one in entries)
    ended = max(_ms(one["ended_at"] or one["began_at"]) for one in entries)
    workers = list(dict.fromkeys(one["worker"]["id"] for one in entries))
    broken = sum(one["outcome"] in ("failed", "returned") for one in entries)
    said = [plural(len(workers), "worker"), f"{tenths((ended - began) / 1000)} s in all"]
    said += [plural(broken, "interruption")] if broken else []
    checked = sum(one["checks"] for one in checks if one["at"])
    said += [plural(checked, "check")] if checked else []
    shown = []
    before: Json | None = None  # who has computed the steps before
    for one in entries:
        colour = workers.index(one["worker"]["id"]) % COLOURS
        shown.append(_entry(one, before, viewer, (began, ended), colour))
        if one["stop"] > one["start"]:
            before = one["worker"]
    return {
        "summary": ", ".join(said),
        "entries": shown,
        "checks": [_check(one, viewer) for one in checks],
        "checks_hidden": None if checks else True,
    }


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
    said += [_with(partner, viewer) for partner in one["partners"]]
    if one["outcome"] == "failed":
        said.append(one["fault"]["detail"])
    if one["outcome"] == "returned":
        said.append("It gave the rest back unharmed.")
    return " ".join(said) or None


def _with(partner: Json, viewer: Viewer) -> str:
    who, received = worker_name(partner["worker"], viewer), partner["received"]
    if partner["how"] == "gave":
        return f"{_bytes(received)} came directly from {who}."
    half = f"half of {plural(partner['steps'], 'step')}"
    part = half if partner["how"] == "half" else "a part of the picture"
    return f"With {who}: {part}, {_bytes(received + partner['sent'])} exchanged."


CHECKED = {"encode": "The prompt", "decode": "The picture"}


def _check(one: Json, viewer: Viewer) -> Slots:
    """For queue/timeline_check.html."""
    words = CHECKED.get(one["kind"]) or steps_words(one["start"], one["stop"])
    return {
        "verdict": one["verdict"],
        "what": f"{words[0].upper()}{words[1:]} of {worker_name(one['worker'], viewer)}",
        "found": _found(one, worker_name(one["checker"], viewer)),
    }


def _found(one: Json, checker: str | None) -> str:
    verdict = one["verdict"]
    if verdict == "waiting":
        return f"{checker} computes it again." if checker else "Waits for somebody to check it."
    if verdict == "unsaid":
        return "Nobody could check it."
    said = [f"Computed again by {checker}: {FOUND[verdict]}"]
    if one["distance"] is not None:
        apart, allowed = _percent(one["distance"]), _percent(one["limit"])
        said.append(f"{apart} apart, and {allowed} is allowed")
    after = {"disputed": " Somebody else decides.", "agreed": ""}
    again = " It was made again." if one["done_again"] else " The picture was finished before."
    return ", ".join(said) + "." + after.get(verdict, again)


FOUND = {"agreed": "alike", "disputed": "another result", "wrong": "wrong"}


def _percent(ratio: float) -> str:
    """Two digits or so, and the same ones in JavaScript."""
    value = 100 * ratio
    if value >= 1000:
        return "far more than all of it"
    if value < 0.0005:
        return "less than 0.001 %"
    digits = 1 if value >= 10 else 10 if value >= 1 else 100 if value >= 0.1 else 1000
    return f"{number(floor(value * digits + 0.5) / digits)} %"


def _bytes(count: int) -> str:
    thousands = floor(count / 1000 + 0.5)
    return f"{thousands} kB" if thousands < 1000 else f"{tenths(count / 1e6)} MB"


def _ms(time: str) -> int:
    return (datetime.fromisoformat(time) - EPOCH) // timedelta(milliseconds=1)
