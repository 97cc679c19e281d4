"""What the address of an exported room page leads to: the room, relays, and which models it has.

    https://host.example/some/where/room.html#kitchen
    https://host.example/some/where/room.html#...-private/?key=...    with its password

The room stands after the #, which is sent to nobody; the rest is read from the page's own host, as
browsers read it.
"""

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import parse_qs, urldefrag, urljoin, urlsplit

import httpx2

from rooms.policy import is_socket
from rooms.remote.address import NotLetInError

_ROOM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PRIVATE: Final = re.compile(r"[A-Za-z0-9_-]{22}-private")
_PASSWORD: Final = re.compile(r"[A-Za-z0-9_-]{22,128}")
_PACKAGE: Final = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES: Final = 2**22  # of the page, and of its list of packages
_MOST_RELAYS: Final = 12
_MOST_PACKAGES: Final = 8  # that one worker may name
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class ExportedRoom:
    page: str  # its address, without what stands after the #
    room: str
    password: str  # "" of a public room


@dataclass(frozen=True, slots=True)
class Package:
    """A model as the page's tabs have it."""

    model: str  # its name there
    model_id: str
    package_id: str


def exported_room(url: str) -> ExportedRoom | None:
    """None for an address with no room after its #. Raises ValueError for a wrong one."""
    page, fragment = urldefrag(url)
    parts = urlsplit(page)
    if not fragment or parts.path.startswith("/rooms/"):
        return None
    way, _, query = fragment.partition("?")
    room = way.partition("/")[0]
    [password] = parse_qs(query).get("key", [""])[:1]
    if parts.scheme not in ("http", "https") or not parts.netloc or not _ROOM.fullmatch(room):
        raise ValueError(
            f"{url!r} is not the address of a room, such as https://example.org/room.html#kitchen"
        )
    _check_entry(room, password)
    return ExportedRoom(page, room, password)


def _check_entry(room: str, password: str) -> None:
    """Twin of `checkEntry` in static/js/room/invitation.js. Raises ValueError."""
    if not _PRIVATE.fullmatch(room):
        if password:
            raise ValueError(
                "The password in this link belongs to no room of this name: private rooms have ids"
                " that end in “-private”."
            )
        return
    if not password:
        raise ValueError(
            "This room is private: its id alone lets nobody in. Ask somebody who is there for the"
            " whole link, which carries the password."
        )
    if not _PASSWORD.fullmatch(password) or private_room(password) != room:
        raise ValueError(
            "The password in this link is not that of this room: copy the link again, to its end."
        )


def private_room(password: str) -> str:
    """The id of its room."""
    digest = hashlib.sha256(f"p2pweb.private-room {password}".encode()).digest()
    return urlsafe_b64encode(digest[:16]).decode().rstrip("=") + "-private"


def relays_of(page: str, *, verify: bool = True) -> list[str]:
    """Those by which the page's tabs find each other. Raises NotLetInError."""
    reader = _Body()
    reader.feed(_fetched(page, verify=verify).decode(errors="replace"))
    found = reader.relays.split()[:_MOST_RELAYS]
    if not found:
        raise NotLetInError(
            f"{page} names no relay, so nobody is met there: --relay names one.", final=True
        )
    return [checked_relay(relay) for relay in found]


def checked_relay(url: str) -> str:
    """Raises NotLetInError."""
    if not is_socket(url):
        raise NotLetInError(f"A relay is given as wss://host/, and not as {url!r}.", final=True)
    return url


def packages_of(page: str, *, verify: bool = True) -> list[Package]:
    """Raises NotLetInError."""
    address = urljoin(page, "packages.json")
    try:
        listed = json.loads(_fetched(address, verify=verify))["packages"]
        found = [_package(entry) for entry in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotLetInError(f"{address} lists no packages of models.", final=True) from error
    return [package for package in found if package is not None]


def choose(packages: list[Package], model_ids: set[str]) -> list[Package]:
    """Those whose weights this machine has. Raises NotLetInError."""
    chosen = [package for package in packages if package.model_id in model_ids][:_MOST_PACKAGES]
    if not chosen:
        names = ", ".join(sorted({package.model for package in packages})) or "none"
        raise NotLetInError(
            f"This machine has none of the room's models ({names}) with the same weights.",
            final=True,
        )
    return chosen


class _Body(HTMLParser):
    relays = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self.relays = dict(attrs).get("data-relays") or ""


def _package(entry: Any) -> Package | None:
    """None for one that nobody has opened yet."""
    ids = entry["model_id"], entry["package_id"]
    known = all(isinstance(id_, str) and _PACKAGE.fullmatch(id_) for id_ in ids)
    return Package(str(entry["model"]), *ids) if known else None


def _fetched(url: str, *, verify: bool) -> bytes:
    try:
        with httpx2.stream(
            "GET", url, timeout=_PATIENCE_SECONDS, verify=verify, follow_redirects=True
        ) as response:
            response.raise_for_status()
            data = b""
            for piece in response.iter_bytes():
                data += piece
                if len(data) > _MOST_BYTES:
                    raise NotLetInError(f"{url} is no such page: it is too long.", final=True)
            return data
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        raise NotLetInError(f"{url} answered {status}.", final=status < 500) from error
    except httpx2.HTTPError as error:
        raise NotLetInError(f"{url} does not answer: {error}", final=False) from error
