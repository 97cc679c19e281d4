"""Statistics of the whole server, read from the database at most once a second per process.

Times are of the newest 500 jobs. `images_in_all` and `steps_in_all` also count what was removed.
No reading looks at all rows, but for the number of ended ones, which is counted the more seldom the
longer that takes.
"""

import threading
import time
from datetime import datetime, timedelta
from typing import get_args

from django.conf import settings
from django.db.models import Count, F, Model, QuerySet, Sum
from django.utils import timezone

from genqueue import presence
from genqueue.kinds import ChunkKind
from genqueue.models import Chunk, Image, Job, Room, Tally, Worker
from genqueue.shapes import SpreadJson, State, StatsJson
from genqueue.transitions import JOB_ENDED, ChunkState, ImageState, JobState

REUSED_FOR_SECONDS = 1.0
NEWEST_JOBS = 500
COUNTING_PAUSE = 19  # times as long as the counting took


_started = time.monotonic()
_lock = threading.Lock()
_latest: tuple[float, StatsJson] | None = None
_ended_counts: dict[type[Model], tuple[float, dict[str, int]]] = {}  # (when to count again, last)


def snapshot() -> StatsJson:
    """The newest statistics, at most a second old. One caller reads them, the others wait."""
    global _latest
    with _lock:
        if _latest is None or time.monotonic() - _latest[0] >= REUSED_FOR_SECONDS:
            _latest = (time.monotonic(), _read())
        return _latest[1]


def forget() -> None:
    """The next snapshot reads anew (tests)."""
    global _latest
    _latest = None
    _ended_counts.clear()


def _read() -> StatsJson:
    now = timezone.now()
    minute_ago = now - timedelta(minutes=1)
    tally = Tally.objects.filter(pk=1).first() or Tally()
    rooms_online, peers = presence.rooms_and_peers()
    done_lately = Image.objects.filter(finished_at__gte=minute_ago, state=ImageState.DONE)
    return StatsJson(
        rooms=Room.objects.count(),
        rooms_online=rooms_online,
        peers_online=peers,
        helpers_online=Worker.objects.online(now).exclude(kind="tab").count(),
        jobs=_by_state(Job.objects.order_by()),
        images=_by_state(Image.objects.order_by()),
        images_last_minute=done_lately.count(),
        images_in_all=tally.images_done,
        steps_last_minute=_steps_since(minute_ago),
        steps_in_all=tally.steps_done,
        wait_seconds=_spread(
            Job.objects.filter(started_at__isnull=False).order_by("-started_at"), "created_at",
            "started_at",
        ),
        run_seconds=_spread(
            Job.objects.filter(state=JobState.DONE).order_by("-finished_at"), "started_at",
            "finished_at",
        ),
        uptime_seconds=round(time.monotonic() - _started, 1),
        version=settings.VERSION,
    )  # fmt: skip


def _by_state(rows: "QuerySet[Job] | QuerySet[Image]") -> dict[State, int]:
    live = rows.filter(state__in=[JobState.QUEUED, JobState.RUNNING])  # images' are named alike
    found = _ended(rows.filter(state__in=JOB_ENDED)) | _counted(live)
    return {state: found.get(state, 0) for state in get_args(State)}


def _ended(rows: "QuerySet[Job] | QuerySet[Image]") -> dict[str, int]:
    """How many there are, or were lately: there may be millions. A twentieth of the time at most
    is spent on counting them, so the more there are, the less up to date is their number.
    """
    again_at, counted = _ended_counts.get(rows.model, (0.0, {}))
    began = time.monotonic()
    if began >= again_at:
        counted = _counted(rows)
        now = time.monotonic()
        _ended_counts[rows.model] = now + COUNTING_PAUSE * (now - began), counted
    return counted


def _counted(rows: "QuerySet[Job] | QuerySet[Image]") -> dict[str, int]:
    return dict(rows.values_list("state").annotate(number=Count("*")))


def _steps_since(moment: datetime) -> int:
    chunks = Chunk.objects.filter(
        finished_at__gte=moment, state=ChunkState.DONE, kind=ChunkKind.DENOISE
    )
    steps: int | None = chunks.aggregate(steps=Sum(F("stop") - F("start")))["steps"]
    return steps or 0


def _spread(jobs: "QuerySet[Job]", begin: str, end: str) -> SpreadJson:
    pairs = jobs.values_list(begin, end)[:NEWEST_JOBS]
    seconds = sorted((last - first).total_seconds() for first, last in pairs)
    if not seconds:
        return SpreadJson(median=None, p95=None)
    return SpreadJson(
        median=round(seconds[len(seconds) // 2], 3),
        p95=round(seconds[int(0.95 * (len(seconds) - 1))], 3),
    )
