"""What comes from tabs is data from strangers: checked here before it is used.

Twin of static/js/room/strangers.js and of `readClaim` in static/js/work/claims.js.
"""

import json
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from rooms.remote.conversation import Message, is_whole

LONGEST_MESSAGE: Final = 16_384  # characters of JSON
_LONGEST_ABOUT: Final = 4096
_LONGEST_TYPE: Final = 64
_PEER_ID: Final = re.compile(r"[0-9A-Za-z]{20}")
_TYPE: Final = re.compile(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)*")
_MOST_TERM: Final = 2**31
_BURST, _A_SECOND = 1000.0, 100.0


def is_peer_id(value: object) -> bool:
    return isinstance(value, str) and _PEER_ID.fullmatch(value) is not None


def read_message(data: object) -> Message | None:
    """A JSON object whose `type` is words with dots; None for anything else."""
    if not isinstance(data, str) or len(data) > LONGEST_MESSAGE:
        return None
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    type_ = message.get("type")
    if not isinstance(type_, str) or len(type_) > _LONGEST_TYPE or not _TYPE.fullmatch(type_):
        return None
    return message


class Allowance:
    """How many messages one may send: 100 a second in the mean, 1000 at once."""

    def __init__(self) -> None:
        self._left, self._at = _BURST, time.monotonic()

    def spend(self) -> bool:
        """Whether one more is allowed."""
        now = time.monotonic()
        self._left = min(_BURST, self._left + (now - self._at) * _A_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Claim:
    """What a tab announces of the room's queue: whether it holds one, with which term, and whether
    it is capable of holding it for others."""

    id: str
    holds: bool
    term: int
    capable: bool


def read_claim(peer_id: str, about: object) -> Claim:
    """about: anything."""
    queue = about.get("queue") if isinstance(about, dict) and _is_short(about) else None
    said = queue if isinstance(queue, dict) else {}
    term = said.get("term")
    known = term if is_whole(term) and term < _MOST_TERM else 0
    return Claim(peer_id, said.get("holds") is True, known, said.get("capable") is not False)


def _is_short(about: dict[str, Any]) -> bool:
    return len(json.dumps(about, ensure_ascii=False, separators=(",", ":"))) <= _LONGEST_ABOUT


def rightful(claims: list[Claim]) -> Claim | None:
    """Whose queue everybody follows: the highest term; of equal ones, a capable tab's; of these,
    the lowest id."""
    holders = [claim for claim in claims if claim.holds]
    return min(holders, key=lambda claim: (-claim.term, not claim.capable, claim.id), default=None)
