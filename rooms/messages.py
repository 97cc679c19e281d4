"""Every message of the room WebSocket. docs/api-websocket.md describes them for people.

A type is `prefix.command`; the prefix names the module of rooms.consumer that takes it.
"""

from typing import Literal, TypedDict

from genqueue.shapes import JobJson
from rooms.presence import PeerJson
from rooms.state import HeadJson

BEAT_SECONDS = 3
GONE_AFTER_SECONDS = 10


# From the page ---------------------------------------------------------------------------------
class Beat(TypedDict):
    """Every 3 s. revision: the newest that the page has been sent."""

    type: Literal["peer.beat"]
    revision: int


class Resync(TypedDict):
    """Send everything anew."""

    type: Literal["room.resync"]


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


class Error(TypedDict):
    """A message that was not understood; nothing was done."""

    type: Literal["error"]
    code: str
    detail: str


ToPage = State | Changed | Peers | BeatBack | Error
