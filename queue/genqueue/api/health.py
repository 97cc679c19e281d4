"""GET /api/health: is the site alive, and what does each part say of itself."""

import os
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from ninja import Router
from pydantic import ConfigDict

from genqueue.api.documentation import problems
from genqueue.api.schemas import Shape
from genqueue.models import Worker

router = Router(tags=["Server"])

REDIS_TIMEOUT_SECONDS = 1.0


class Part(Shape):
    status: Literal["ok", "loading", "down"]
    detail: str
    seconds: float | None
    """How long its answer took."""


class HealthJson(Shape):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    status: Literal["ok", "loading", "degraded", "down"]
    """down: no database, nothing works. degraded: jobs are taken, but nobody computes them.
    loading: a worker is loading its model."""
    version: str
    database: Part
    broker: Part
    channel_layer: Part
    worker: Part
    device: str
    """What the server's worker computes on; empty while there is none."""


@router.get(
    "/health",
    response={200: HealthJson, 503: HealthJson},
    summary="Health",
    openapi_extra=problems(),
)
def get_health(request: HttpRequest) -> JsonResponse:
    """503 only without a database; otherwise 200, and the parts say what is wrong."""
    database = _measured(_database)
    redis_part = _measured(_redis) if settings.REDIS_URL else None
    broker = redis_part or _measured(_broker)
    layer = redis_part or Part(status="ok", detail="in memory", seconds=None)
    worker, device = _worker() if database.status == "ok" else (_unknown(), "")
    health = HealthJson(
        status=_overall(database, broker, layer, worker),
        version=settings.VERSION,
        database=database,
        broker=broker,
        channel_layer=layer,
        worker=worker,
        device=device,
    )
    status = HTTPStatus.SERVICE_UNAVAILABLE if health.status == "down" else HTTPStatus.OK
    return JsonResponse(health.model_dump(), status=status, headers={"Cache-Control": "no-store"})


def _overall(
    database: Part, broker: Part, layer: Part, worker: Part
) -> Literal["ok", "loading", "degraded", "down"]:
    if database.status == "down":
        return "down"
    if "down" in (broker.status, layer.status, worker.status):
        return "degraded"
    return "loading" if worker.status == "loading" else "ok"


def _measured(look: Callable[[], str]) -> Part:
    """Failures are named by their kind only: messages may hold addresses and passwords."""
    began = time.perf_counter()
    try:
        detail = look()
    except (DatabaseError, redis.RedisError, OSError) as error:
        return Part(status="down", detail=type(error).__name__, seconds=None)
    return Part(status="ok", detail=detail, seconds=round(time.perf_counter() - began, 4))


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return connection.vendor


def _redis() -> str:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
    )
    try:
        client.ping()
    finally:
        client.close()
    return "redis"


def _broker() -> str:
    scheme, _, _ = settings.CELERY_BROKER_URL.partition(":")
    folder = settings.CELERY_BROKER_TRANSPORT_OPTIONS.get("data_folder_in")
    if folder is not None and not os.access(str(folder), os.W_OK):
        raise PermissionError
    return str(scheme)


def _worker() -> tuple[Part, str]:
    online = list(Worker.objects.online().filter(room__isnull=True))
    ready = [worker for worker in online if worker.state == "ready"]
    device = next((worker.device for worker in ready + online if worker.device), "")
    if ready:
        detail = f"{len(ready)} ready"
        return Part(status="ok", detail=detail, seconds=None), device
    if online:
        return Part(status="loading", detail="loading the model", seconds=None), device
    return Part(status="down", detail="no worker is running", seconds=None), device


def _unknown() -> Part:
    return Part(status="down", detail="unknown without the database", seconds=None)
