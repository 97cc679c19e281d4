"""Who is in a room and what they do, as the slots of rooms/peer.html and rooms/helper.html.

Twin of static/js/page/people.js; see rooms.slots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, isqrt

from rooms.slots import Json, Slots, Viewer, newest_first, person, tenths, worker_name

LAST_PICTURES = 20  # of which everybody's share is told
LONGEST_PROMPT = 40
SLOW_SECONDS = 0.9  # a step: from then on seconds are told, and not steps


@dataclass(frozen=True, slots=True)
class Shares:
    """Who has computed how many steps of the newest pictures. pictures: how many these are."""

    steps: Mapping[str, int] = field(default_factory=dict)
    pictures: int = 0

    @classmethod
    def of(cls, jobs: Sequence[Json]) -> "Shares":
        images = [image for job in newest_first(jobs) for image in reversed(job["images"])]
        newest = [image["steps_by"] for image in images if image["steps_by"]][:LAST_PICTURES]
        steps: dict[str, int] = {}
        for one in newest:
            for worker, number in one.items():
                steps[worker] = steps.get(worker, 0) + number
        return cls(steps, len(newest))

    def words(self, worker: str) -> str | None:
        """None of who has done nothing of it."""
        steps = self.steps.get(worker, 0)
        if not steps:
            return None
        percent = floor(100 * steps / sum(self.steps.values()) + 0.5)
        pictures = "picture" if self.pictures == 1 else f"{self.pictures} pictures"
        return f"{percent} % of the steps of the last {pictures}"


def peers_of(
    peers: Sequence[Json], room: Json, viewer: Viewer, jobs: Sequence[Json], shares: Shares
) -> list[Slots]:
    """As the server knows them: which of them looks is known to that tab alone."""
    return [peer_slots(peer, room, viewer, None, jobs, shares) for peer in peers]


def peer_slots(
    peer: Json,
    room: Json,
    viewer: Viewer,
    own_peer: str | None,
    jobs: Sequence[Json],
    shares: Shares,
    way: Json | None = None,
) -> Slots:
    """For rooms/peer.html. room: all about it but its jobs. own_peer: the id of the tab that looks,
    known only to that tab. way: to that peer, or of the tab that looks to the server: roundTripMs,
    and mbitPerS where it is known."""
    mine = peer["client"] == viewer.label
    name = _named(peer, viewer)
    worker = next((one for one in room["workers"] if one["id"] == peer["worker"]), None)
    away = _away(way, own=peer["id"] == own_peer)
    facts = _facts(worker, shares, away)
    return {
        "id": f"peer-{peer['id']}",
        "name": name if not mine or own_peer in (None, peer["id"]) else "you, in another tab",
        "doing": _doing(peer, worker, room, viewer, jobs),
        "facts": facts,
        "facts_hidden": None if facts else True,
        "client": peer["client"],
        "remove_url": f"/rooms/{room['room']}/clients/{peer['client']}/remove/",
        "remove_name": f"Remove {name} from this room",
        "remove_hidden": None if viewer.owner and not mine else True,
    }


def _named(peer: Json, viewer: Viewer) -> str:
    """A chosen name never stands alone: anybody may choose any."""
    who, name = person(peer["client"], viewer), peer.get("name")
    if not name:
        return who
    return f"you, as {name}" if who == "you" else f"{name} ({who})"


def helpers_of(room: Json, jobs: Sequence[Json], shares: Shares) -> list[Slots]:
    """The workers that are no tabs: those are among the peers."""
    return [
        helper_slots(worker, jobs, shares, room["paused"])
        for worker in room["workers"]
        if worker["kind"] != "tab"
    ]


def helper_slots(worker: Json, jobs: Sequence[Json], shares: Shares, paused: bool = False) -> Slots:
    """For rooms/helper.html. paused: whether the room is."""
    return {
        "id": f"helper-{worker['id']}",
        "name": worker["name"],
        "doing": _at_work(worker, jobs, paused),
        "facts": _facts(worker, shares, None),
        "state": worker["state"],
    }


def _doing(
    peer: Json, worker: Json | None, room: Json, viewer: Viewer, jobs: Sequence[Json]
) -> str:
    if peer["status"] == "helping" and not (worker and worker["at_work"]):
        helped = next((one for one in room["workers"] if one["id"] == peer.get("helps")), None)
        named = worker_name({**helped, "device": ""}, viewer) if helped else "another tab"
        return f"helping {named} with its picture"
    return _at_work(worker, jobs, room["paused"]) if worker else _idle(peer)


_IDLE = {
    "loading": "loading the model",
    "hidden": "paused: its page is not in front",
    "battery": "paused: it runs on its battery",
    "unable": "watching: it cannot compute",
    "away": "computing for the exported pages of this room",
}


def _idle(peer: Json) -> str:
    watching = "watching; made this room" if peer["owner"] else "watching"
    return _IDLE.get(peer["status"], watching)


def _at_work(worker: Json, jobs: Sequence[Json], paused: bool) -> str:
    work = worker["at_work"]
    if work is None:
        waits = "waiting: the queue is paused" if paused else "waiting for work"
        return {"loading": "loading the model", "ready": waits, "gone": "gone"}[worker["state"]]
    job = next((one for one in jobs if one["id"] == work["job"]), None)
    what = _title(job, work["index"]) if job else "a picture"
    if work["kind"] == "encode":
        return f"reading {what}"
    if work["kind"] == "check":
        return f"checking {what}"
    if work["kind"] == "decode":
        return f"finishing {what}"
    return f"computing {steps_words(work['start'], work['stop'])} of {what}"


def steps_words(start: int, stop: int) -> str:
    """As people count: from 1, and with the last one."""
    return f"step {stop}" if stop - start == 1 else f"steps {start + 1} to {stop}"


def _title(job: Json, index: int | None) -> str:
    prompt = job["prompt"]
    short = prompt if len(prompt) <= LONGEST_PROMPT else f"{prompt[: LONGEST_PROMPT - 1]}…"
    several = job["num_images"] > 1 and index is not None
    return f"“{short}”, picture {index + 1}" if several and index is not None else f"“{short}”"


def _facts(worker: Json | None, shares: Shares, away: str | None) -> str | None:
    known: list[str | None] = [away]
    if worker is not None:
        device = worker["device"] or "device not known yet"
        speed, lack = speed_words(worker["seconds_a_step"]), _lack(worker["lacks"])
        known = [device, speed, lack, shares.words(worker["id"]), away]
    return " · ".join(one for one in known if one) or None


def _lack(lacks: Json) -> str | None:
    """Others do what it has too little memory for."""
    pictures = [pixels for kind, pixels in lacks.items() if kind != "encode"]
    if pictures:
        return f"too little memory for {isqrt(min(pictures))} px"
    return "too little memory for prompts" if lacks else None


def speed_words(seconds: float | None) -> str | None:
    """`1.3 s a step`, or of fast ones `8 steps a second`."""
    if not seconds:
        return None
    if seconds > SLOW_SECONDS:
        return f"{tenths(seconds)} s a step"
    return f"{tenths(1 / seconds)} steps a second"


def _away(way: Json | None, *, own: bool) -> str | None:
    if way is None or way["roundTripMs"] is None:
        return None
    rounded = floor(way["roundTripMs"] + 0.5)
    fast = f", {tenths(way['mbitPerS'])} Mbit/s" if way.get("mbitPerS") else ""
    return f"{rounded} ms to the server" if own else f"{rounded} ms away{fast}"
