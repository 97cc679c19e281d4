"""Who may do what, and how often, before the queue's own limits count.

- Unsafe calls from pages of another site are refused, unless the CORS settings allow that site.
- Callers without a cookie are new clients each time, so they share a budget of jobs by address.
- Anybody can make a room, so everybody at one address shares a budget of rooms.

Budgets are counted in the cache of each site process.
"""

import hashlib
import time
from http import HTTPStatus

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest

from genqueue import clients
from genqueue.models import Room
from genqueue.networks import network_of
from genqueue.problems import Problem


def refuse_other_sites(request: HttpRequest) -> None:
    """Problem 403 when a browser says that a page of another origin sent this.

    Browsers set Sec-Fetch-Site and Origin themselves; callers that are no browsers send neither.
    """
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    if site in ("same-origin", "none"):
        return
    if origin is None:
        if site is None:
            return
    elif _same_origin(request, origin) or _allowed_by_cors(origin):
        return
    raise Problem(
        "cross-site",
        HTTPStatus.FORBIDDEN,
        "Pages of other sites may not do this; an administrator can allow theirs.",
    )


def _same_origin(request: HttpRequest, origin: str) -> bool:
    own = f"{request.scheme}://{request.get_host()}"
    return origin == own or origin in settings.CSRF_TRUSTED_ORIGINS


def _allowed_by_cors(origin: str) -> bool:
    return bool(settings.CORS_ALLOW_ALL_ORIGINS) or origin in settings.CORS_ALLOWED_ORIGINS


def spend_budget_of_jobs(request: HttpRequest) -> None:
    """Problem 429 when callers without a cookie at this address made too many jobs in a minute.

    A caller that keeps its cookie is one client and has that client's limits instead.
    """
    if clients.known_client(request) is not None:
        return
    limit: int = settings.P2PWEB_LIMITS["jobs_a_minute_without_cookie"]
    _spend(
        _address(request),
        limit,
        "too-many-jobs-without-cookie",
        f"Callers without our cookie may make {limit} jobs a minute from one address. Keep the"
        " cookie that comes with the first answer, or wait.",
    )


def spend_budget_of_rooms(request: HttpRequest, room_id: str | None = None) -> None:
    """Problem 429 when too many rooms were made from this address in a minute.

    room_id: of the room that would be made; nothing is spent when it is there already.
    """
    spend_room_of(_address(request), room_id)


def spend_room_of(address: str, room_id: str | None = None) -> None:
    """The same for a caller at this network address, who may have come by a WebSocket."""
    if room_id is not None and Room.objects.filter(pk=room_id).exists():
        return
    limit: int = settings.P2PWEB_LIMITS["rooms_a_minute"]
    _spend(
        address,
        limit,
        "too-many-rooms",
        f"At most {limit} rooms a minute can be made from one address. Use one of them, or wait.",
    )


def spend_budget_of_helpers(request: HttpRequest) -> None:
    """Problem 429 when too many helpers were described from this address in a minute."""
    limit: int = settings.P2PWEB_LIMITS["helpers_a_minute"]
    _spend(
        _address(request),
        limit,
        "too-many-helpers",
        f"At most {limit} helpers a minute can join from one address. One that has joined opens its"
        " socket again without joining.",
    )


def _address(request: HttpRequest) -> str:
    return request.META.get("REMOTE_ADDR") or "unknown"


def _spend(address: str, limit: int, code: str, detail: str) -> None:
    now = time.time()
    minute = int(now // 60)
    key = f"{code}:{_network(address)}:{minute}"
    cache.add(key, 0, timeout=120)
    try:
        spent = cache.incr(key)
    except ValueError:  # a full cache has dropped it already
        spent = 1
    if spent > limit:
        seconds = max(1, int((minute + 1) * 60 - now) + 1)
        raise Problem(
            code,
            HTTPStatus.TOO_MANY_REQUESTS,
            detail,
            headers={"Retry-After": str(seconds)},
            limit=limit,
        )


def _network(address: str) -> str:
    """A hash of the caller's address or network."""
    return hashlib.sha256(network_of(address).encode()).hexdigest()[:32]
