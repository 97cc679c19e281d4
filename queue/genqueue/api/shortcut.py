"""Answers GET /api/stats in front of Django, from the same bytes.

Many clients poll it, and Django's middleware, most of which hops to a thread and back, takes nine
tenths of the time of such a request (`benchmarks/api_stats.py`: 1,449 instead of 143 requests a
second). What needs any of it goes the usual way: other methods, pages of other origins (CORS),
hosts that are not ours.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.http.request import split_domain_port, validate_host

from genqueue.api.stats import newest

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]

PATH = "/api/stats"
HEADERS = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"vary", b"origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class StatsFirst:
    """An ASGI application that answers polls itself and passes everything else on."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] != PATH or scope["method"] != "GET" or not _plain(scope["headers"]):
            await self.application(scope, receive, send)
            return
        try:
            body = await newest.get()
        except DatabaseError:  # Django says and logs it as everywhere else
            await self.application(scope, receive, send)
            return
        headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _plain(headers: list[tuple[bytes, bytes]]) -> bool:
    """Sent to one of our hosts, and not by a page of another origin."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or any(name == b"origin" for name, _ in headers):
        return False
    domain, _port = split_domain_port(hosts[0].decode("latin-1"))
    allowed: list[str] = settings.ALLOWED_HOSTS
    return bool(domain) and validate_host(domain, allowed)
