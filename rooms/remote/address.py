"""Where a room is, and how a helper asks to be let in."""

import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2

_ROOM_PATH: Final = re.compile(r"/rooms/([A-Za-z0-9_-]{1,64})/?")
_PATIENCE_SECONDS: Final = 120.0  # a server that hashes its models for the first time


class NotLetInError(Exception):
    """str() is a sentence for people. final: asking again would not help."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True)
class RoomAddress:
    site: str  # "https://example.org"
    room: str


@dataclass(frozen=True, slots=True)
class Admission:
    """models: names that the server gives to what this helper has, with their ids."""

    worker_id: str
    token: str
    socket: str
    models: dict[str, str]
    hello: dict[str, Any] = field(default_factory=dict)  # `join` has told already who this is


def room_address(url: str) -> RoomAddress:
    """Of a room's page, as people copy it from the browser. Raises ValueError."""
    parts = urlsplit(url)
    found = _ROOM_PATH.fullmatch(parts.path)
    if parts.scheme not in ("http", "https") or not parts.netloc or found is None:
        raise ValueError(
            f"{url!r} is not the address of a room, such as https://example.org/rooms/kitchen/"
        )
    if "key" in parse_qs(parts.fragment, keep_blank_values=True):
        raise ValueError(
            "Rooms of a site have no password: a private room is one of exported pages."
        )
    return RoomAddress(f"{parts.scheme}://{parts.netloc}", found[1])


def join(address: RoomAddress, described: dict[str, Any], *, verify: bool = True) -> Admission:
    """`POST /api/join/{room}` with the description of a worker.

    verify: whether the server's certificate must be known to this machine; that of `serve --lan`
    is not. Raises NotLetInError.
    """
    url = f"{address.site}/api/join/{address.room}"
    try:
        response = httpx2.post(url, json=described, timeout=_PATIENCE_SECONDS, verify=verify)
        answer = response.json()
    except httpx2.HTTPError as error:
        raise NotLetInError(f"{address.site} does not answer: {error}", final=False) from error
    except ValueError as error:
        raise NotLetInError(f"{address.site} is no such site.", final=True) from error
    if response.status_code != httpx2.codes.CREATED:
        detail = answer.get("detail") if isinstance(answer, dict) else None
        known = response.status_code < 500 and response.status_code != 429
        raise NotLetInError(str(detail or f"It answered {response.status_code}."), final=known)
    helper = answer["helper"]
    return Admission(helper["id"], helper["token"], helper["socket"], helper["models"])
