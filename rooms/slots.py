"""What the named slots of the partials hold, worked out from the JSON that everybody gets.

Each function is the twin of one in static/js/page/view.js: same JSON in, same values out, so the
server and the page fill the same markup with the same words. tests/js/test_same_markup.py renders
both and compares. A value is text, True (an attribute without value), None (no attribute, no text)
or a list of such dicts for a nested partial.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

Json = Mapping[str, Any]
Slots = dict[str, Any]

WAITING = ("queued", "running")
APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the room: the public label of their client, and whether the room is theirs."""

    label: str
    owner: bool


def shown_in_queue(job: Json) -> bool:
    """Jobs that wait or run, and failed ones until their failed images are dismissed. What was
    finished is among the pictures."""
    failed = job["state"] == "failed" and not all(image["url"] for image in job["images"])
    return job["state"] in WAITING or failed


def job_slots(job: Json, viewer: Viewer, paused: bool = False) -> Slots:
    """For queue/job.html. paused: whether the room is."""
    room, state = job["room"], job["state"]
    running = state == "running"
    mine = job["client"] == viewer.label
    done = sum(image["step"] for image in job["images"])
    steps = sum(image["steps"] for image in job["images"])
    return {
        "id": f"job-{job['id']}",
        "state": state,
        "prompt": job["prompt"],
        "status": _status(job, done, steps, paused),
        "settings": _settings(job),
        "who": person(job["client"], viewer),
        "step": str(done),
        "steps": str(steps or 1),
        "progress_name": f"Progress of “{job['prompt']}”",
        "progress_hidden": None if running else True,
        "tiles_hidden": None if running else True,
        "tiles": [_tile(image, viewer, paused) for image in job["images"]] if running else [],
        "cancel_url": f"/rooms/{room}/jobs/{job['id']}/cancel/",
        "cancel_name": f"Cancel “{job['prompt']}”",
        "cancel_hidden": None if state in WAITING and (mine or viewer.owner) else True,
        "retry_url": f"/rooms/{room}/jobs/{job['id']}/retry/",
        "retry_name": f"Try again “{job['prompt']}”",
        "dismiss_url": f"/rooms/{room}/jobs/{job['id']}/dismiss/",
        "dismiss_name": f"Dismiss “{job['prompt']}”",
        "dismiss_hidden": None if state == "failed" and (mine or viewer.owner) else True,
    }


def _tile(image: Json, viewer: Viewer, paused: bool) -> Slots:
    """For queue/tile.html: one picture of a running job, as far as it has come."""
    source = image["url"] or image["preview_url"]
    if image["url"]:
        status = "Done"
    elif image["check"]:
        status = "Being checked" if image["check"] == "running" else "Waiting for its check"
    elif image["step"]:
        status = f"Step {image['step']} of {image['steps']}"
    elif image["worker"] and not paused:
        status = "Starting"
    else:
        status = "Waiting"
    return {
        "src": source,
        "picture_hidden": None if source else True,
        "status": status,
        "worker": worker_name(image["worker"], viewer),
    }


def _status(job: Json, done: int, steps: int, paused: bool) -> str:
    state, position, seconds = job["state"], job["position"], job["eta_seconds"]
    if state == "failed":
        return f"Failed: {job['error']['detail'] if job['error'] else 'no reason was given.'}"
    if paused:  # what is expected of it then is not true
        return f"Paused at step {done} of {steps}" if done else "Paused before its first step"
    if job["waits_for_model"]:
        return f"Waiting for a worker that has {job['model']}"
    if state == "queued":
        place = "Next in line" if position in (None, 1) else f"Number {position} in line"
        return place if seconds is None else f"{place}, ready in {duration(seconds)}"
    if not done:
        return "Reading the prompt"
    if done >= steps:
        return _finishing([image for image in job["images"] if image["state"] in WAITING])
    left = "" if seconds is None else f", {duration(seconds)} left"
    return f"Step {done} of {steps}{left}"


def _finishing(images: Sequence[Json]) -> str:
    """images: of which all steps are done, and which are not shown yet."""
    checks = [image["check"] for image in images]
    if not all(checks):
        return "Finishing"
    if "running" in checks:
        return "Being checked by somebody else before it is shown"
    return "Waiting for somebody else to check it, for two minutes at most"


def _settings(job: Json) -> str:
    count = job["num_images"]
    return " · ".join(
        [
            f"{job['width']} × {job['height']}",
            plural(job["steps"], "step"),
            f"guidance {number(job['guidance'])}",
            f"seed {job['seed']}",
            *([f"{count} pictures"] if count > 1 else []),
        ]
    )


def pictures_of(job: Json, viewer: Viewer) -> list[Slots]:
    """For queue/picture.html: the finished images of a job, first image first."""
    return [picture_slots(job, image, viewer) for image in job["images"] if image["url"]]


def picture_slots(job: Json, image: Json, viewer: Viewer) -> Slots:
    base = f"/rooms/{job['room']}/pictures/{job['id']}/{image['index']}"
    mine = job["client"] == viewer.label
    return {
        "id": f"picture-{job['id']}-{image['index']}",
        "url": image["url"],
        "prompt": job["prompt"],
        "width": str(job["width"]),
        "height": str(job["height"]),
        "file": f"{file_stem(job['prompt'])}-{image['seed']}.png",
        "who": person(job["client"], viewer),
        "model": job["model"],
        "size": f"{job['width']} × {job['height']}",
        "steps": str(job["steps"]),
        "guidance": number(job["guidance"]),
        "seed": str(image["seed"]),
        "without": job["negative_prompt"] or None,
        "without_hidden": None if job["negative_prompt"] else True,
        "worker": worker_name(image["worker"], viewer) or "unknown",
        "seconds": None if image["seconds"] is None else f"{tenths(image['seconds'])} s",
        "seconds_hidden": True if image["seconds"] is None else None,
        "doubt": _DOUBTS[image["doubt"]] if image["doubt"] else None,
        "doubt_hidden": None if image["doubt"] else True,
        "choice": f"{job['id']}/{image['index']}",
        "choice_name": f"Select “{job['prompt']}”, seed {image['seed']}",
        "more_name": f"More about “{job['prompt']}”, seed {image['seed']}",
        "again_url": f"{base}/again/",
        "vary_url": f"{base}/vary/",
        "edit_url": f"/rooms/{job['room']}/?like={job['id']}/{image['index']}",
        "timeline_url": f"{base}/timeline/",
        "delete_url": f"{base}/delete/",
        "delete_hidden": None if mine or viewer.owner else True,
    }


_DOUBTS = {
    "unchecked": "Nobody else has checked this picture.",
    "wrong": "A check found this picture wrong after it was finished.",
}


def notice_slots(room: Json, waiting: int) -> Slots:
    """For rooms/notices.html: what anybody here has to know, one sentence each.

    waiting: how many jobs are queued or running."""
    states = {worker["state"] for worker in room["workers"]}
    at_work = "ready" in states
    loading = [worker for worker in room["workers"] if worker["state"] == "loading"]
    newest = next(iter(room["shut_out"]), None)
    return {
        "shut_out": f"{newest['name']} computes no more here: {newest['reason']}."
        if newest
        else None,
        "shut_out_hidden": None if newest else True,
        "paused_hidden": None if room["paused"] else True,
        "loading": None if at_work or not loading else _loading(loading),
        "loading_hidden": True if at_work or not loading else None,
        "nobody_hidden": True if at_work or loading else None,
        "waiting": f"{plural(waiting, 'job')} wait" if waiting != 1 else "1 job waits",
        "waiting_hidden": None if waiting else True,
    }


def _loading(workers: Sequence[Json]) -> str:
    """workers: the only ones that there are. Of a helper the name is anybody's choice."""
    if any(worker["kind"] == "celery" for worker in workers):
        return (
            f"The server{APOSTROPHE}s worker is loading the model. This takes a few seconds after "
            "a start; jobs begin as soon as it is ready."
        )
    named = [worker["name"] for worker in workers if worker["kind"] == "remote"]
    who = f"The helper “{named[0]}”" if named else "A tab"
    return f"{who} is loading the model; jobs begin as soon as it is ready."


def older_slots(room: str, cursor: str | None) -> Slots:
    """For rooms/older_link.html. cursor: of the pictures made before all that are shown."""
    before = f"?before={cursor}" if cursor else ""  # htmx takes up links that have an address
    return {
        "older_url": f"/rooms/{room}/pictures/{before}",
        "older_hidden": None if cursor else True,
    }


def person(label: str, viewer: Viewer) -> str:
    return "you" if label == viewer.label else f"guest {label[:6]}"


def worker_name(worker: Json | None, viewer: Viewer) -> str | None:
    if worker is None:
        return None
    name = worker["name"]
    if worker["kind"] == "tab":
        whose = person(worker["client"], viewer)
        chosen = name != f"tab of {worker['client']}"  # and may be anybody's choice
        if whose == "you":
            name = "your tab"
        else:
            name = f"{name} ({whose})" if chosen else f"tab of {whose}"
    return f"{name} · {worker['device']}" if worker["device"] else str(name)


def number(value: float) -> str:
    """4.0 is 4 and 4.5 is 4.5, in Python as in JavaScript."""
    return str(int(value)) if value == floor(value) else repr(float(value))


def tenths(seconds: float) -> str:
    return number(floor(seconds * 10 + 0.5) / 10)


def duration(seconds: float) -> str:
    return f"about {ceil(seconds)} s" if seconds <= 90 else f"about {ceil(seconds / 60)} min"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def file_stem(prompt: str) -> str:
    """At most 48 characters that any file system takes."""
    return re.sub("[^a-z0-9]+", "-", prompt.lower())[:48].strip("-") or "picture"


def queue_of(jobs: Sequence[Json], viewer: Viewer, paused: bool = False) -> list[Slots]:
    """Running jobs, then those that wait in the order of their turns, then failed ones."""
    shown = [job for job in jobs if shown_in_queue(job) and not _asked_again(job, jobs)]
    shown.sort(key=_turn)
    return [job_slots(job, viewer, paused) for job in shown]


def _asked_again(failed: Json, jobs: Sequence[Json]) -> bool:
    """Whether who asked for this failed job has a later one that did not fail: it speaks now."""
    return failed["state"] == "failed" and any(
        job["state"] != "failed"
        and job["client"] == failed["client"]
        and job["prompt"] == failed["prompt"]
        and job["created_at"] > failed["created_at"]
        for job in jobs
    )


def _turn(job: Json) -> tuple[int, int]:
    return ("running", "queued", "failed").index(job["state"]), job["position"] or 0


def gallery_of(jobs: Sequence[Json], viewer: Viewer) -> list[Slots]:
    """Newest job first; the images of one job in their order."""
    return [slots for job in newest_first(jobs) for slots in pictures_of(job, viewer)]


def newest_first(jobs: Sequence[Json]) -> list[Json]:
    return sorted(jobs, key=lambda job: (job["created_at"], job["id"]), reverse=True)
