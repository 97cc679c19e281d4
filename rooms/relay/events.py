"""Events: what somebody publishes. Checked here, completely, before anybody else hears of them.

Beside NIP-01's own rules: only ephemeral kinds, a clock that is about right, at least one topic (an
`x` tag), and Trystero's content: a JSON object with the sender's `peerId`. Peer ids become keys of
objects in the pages, so nothing but what Trystero makes passes (`__proto__` has killed peers).
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from coincurve import PrivateKey, PublicKeyXOnly

from rooms.relay.limits import Limits

EPHEMERAL = range(20_000, 30_000)
TOPIC = "x"

_ID = re.compile(r"[0-9a-f]{64}\Z")
_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")
_PEER_ID = re.compile(r"[0-9A-Za-z]{20}\Z")


class RefusedError(Exception):
    """Of no use, however often it is sent. The text says why."""


class SkewedError(RefusedError):
    """created_at is too far from the relay's clock."""


@dataclass(frozen=True, slots=True)
class Event:
    """topics: the values of its `x` tags. text: its JSON, as it is passed on."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    topics: tuple[str, ...]
    sig: str
    text: str

    def check_clock(self, now: float, limits: Limits) -> None:
        """now: in seconds since the epoch. Raises SkewedError."""
        off = self.created_at - now
        if abs(off) > limits.clock_seconds:
            side = "ahead of" if off > 0 else "behind"
            raise SkewedError(f"created_at is {abs(off):.0f} s {side} this relay's clock")

    def verify(self) -> None:
        """Raises RefusedError unless pubkey has signed the id (BIP-340)."""
        try:
            key = PublicKeyXOnly(bytes.fromhex(self.pubkey))
        except ValueError:
            raise RefusedError("pubkey is not on the curve") from None
        if not key.verify(bytes.fromhex(self.sig), bytes.fromhex(self.id)):
            raise RefusedError("the signature is not of this id by this pubkey")


def read_event(value: object, limits: Limits) -> Event:
    """An event that is right but for its clock and its signature. Raises RefusedError."""
    if not isinstance(value, dict):
        raise RefusedError("an event is a JSON object")
    id_ = _text(value, "id", _ID)
    pubkey = _text(value, "pubkey", _ID)
    sig = _text(value, "sig", _SIGNATURE)
    created_at = _whole(value, "created_at")
    kind = _whole(value, "kind")
    if kind not in EPHEMERAL:
        raise RefusedError(f"only kinds {EPHEMERAL.start} to {EPHEMERAL.stop - 1} are taken")
    tags = _tags(value.get("tags"), limits)
    topics = tuple(dict.fromkeys(tag[1] for tag in tags if tag[0] == TOPIC and len(tag) > 1))
    if not topics:
        raise RefusedError(f"an event needs a tag [{TOPIC!r}, topic]")
    content = _content(value.get("content"), limits)
    signed = _json([0, pubkey, created_at, kind, tags, content])
    try:
        digest = hashlib.sha256(signed.encode()).hexdigest()
    except UnicodeEncodeError:  # half a surrogate pair
        raise RefusedError("an event is valid Unicode") from None
    if digest != id_:
        raise RefusedError("id is not the SHA-256 of this event")
    text = _json(
        {
            "id": id_,
            "pubkey": pubkey,
            "created_at": created_at,
            "kind": kind,
            "tags": tags,
            "content": content,
            "sig": sig,
        }
    )
    return Event(id_, pubkey, created_at, kind, topics, sig, text)


def signed_event(
    key: PrivateKey, kind: int, topic: str, content: str, created_at: int
) -> dict[str, Any]:
    """As it is published, which `read_event` takes. created_at: seconds since the epoch."""
    pubkey = key.public_key.format()[1:].hex()
    tags = [[TOPIC, topic]]
    digest = hashlib.sha256(_json([0, pubkey, created_at, kind, tags, content]).encode()).digest()
    made = {
        "kind": kind, "tags": tags, "created_at": created_at, "content": content, "pubkey": pubkey,
    }  # fmt: skip
    return {**made, "id": digest.hex(), "sig": key.sign_schnorr(digest).hex()}


def event_id(value: object) -> str | None:
    """The id that an answer names, of anything that was sent as an event."""
    id_ = value.get("id") if isinstance(value, dict) else None
    return id_ if isinstance(id_, str) and _ID.match(id_) else None


def _json(value: object) -> str:
    """As NIP-01 wants it for the id: no spaces, nothing escaped that need not be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(event: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not pattern.match(value):
        raise RefusedError(f"{name} must be lower-case hexadecimal of the right length")
    return value


def _whole(event: dict[str, Any], name: str) -> int:
    value = event.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise RefusedError(f"{name} must be a whole number")
    return value


def _tags(value: object, limits: Limits) -> list[list[str]]:
    if not isinstance(value, list) or len(value) > limits.tags:
        raise RefusedError(f"tags must be a list of at most {limits.tags}")
    for tag in value:
        if not isinstance(tag, list) or not 0 < len(tag) <= limits.tags:
            raise RefusedError(f"a tag must be a list of 1 to {limits.tags} strings")
        for element in tag:
            if not isinstance(element, str) or len(element) > limits.tag_characters:
                raise RefusedError(f"a tag has strings of at most {limits.tag_characters}")
    return value


def _content(value: object, limits: Limits) -> str:
    if not isinstance(value, str) or len(value) > limits.content_bytes:
        raise RefusedError(f"content must be a string of at most {limits.content_bytes}")
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        content = None
    peer_id = content.get("peerId") if isinstance(content, dict) else None
    if not isinstance(peer_id, str) or not _PEER_ID.match(peer_id):
        raise RefusedError("content must be a JSON object with a peerId of 20 letters and digits")
    return value
