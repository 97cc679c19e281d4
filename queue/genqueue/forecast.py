"""Positions and expected times: the queue as it is now, played forward with measured speeds.

It does not know: jobs that others will add, rooms that will be paused or resumed, faults, checks,
workers that will come or go, how long it takes to load another model, and that a worker which puts
its own person's jobs first leaves another's image for them at the end of a chunk. A job's expected
time is None while a kind of chunk that it waits for was never measured, and while nobody who is
ready may do it.
"""

import threading
import time
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple
from uuid import UUID

from django.utils import timezone

from genqueue.kinds import ChunkKind
from genqueue.models import Chunk, Image, Job, Room, Turn, Worker
from genqueue.simulation import Hand, Line, Pace, Picture, Place, Play, Run, Task
from genqueue.speeds import Kind, Speeds, kind_of, portion
from genqueue.transitions import (
    CHUNK_LIVE,
    ChunkState,
    ImageState,
    JobState,
    WorkerState,
)

REUSED_FOR_SECONDS = 1.0  # with a long queue
LONG_QUEUE = 50  # unfinished jobs


@dataclass(frozen=True, slots=True)
class Forecast:
    """position: 1 is the next job to start, over all rooms; None once it runs.
    eta_seconds: from now until the job's last image is done, or None.
    waits_for_model: there are workers that may do it, and none of them has its model."""

    position: int | None
    eta_seconds: float | None
    waits_for_model: bool


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
        result = _Scene().play()
        _latest = (time.monotonic(), result)
    return result


def forget() -> None:
    """The next forecast is made anew (tests)."""
    global _latest
    _latest = None


class _Scene:
    """Reads the queue, and puts everybody and everything into their places."""

    def __init__(self) -> None:
        self.now = timezone.now()
        self.speeds = Speeds()
        jobs = list(Job.objects.unfinished())
        of_jobs = Room.objects.filter(pk__in=Job.objects.unfinished().values("room"))
        self.rooms = {room.pk: room for room in of_jobs}
        self.lines = {paused: self._line(paused) for paused in (False, True)}
        self.online = list(Worker.objects.online(self.now).order_by("pk"))
        self.hands = {w.pk: self._hand(w) for w in self.online if w.state == WorkerState.READY}
        # A job that has ended since the first of these readings has no room any more.
        self.tasks = {job.pk: self._task(job) for job in jobs if job.room_id in self.rooms}
        self.runs: list[Run] = []
        self.busy: set[Hand] = set()
        self.orphans: list[Picture] = []
        self._place_images()

    def play(self) -> dict[UUID, Forecast]:
        play = Play(self.lines[False], self.hands.values(), self.runs, self.orphans)
        play.to_the_end()
        for line in (self.lines[False], self.lines[True]):
            play.begin_in_turn(line)
        return {
            pk: Forecast(task.position, _rounded(task.ends), self._waits_for_model(task))
            for pk, task in self.tasks.items()
        }

    def _waits_for_model(self, task: Task) -> bool:
        helpers = self._helpers(task.room)
        return bool(helpers) and not any(task.model in helper.model_names for helper in helpers)

    def _helpers(self, room_id: str) -> list[Worker]:
        served = self.rooms[room_id].server_helps
        return [w for w in self.online if (served if w.room_id is None else w.room_id == room_id)]

    def _line(self, paused: bool) -> Line:
        places = {
            room.pk: Place(room.last_turn) for room in self.rooms.values() if room.paused is paused
        }
        for turn in Turn.objects.filter(client__in=Job.objects.unfinished().values("client")):
            if turn.room_id in places:
                places[turn.room_id].turns[turn.client] = turn.last_turn
        return Line(places)

    def _hand(self, worker: Worker) -> Hand:
        return Hand(
            models=frozenset(worker.model_names),
            paces=cache(partial(self._pace, worker.pk)),
            room=worker.room_id,
            own=worker.client if worker.own_first else None,
        )

    def _pace(self, worker_id: UUID, kinds: "_Kinds") -> Pace:
        step = self.speeds.seconds(worker_id, kinds.denoise)
        return Pace(
            encode=self.speeds.seconds(worker_id, kinds.encode),
            step=step,
            compared=self.speeds.compared(worker_id, kinds.denoise),
            decode=self.speeds.seconds(worker_id, kinds.decode),
            first=portion(self.speeds.measured(worker_id, kinds.denoise)),
            further=portion(step),
        )

    def _task(self, job: Job) -> Task:
        return Task(
            room=job.room_id,
            client=job.client,
            model=job.model,
            kind=_Kinds(*(kind_of(kind, job) for kind in _Kinds._fields)),
            steps=job.steps,
            helped=self.rooms[job.room_id].server_helps,
            queued=job.state == JobState.QUEUED,
        )

    def _place_images(self) -> None:
        unfinished = Image.objects.filter(state__in=[ImageState.QUEUED, ImageState.RUNNING])
        images = {
            image.pk: image for image in unfinished.order_by("index") if image.job_id in self.tasks
        }
        pictures = {}
        for image in images.values():
            task = self.tasks[image.job_id]
            pictures[image.pk] = Picture(task, image.step)
            task.pictures.append(pictures[image.pk])
            if image.picture:  # it waits for a check, which is not foreseen
                pictures[image.pk].ends = 0.0
        live = Chunk.objects.filter(state__in=CHUNK_LIVE)
        for chunk in live.order_by("created_at", "pk"):
            of_job = self.tasks.get(chunk.job_id)
            if of_job and of_job.pictures and chunk.kind == ChunkKind.ENCODE:
                of_job.to_encode = not self._is_run(chunk, of_job.pictures[0])
            elif chunk.image_id in images and not self._is_run(chunk, pictures[chunk.image_id]):
                self._place(images[chunk.image_id], pictures[chunk.image_id])
        for task in self.tasks.values():
            if task.to_encode or task.waiting:
                self.lines[self.rooms[task.room].paused].add(task)

    def _is_run(self, chunk: Chunk, picture: Picture) -> bool:
        """Whether somebody computes this chunk now, and is there to do so."""
        hand = self.hands.get(chunk.worker_id) if chunk.worker_id else None
        if chunk.state != ChunkState.LEASED or hand is None or hand in self.busy:
            return False
        task = picture.task
        may_go_on = hand.can(task) and not self.rooms[task.room].paused
        run = Run(hand, picture, begin=0.0, only_chunk=not may_go_on)
        since = (self.now - (chunk.leased_at or self.now)).total_seconds()
        if chunk.kind == ChunkKind.ENCODE:
            run.encodes, run.known = True, run.pace.encode is not None
            run.encoding = max(0.0, (run.pace.encode or 0.0) - since)
        elif chunk.kind == ChunkKind.DENOISE:
            # Every step is reported, so no more than one can have been done since the last report.
            a_step = run.pace.step or 0.0
            run.begin = -min(max(0.0, since - (picture.step - chunk.start) * a_step), a_step)
            run.leased_to = chunk.stop
        else:
            picture.step, run.decoded = task.steps, since
        self.busy.add(hand)
        self.runs.append(run)
        return True

    def _place(self, image: Image, picture: Picture) -> None:
        """An image whose next chunk waits: for its worker, for anybody, or for its turn."""
        task = picture.task
        keeper = self.hands.get(image.worker_id) if image.worker_id else None
        if image.state == ImageState.QUEUED and image.worker_id is None:
            task.waiting.append(picture)
        elif self.rooms[task.room].paused:
            return
        elif keeper is not None and keeper.can(task):
            keeper.kept.append(picture)
        else:
            self.orphans.append(picture)


class _Kinds(NamedTuple):
    """What a job is made of, as `speeds` measures it."""

    encode: Kind
    denoise: Kind
    decode: Kind


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
