"""What Trystero 0.25.4 says, as static/js/vendor/trystero-* has it. No input or output here."""

import hashlib
import json
import secrets
from base64 import b64decode, b64encode
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

APP_ID: Final = "p2p-webgpu-diffusion"  # static/js/room/trystero.js
READY, HANDSHAKE, LEAVE = "@_hsready", "@_hsdata", "@_leave"

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_CHARACTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NONCE_BYTES: Final = 16
_ROOM_FRAME: Final = 1
_ACTION_BYTES, _TAG_AT, _PAYLOAD_AT = 32, 34, 36
_LAST, _META, _BINARY, _JSON = 1, 2, 4, 8


class SealError(Exception):
    """It was sealed with another password, or is no sealed text."""


def large_id() -> str:
    """A peer's id that is larger than those of tabs, which begin anyhow: they offer, we answer."""
    return "zzzz" + "".join(secrets.choice(_CHARACTERS) for _ in range(16))


def topic(room: str, peer_id: str = "") -> str:
    """Where a room announces itself, or where one peer of it listens."""
    parts = ["Trystero", APP_ID, room, *([peer_id] if peer_id else [])]
    digest = hashlib.sha1("@".join(parts).encode(), usedforsecurity=False).digest()
    return "".join(_base_36(byte) for byte in digest)


def _base_36(byte: int) -> str:
    high, low = divmod(byte, 36)
    return (_DIGITS[high] if high else "") + _DIGITS[low]


def kind(of_topic: str) -> int:
    """Of the Nostr events of a topic."""
    return 20_000 + sum(map(ord, of_topic)) % 10_000


class Cipher:
    """Offers and answers are sealed with what only those in the room know."""

    def __init__(self, room: str, password: str) -> None:
        self._key = AESGCM(hashlib.sha256(f"{password}:{APP_ID}:{room}".encode()).digest())

    def seal(self, text: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._key.encrypt(nonce, text.encode(), None)
        return f"{','.join(map(str, nonce))}${b64encode(sealed).decode()}"

    def open(self, sealed: str) -> str:
        """Raises SealError."""
        numbers, _, packed = sealed.partition("$")
        try:
            nonce = bytes(int(number) for number in numbers.split(","))
            return self._key.decrypt(nonce, b64decode(packed, validate=True), None).decode()
        except (ValueError, InvalidTag) as error:
            raise SealError("It cannot be read with this room's password.") from error


class Channel:
    """Frames of the data channel that Trystero opens: actions of a room, each in one frame."""

    def __init__(self, room: str) -> None:
        digest = hashlib.sha256(f"Trystero:{APP_ID}:{room}".encode()).hexdigest()
        token = digest.encode()
        self._head = bytes([_ROOM_FRAME]) + len(token).to_bytes(2, "big") + token
        self._number = 0

    def frame(self, action: str, payload: object = "") -> bytes:
        text = isinstance(payload, str)
        body = payload if isinstance(payload, str) else json.dumps(payload)
        tag = _LAST | (0 if text else _JSON)
        name = action.encode().ljust(_ACTION_BYTES, b"\0")
        number = self._number.to_bytes(2, "big")
        self._number = (self._number + 1) % 2**16
        return self._head + name + number + bytes([tag, 255]) + body.encode()

    def read(self, frame: object) -> tuple[str, Any] | None:
        """An action and what it carries; None for what this end has no use for."""
        if not isinstance(frame, bytes) or not frame.startswith(self._head):
            return None
        body = frame[len(self._head) :]
        if (
            len(body) < _PAYLOAD_AT
            or body[_TAG_AT] & (_META | _BINARY)
            or not body[_TAG_AT] & _LAST
        ):
            return None
        try:
            action = body[:_ACTION_BYTES].rstrip(b"\0").decode()
            text = body[_PAYLOAD_AT:].decode()
            return action, json.loads(text) if body[_TAG_AT] & _JSON else text
        except (ValueError, RecursionError):
            return None


def proof(challenge: str, room: str, password: str) -> str:
    """Answers the challenge of the other end of a private room."""
    return hashlib.sha256(f"{challenge}:{password}:{APP_ID}:{room}".encode()).hexdigest()
