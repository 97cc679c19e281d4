"""Every message of the room WebSocket. docs/api-websocket.md describes them for people.

A type is `prefix.command`; the prefix names the module of rooms.consumer that takes it.
"""

import re
from typing import Any, Literal, NotRequired, TypedDict

from genqueue.shapes import JobJson
from rooms import presence
from rooms.presence import PeerJson
from rooms.state import HeadJson

BEAT_SECONDS = 3
_MESH_ID = re.compile(r"[0-9A-Za-z]{20}")
GONE_AFTER_SECONDS = 10


class MessageError(Exception):
    """Not understood. The page is told the code; nothing is done."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def unknown_type() -> MessageError:
    return MessageError("unknown-type", "There is no message of this type.")


def whole(message: dict[str, Any], name: str) -> int:
    """A member that must be a whole number from 0 on. Raises MessageError."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise MessageError("bad-message", f"{name} must be a whole number.")
    return value


def mesh_id(message: dict[str, Any]) -> str:
    """The member `id` of `peer.mesh`; empty for null. Raises MessageError."""
    value = message.get("id")
    if value is None:
        return ""
    if not isinstance(value, str) or not _MESH_ID.fullmatch(value):
        raise MessageError("bad-message", "id must be 20 letters and digits, or null.")
    return value


def text(message: dict[str, Any], name: str, longest: int) -> str:
    """A member that must be a text of so many characters at most. Raises MessageError."""
    value = message.get(name)
    if not isinstance(value, str) or len(value) > longest:
        raise MessageError("bad-message", f"{name} must be a text of at most {longest} characters.")
    return value


def peer_status(message: dict[str, Any]) -> tuple[str, str]:
    """The members of `peer.status`, empty for null. Raises MessageError."""
    said = message.get("status")
    if said is not None and said not in presence.STATUSES:
        raise MessageError("bad-message", "There is no such status.")
    helps = "" if message.get("helps") is None else text(message, "helps", presence.LONGEST_WORKER)
    if helps and said != "helping":
        raise MessageError("bad-message", "helps: of who is helping.")
    return said or "", helps


# From the page ---------------------------------------------------------------------------------
class Beat(TypedDict):
    """Every 3 s. revision: the newest that the page has been sent."""

    type: Literal["peer.beat"]
    revision: int


class Status(TypedDict):
    """Why this tab computes no chunk, for the others in the room; null: it only watches, or waits.
    helps: of `helping`, the id of the worker whose chunk it is, where it knows."""

    type: Literal["peer.status"]
    status: presence.Status | None
    helps: NotRequired[str | None]


class Name(TypedDict):
    """What the person of this tab calls themselves; empty for nothing any more."""

    type: Literal["peer.name"]
    name: str


class Resync(TypedDict):
    """Send everything anew."""

    type: Literal["room.resync"]


class Mesh(TypedDict):
    """Under this id other tabs of the room reach this one directly; null: no more."""

    type: Literal["peer.mesh"]
    id: str | None


# From a tab that computes: rooms.work ------------------------------------------------------------
class WorkHello(TypedDict):
    """It wants to be a worker of this room. genqueue.tabs.Hello says what the members are."""

    type: Literal["work.hello"]
    key: str
    device: str
    software: bool
    packages: list[str]
    kernels: str


class WorkDevice(TypedDict):
    """Of a helper: another backend than it said computes the lease at hand, and what follows.
    genqueue.equipment.Equipment says what the members are; its hello has them too."""

    type: Literal["work.device"]
    device: str
    software: bool
    kernels: str
    stores: str


class WorkClaim(TypedDict):
    """It is idle. The answer, a lease, comes when there is something to do.

    conditionings: ids of jobs whose conditioning it still has. latents: (job, image, step) of
    latents that it still has."""

    type: Literal["work.claim"]
    conditionings: list[str]
    latents: list[tuple[str, int, int]]


class WorkRenew(TypedDict):
    type: Literal["work.renew"]
    chunk: int
    attempt: int


class WorkStep(TypedDict):
    """So many steps of the image are done. latent, preview: whether they follow, as bytes."""

    type: Literal["work.step"]
    chunk: int
    attempt: int
    step: int
    latent: bool
    preview: bool
    bytes: NotRequired[int]


class WorkComplete(TypedDict):
    """The result follows. seconds: of computing. partners: who has helped with it, as
    genqueue.partners reads it."""

    type: Literal["work.complete"]
    chunk: int
    attempt: int
    seconds: float
    bytes: int
    partners: NotRequired[list[dict[str, str | int]]]


class WorkFetch(TypedDict):
    """These tensors could not be had directly: send them. why: how that ended, by peer."""

    type: Literal["work.fetch"]
    chunk: int
    attempt: int
    names: list[str]
    why: str


class WorkFail(TypedDict):
    """It could not. fault: a code of genqueue.faults; detail: for the admin."""

    type: Literal["work.fail"]
    chunk: int
    attempt: int
    fault: str
    detail: str


class WorkRelease(TypedDict):
    """It rests for a while; others may go on from its newest checkpoint."""

    type: Literal["work.release"]
    chunk: int
    attempt: int


class WorkGoodbye(TypedDict):
    """It is no worker any more; what it still holds goes back unharmed."""

    type: Literal["work.goodbye"]


# To the page -----------------------------------------------------------------------------------
class State(TypedDict):
    """Everything; after connecting and after a resync. peer: the id of this very tab.

    older: the cursor of pictures made before all that is shown, or None."""

    type: Literal["room.state"]
    revision: int
    room: HeadJson
    jobs: list[JobJson]
    older: str | None
    peers: list[PeerJson]
    peer: str


class Changed(TypedDict):
    """What is different from what this page was sent last. gone: ids of jobs no longer shown."""

    type: Literal["room.changed"]
    since: int
    revision: int
    room: HeadJson
    jobs: list[JobJson]
    gone: list[str]
    older: str | None


class Peers(TypedDict):
    type: Literal["room.peers"]
    peers: list[PeerJson]


class BeatBack(TypedDict):
    """Answers a beat. revision: the newest that this page has been sent."""

    type: Literal["peer.beat"]
    revision: int


class WorkWelcome(TypedDict):
    """Answers a hello. renew_seconds: how often a lease is to be renewed."""

    type: Literal["work.welcome"]
    worker: str
    renew_seconds: int


class WorkDismissed(TypedDict):
    """It is no worker, or no more. detail: why, for people."""

    type: Literal["work.dismissed"]
    code: str
    detail: str


class DirectJson(TypedDict):
    """A tensor that another tab has in memory. peer: its id among tabs that talk directly.

    sha256: of its f32 numbers, little-endian, in hexadecimal; nothing else is taken for it."""

    name: str
    peer: str
    sha256: str
    shape: list[int]


class WorkLease(TypedDict):
    """The right to compute a chunk; what the tab does not have at hand follows as bytes, less what
    it can have directly.

    image, seed, start, stop: null for `encode`. fresh: what the tab has at hand of this image or
    its prompt is not to be used, and what it computes now is not to be kept."""

    type: Literal["work.lease"]
    chunk: int
    attempt: int
    kind: Literal["encode", "denoise", "decode"]
    job: str
    image: int | None
    seed: int | None
    start: int
    stop: int
    settings: dict[str, Any]
    fresh: bool
    bytes: int
    direct: NotRequired[list[DirectJson]]


class WorkTensors(TypedDict):
    """Answers `work.fetch`: the tensors follow."""

    type: Literal["work.tensors"]
    chunk: int
    attempt: int
    bytes: int


class WorkDone(TypedDict):
    """The result was taken."""

    type: Literal["work.done"]
    chunk: int
    attempt: int


class WorkLost(TypedDict):
    """The lease has ended: stop computing. code: `lost` (cancelled, taken back, done by another),
    `refused` (what came was no result), `stalled` (nothing came for long), `later` (the server's
    database failed)."""

    type: Literal["work.lost"]
    chunk: int
    attempt: int
    code: Literal["lost", "refused", "stalled", "later"]


class Error(TypedDict):
    """A message that was not understood; nothing was done."""

    type: Literal["error"]
    code: str
    detail: str


ToPage = (
    State
    | Changed
    | Peers
    | BeatBack
    | WorkWelcome
    | WorkDismissed
    | WorkLease
    | WorkTensors
    | WorkDone
    | WorkLost
    | Error
)
