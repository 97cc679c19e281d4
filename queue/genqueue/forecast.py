"""Positions and expected times: the order of `fairness`, played forward with measured speeds.

It does not know: jobs that others will add, rooms that will be paused, faults. A job's expected
time is None while one of its kinds of chunk was never measured, or nobody online may work on it.
"""

import heapq
import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from genqueue.fairness import CLEARLY_FASTER
from genqueue.models import Chunk, ChunkKind, Image, Job, Room, Turn, Worker
from genqueue.speeds import Speeds, kind_of
from genqueue.transitions import IMAGE_ENDED, ChunkState, ImageState, JobState

REUSED_FOR_SECONDS = 1.0  # with a long queue
LONG_QUEUE = 50  # unfinished jobs


@dataclass(frozen=True, slots=True)
class Forecast:
    """position: 1 is the next job to start, over all rooms; None once it runs.
    eta_seconds: from now until the job's last image is done, or None."""

    position: int | None
    eta_seconds: float | None


@dataclass(slots=True)
class _Run:
    """One image on one worker, from and to in seconds from now; end None: nobody knows."""

    job: Job
    start: float
    end: float | None


@dataclass(slots=True)
class _Client:
    turn: int
    jobs: deque[tuple[Job, deque[Image]]] = field(default_factory=deque)


@dataclass(slots=True)
class _Room:
    turn: int
    open: bool
    clients: dict[str, _Client] = field(default_factory=dict)


_latest: tuple[float, dict[UUID, Forecast]] | None = None
_lock = threading.Lock()


def forecast(wanted: set[UUID]) -> dict[UUID, Forecast]:
    """What is expected of every unfinished job; fresh, or up to a second old when the queue is
    long and it knows all the wanted jobs."""
    global _latest
    latest = _latest
    if (
        latest is not None
        and time.monotonic() - latest[0] < REUSED_FOR_SECONDS
        and len(latest[1]) >= LONG_QUEUE
        and wanted <= latest[1].keys()
    ):
        return latest[1]
    with _lock:
        result = _Simulation().run()
        _latest = (time.monotonic(), result)
    return result


class _Simulation:
    def __init__(self) -> None:
        self.now = timezone.now()
        self.speeds = Speeds()
        self.turn = time.time_ns()
        self.workers = {w.pk: w for w in Worker.objects.online(self.now).filter(room=None)}
        self.jobs = list(Job.objects.unfinished())
        self.images: dict[UUID, list[Image]] = {}
        of_jobs = Image.objects.filter(job__state__in=[JobState.QUEUED, JobState.RUNNING])
        for image in of_jobs.exclude(state__in=IMAGE_ENDED).order_by("index"):
            self.images.setdefault(image.job_id, []).append(image)
        leased = Chunk.objects.filter(state=ChunkState.LEASED)
        self.leased_encodes = {
            chunk.job_id: chunk for chunk in leased if chunk.kind == ChunkKind.ENCODE
        }
        self.leased_images = {chunk.image_id: chunk for chunk in leased if chunk.image_id}
        # When each worker is free, in seconds from now, and the last image each will have.
        self.free: list[tuple[float, int, UUID]] = []
        self.last: dict[UUID, _Run] = {}
        self.runs: list[_Run] = []
        self.encoded: dict[UUID, float] = {}  # when the other images of a job may begin
        self.positions: dict[UUID, int] = {}

    def run(self) -> dict[UUID, Forecast]:
        busy = self._finish_what_runs()
        self.free = [(busy.get(pk, 0.0), number, pk) for number, pk in enumerate(self.workers)]
        heapq.heapify(self.free)
        rooms = self._line()
        for is_open in (True, False):
            self._serve({pk: room for pk, room in rooms.items() if room.open is is_open})
        self._take_over_the_tail()
        ends: dict[UUID, float | None] = {}
        for run in self.runs:  # a job ends with its last image, and is as unknown as any of them
            known = ends.get(run.job.pk, 0.0)
            unknown = run.end is None or known is None
            ends[run.job.pk] = None if unknown else max(known or 0.0, run.end or 0.0)
        return {
            job.pk: Forecast(self.positions.get(job.pk), _rounded(ends.get(job.pk)))
            for job in self.jobs
        }

    def _finish_what_runs(self) -> dict[UUID, float]:
        """Images that a worker holds are finished by it; returns when each worker is free."""
        busy: dict[UUID, float] = {}
        for job in self.jobs:
            encode = self.leased_encodes.get(job.pk)
            for image in list(self.images.get(job.pk, ())):
                first_of_encoding = encode is not None and image.index == 0
                worker_id = encode.worker_id if encode and first_of_encoding else image.worker_id
                if worker_id not in self.workers:
                    continue  # somebody will go on with it: part of the line
                assert worker_id is not None
                needed = self._image_seconds(job, image, worker_id, with_encode=False)
                if needed is not None and encode is not None and first_of_encoding:
                    encoding = self.speeds.seconds(worker_id, kind_of(ChunkKind.ENCODE, job))
                    encoding = max(0.0, (encoding or 0.0) - self._since(encode.leased_at))
                    self.encoded[job.pk] = encoding
                    needed += encoding
                self.images[job.pk].remove(image)
                busy[worker_id] = self._add_run(job, worker_id, busy.get(worker_id, 0.0), needed)
        return busy

    def _line(self) -> dict[str, _Room]:
        """What waits, by room and client, each client's jobs in order."""
        waiting = Turn.objects.filter(client__in=Job.objects.unfinished().values("client"))
        turns = {(t.room_id, t.client): t.last_turn for t in waiting}
        rooms: dict[str, _Room] = {}
        of_jobs = {job.room_id for job in self.jobs}
        for row in Room.objects.filter(pk__in=of_jobs):
            rooms[row.pk] = _Room(row.last_turn, row.server_helps and not row.paused)
        for job in self.jobs:
            images = self.images.get(job.pk)
            if images:
                clients = rooms[job.room_id].clients
                if job.client not in clients:
                    clients[job.client] = _Client(turns.get((job.room_id, job.client), 0))
                clients[job.client].jobs.append((job, deque(images)))
        return rooms

    def _serve(self, rooms: dict[str, _Room]) -> None:
        waiting = [(room.turn, pk) for pk, room in rooms.items() if room.clients]
        heapq.heapify(waiting)
        while waiting:
            _turn, room_id = heapq.heappop(waiting)
            room = rooms[room_id]
            client_id, client = min(room.clients.items(), key=lambda item: (item[1].turn, item[0]))
            job, images = client.jobs[0]
            if job.state == JobState.QUEUED and job.pk not in self.positions:
                self.positions[job.pk] = len(self.positions) + 1
            self._compute(job, images.popleft(), room.open)
            self.turn += 1
            room.turn = client.turn = self.turn
            if not images:
                client.jobs.popleft()
            if not client.jobs:
                del room.clients[client_id]
            if room.clients:
                heapq.heappush(waiting, (room.turn, room_id))

    def _compute(self, job: Job, image: Image, is_open: bool) -> None:
        if not self.free or not is_open:
            self.runs.append(_Run(job, 0.0, None))
            return
        free_at, number, worker_id = heapq.heappop(self.free)
        with_encode = job.state == JobState.QUEUED and image.index == 0
        needed = self._image_seconds(job, image, worker_id, with_encode)
        if with_encode:
            encode = self.speeds.seconds(worker_id, kind_of(ChunkKind.ENCODE, job))
            self.encoded[job.pk] = free_at + (encode or 0.0)
        else:
            free_at = max(free_at, self.encoded.get(job.pk, 0.0))
        heapq.heappush(
            self.free, (self._add_run(job, worker_id, free_at, needed), number, worker_id)
        )

    def _add_run(self, job: Job, worker_id: UUID, start: float, needed: float | None) -> float:
        """Returns when the worker is free again; one of unknown length counts as none."""
        run = _Run(job, start, None if needed is None else start + needed)
        self.runs.append(run)
        self.last[worker_id] = run
        return start if run.end is None else run.end

    def _take_over_the_tail(self) -> None:
        """With nothing left to begin, a clearly faster worker takes images over between chunks."""
        while self.free:
            free_at, number, fast = heapq.heappop(self.free)
            slow = max(
                (pk for pk in self.last if (self.last[pk].end or 0.0) > free_at),
                key=lambda pk: self.last[pk].end or 0.0,
                default=None,
            )
            if slow is None:
                return
            run = self.last[slow]
            kind = kind_of(ChunkKind.DENOISE, run.job)
            theirs, ours = self.speeds.seconds(slow, kind), self.speeds.seconds(fast, kind)
            if not theirs or not ours or ours * CLEARLY_FASTER >= theirs or run.end is None:
                continue
            chunk = theirs * max(1, round(settings.CHUNK_SECONDS / theirs))
            takes_over_at = run.start + chunk * math.ceil(max(0.0, free_at - run.start) / chunk)
            if takes_over_at < run.end:
                run.end = takes_over_at + (run.end - takes_over_at) * ours / theirs
                heapq.heappush(self.free, (run.end, number, fast))
                del self.last[slow]

    def _image_seconds(
        self, job: Job, image: Image, worker_id: UUID, with_encode: bool
    ) -> float | None:
        step = self.speeds.seconds(worker_id, kind_of(ChunkKind.DENOISE, job))
        decode = self.speeds.seconds(worker_id, kind_of(ChunkKind.DECODE, job))
        encode = self.speeds.seconds(worker_id, kind_of(ChunkKind.ENCODE, job))
        if step is None or decode is None or (with_encode and encode is None):
            return None
        needed = (job.steps - image.step) * step + decode
        if with_encode and encode is not None:
            needed += encode
        chunk = self.leased_images.get(image.pk)
        if chunk is not None and image.state == ImageState.RUNNING:
            done = (image.step - chunk.start) * step
            needed -= min(max(0.0, self._since(chunk.leased_at) - done), max(step, decode))
        return max(needed, 0.0)

    def _since(self, moment: datetime | None) -> float:
        return (self.now - moment).total_seconds() if moment else 0.0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def forget() -> None:
    """The next forecast is made anew (tests)."""
    global _latest
    _latest = None
