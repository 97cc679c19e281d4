"""GET /api/stats: statistics for everybody who polls, from bytes made at most once a second.

`api.shortcut` answers most polls from the same bytes, in front of Django. While newer bytes are
being made, callers get the ones before, as long as they are a few seconds old at most; nobody waits
behind a busy database.
"""

import asyncio
import json
import time

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from ninja import Router

from genqueue import statistics
from genqueue.api.documentation import problems
from genqueue.shapes import StatsJson

router = Router(tags=["Server"])

FRESH_FOR_SECONDS = 1.0
USABLE_FOR_SECONDS = 5.0


class Bytes:
    """The newest statistics of this process, serialised."""

    def __init__(self) -> None:
        self._bytes = b""
        self._made_at = float("-inf")
        self._refresh: asyncio.Task[None] | None = None

    async def get(self) -> bytes:
        age = time.monotonic() - self._made_at
        if age > USABLE_FOR_SECONDS:
            self._keep(await sync_to_async(_snapshot)())
        elif age > FRESH_FOR_SECONDS and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._renew())
        return self._bytes

    def forget(self) -> None:
        """As after start."""
        self._made_at = float("-inf")

    async def _renew(self) -> None:
        # A thread of its own: that of the request ends with the request.
        self._keep(await sync_to_async(_snapshot_of_thread, thread_sensitive=False)())

    def _keep(self, made: bytes) -> None:
        self._bytes = made
        self._made_at = time.monotonic()


newest = Bytes()


@router.get("/stats", response=StatsJson, summary="Statistics", openapi_extra=problems())
async def get_stats(request: HttpRequest) -> HttpResponse:
    """Cheap enough to poll every second. Never older than a few seconds."""
    return HttpResponse(
        await newest.get(),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _snapshot() -> bytes:
    return json.dumps(statistics.snapshot()).encode()


def _snapshot_of_thread() -> bytes:
    try:
        return _snapshot()
    finally:
        close_old_connections()
