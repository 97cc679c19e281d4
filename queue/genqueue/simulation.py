"""The queue played forward: who computes which image when, by the rules of `fairness`.

Times are seconds from now. Nothing here reads the database or a clock; `forecast` sets the scene.

A worker keeps an image until it is done, so what happens next is mostly the end of an image. The
ends of chunks in between matter only while somebody clearly faster has nothing to do: there it
takes over.

Where a speed was never measured, time stands still: the order goes on, and whatever that worker
does from then on ends at an unknown time.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from genqueue.speeds import Portion
from genqueue.tail import CLEARLY_FASTER


@dataclass(frozen=True, slots=True)
class Pace:
    """How one worker does one job: seconds of its encoding, of a step and of a decoding, each None
    while it is not known; steps of the worker's first range and of those that follow.

    compared: the seconds of a step by which it is known to be faster than another, or slower.
    """

    encode: float | None
    step: float | None
    compared: float | None
    decode: float | None
    first: Portion
    further: Portion


@dataclass(slots=True, eq=False)
class Picture:
    """An image of which `step` steps are done. ends: None while that is not known."""

    task: "Task"
    step: int = 0
    ends: float | None = None


@dataclass(slots=True, eq=False)
class Task:
    """A job with those of its images that are not finished.

    kind: what a worker's pace depends on.
    queued: nobody has ever begun it; then it gets a position in the order in which jobs begin.
    to_encode: its encoding waits.  waiting: its images that nobody has begun, once it is encoded.
    helped: the server's workers may do it.  known: so is the time at which it is encoded.
    """

    room: str
    client: str
    model: str
    kind: Hashable
    steps: int
    helped: bool = True
    queued: bool = False
    to_encode: bool = False
    pictures: list[Picture] = field(default_factory=list)
    waiting: deque[Picture] = field(default_factory=deque)
    position: int | None = None
    known: bool = True

    @property
    def ends(self) -> float | None:
        """With its last image; as unknown as any of them."""
        last = 0.0
        for picture in self.pictures:
            if picture.ends is None:
                return None
            last = max(last, picture.ends)
        return last


@dataclass(slots=True, eq=False)
class Hand:
    """A worker that is ready. room: the only one where it helps, or None for the server's own.

    paces: by the kind of a job.
    own: the client whose jobs it does before all others, or None.
    kept: images whose next chunk waits for it.  lost_count: it did something of unknown length.
    """

    models: frozenset[str]
    paces: Callable[[Any], Pace]
    room: str | None = None
    own: str | None = None
    kept: deque[Picture] = field(default_factory=deque)
    lost_count: bool = False

    def pace(self, task: Task) -> Pace:
        return self.paces(task.kind)

    def can(self, task: Task) -> bool:
        helps = task.helped if self.room is None else self.room == task.room
        return helps and task.model in self.models

    def prefers(self, task: Task) -> bool:
        return task.client == self.own and self.can(task)

    def clearly_faster(self, other: "Hand", task: Task) -> bool:
        ours, theirs = self.pace(task).compared, other.pace(task).compared
        return ours is not None and theirs is not None and ours * CLEARLY_FASTER < theirs


@dataclass(slots=True, eq=False)
class Run:
    """An image at one worker, until it is done or until another one takes over.

    begin: when it began, or the step at hand did.  encodes, encoding: whether its job's encoding
    comes first, and its seconds.  leased_to: the step at which the chunk at hand ends.
    decoded: seconds of decoding already done.  only_chunk: what follows the chunk at hand may not
    be begun (the room is paused).  known: so is when its steps begin.
    """

    hand: Hand
    picture: Picture
    begin: float
    encodes: bool = False
    encoding: float = 0.0
    leased_to: int | None = None
    decoded: float = 0.0
    only_chunk: bool = False
    known: bool = True
    watched: bool = False
    over: bool = False
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.pace = self.hand.pace(self.picture.task)

    @property
    def stepping(self) -> float:
        return self.begin + self.encoding

    @property
    def decodes(self) -> bool:
        return not self.only_chunk or self.picture.step == self.picture.task.steps

    @property
    def end(self) -> float:
        steps = self.picture.task.steps
        if self.only_chunk:
            steps = self.leased_to or self.picture.step
        decode = (self.pace.decode or 0.0) - self.decoded if self.decodes else 0.0
        return (
            self.stepping + (steps - self.picture.step) * (self.pace.step or 0.0) + max(0.0, decode)
        )

    @property
    def end_is_known(self) -> bool:
        stepped = self.pace.step is not None or self.picture.step == self.picture.task.steps
        return self.known and stepped and self.pace.decode is not None

    def next_chunk(self, time: float) -> tuple[float, int] | None:
        """When the next chunk of steps begins, not before `time`, and with which step."""
        if self.only_chunk or not self.pace.step:
            return None
        step, end = self.picture.step, self.picture.task.steps
        position = step + (time - self.stepping) / self.pace.step - 1e-9
        if position > step or self.leased_to is not None:
            step = self.leased_to or step + self.pace.first.of(end - step)
            if position > step:
                further = self.pace.further
                whole = math.ceil((position - step) / further.steps) - 1
                step += whole * further.steps
                step += further.of(end - step)
        if step >= end:
            return None
        return max(time, self.stepping + (step - self.picture.step) * self.pace.step), step


@dataclass(slots=True)
class _Client:
    turn: int
    tasks: list[Task] = field(default_factory=list)


@dataclass(slots=True)
class Place:
    """A room in the line. turn, turns: when it and each of its clients were last served; waiting:
    how much nobody has begun."""

    turn: int
    turns: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    clients: dict[str, _Client] = field(default_factory=dict)

    def first(self, suits: Callable[[Task], bool]) -> tuple[_Client, Task] | None:
        for _name, client in sorted(self.clients.items(), key=lambda item: (item[1].turn, item[0])):
            for task in client.tasks:
                if (task.to_encode or task.waiting) and suits(task):
                    return client, task
        return None


class Line:
    """What nobody has begun: the room served least recently, in it the client, then its jobs in the
    order in which they were added, then their images."""

    def __init__(self, rooms: dict[str, Place]) -> None:
        self.rooms = rooms
        self._turns = count(
            1 + max((max(room.turn, *room.turns.values(), 0) for room in rooms.values()), default=0)
        )
        self._open: list[tuple[int, str]] = []  # a heap: the rooms where something waits

    def add(self, task: Task) -> None:
        """A job with its encoding or its images to begin."""
        room = self.rooms[task.room]
        if task.client not in room.clients:
            room.clients[task.client] = _Client(room.turns.get(task.client, 0))
        tasks = room.clients[task.client].tasks
        if task not in tasks:
            tasks.append(task)
        if room.waiting == 0:
            heapq.heappush(self._open, (room.turn, task.room))
        room.waiting += task.to_encode + len(task.waiting)

    def take(self, suits: Callable[[Task], bool]) -> tuple[Picture, bool] | None:
        """The next image of a job that suits, and whether it begins with the encoding. That was a
        turn of its room and its client."""
        passed_over = []
        taken = None
        while self._open and taken is None:
            turn, name = heapq.heappop(self._open)
            room = self.rooms[name]
            found = room.first(suits)
            if found is None:
                passed_over.append((turn, name))
                continue
            client, task = found
            taken = (task.pictures[0], True) if task.to_encode else (task.waiting.popleft(), False)
            task.to_encode = False
            room.waiting -= 1
            room.turn = client.turn = next(self._turns)
            if room.waiting:
                heapq.heappush(self._open, (room.turn, name))
        for entry in passed_over:
            heapq.heappush(self._open, entry)
        return taken

    def first(self, room: str | None, suits: Callable[[Task], bool]) -> Task | None:
        """The job in this room of which `take` would give the next image."""
        place = self.rooms.get(room) if room is not None else None
        found = place.first(suits) if place is not None else None
        return found[1] if found is not None else None

    def encoded(self, task: Task) -> None:
        """Who encoded goes on with the first image; the others may be begun."""
        task.waiting.extend(task.pictures[1:])
        if task.waiting:
            self.add(task)


Event = Literal["encoded", "chunk", "end"]


class Play:
    """line: what may be begun.  runs: what runs.  orphans: images begun, and held by nobody."""

    def __init__(
        self, line: Line, hands: Iterable[Hand], runs: Iterable[Run], orphans: Iterable[Picture]
    ) -> None:
        self.line = line
        self.orphans = list(orphans)
        self.idle = list(hands)
        self.runs: set[Run] = set()
        self._positions = count(1)
        self._events: list[tuple[float, int, Event, Run]] = []
        self._number = count()
        for run in runs:
            self._begin(run)

    def to_the_end(self) -> None:
        """Writes `ends` of every picture that will be done, and the jobs' positions."""
        self._hand_out(0.0)
        while self._events:
            time, _number, event, run = heapq.heappop(self._events)
            if run.over:
                continue
            if event == "encoded":
                self._encoded(run)
            elif event == "chunk":
                self._take_over(run, time)
            else:
                self._end(run, time)
            self._hand_out(time)

    def begin_in_turn(self, line: Line) -> None:
        """Number the jobs that nobody can do now, in the order in which they will begin."""
        while (taken := line.take(lambda task: True)) is not None:
            picture, encodes = taken
            if encodes:
                self._number_task(picture.task)
                line.encoded(picture.task)

    def _hand_out(self, time: float) -> None:
        """Whoever is idle begins something; the fastest is served first."""
        self._begin_own(time)
        for hand in [hand for hand in self.idle if hand.kept]:
            self._start(hand, hand.kept.popleft(), time)
        for picture in list(self.orphans):
            able = self._fastest(picture.task)
            if able is not None:
                self.orphans.remove(picture)
                self._start(able, picture, time)
        while self.idle:
            taken = self.line.take(lambda task: any(hand.can(task) for hand in self.idle))
            if taken is None:
                break
            picture, encodes = taken
            able = self._fastest(picture.task)
            assert able is not None, "it suits one of them"
            self._start(able, picture, time, encodes)
            self._begin_own(time)
        self._watch(time)

    def _begin_own(self, time: float) -> None:
        """Whoever puts its own person's first begins that, unless somebody idle is clearly faster:
        that one chooses before it."""
        for hand in [hand for hand in self.idle if hand.own is not None]:
            begun = (picture for picture in hand.kept if hand.prefers(picture.task))
            left = (picture for picture in self.orphans if hand.prefers(picture.task))
            if (kept := next(begun, None)) is not None:
                hand.kept.remove(kept)
                self._start(hand, kept, time)
            elif (orphan := next(left, None)) is not None:
                self.orphans.remove(orphan)
                self._start(hand, orphan, time)
            elif self._chooses(hand) and (taken := self.line.take(hand.prefers)) is not None:
                picture, encodes = taken
                self._start(hand, picture, time, encodes)

    def _chooses(self, hand: Hand) -> bool:
        """Whether nobody idle would begin what this one puts first, before it, by being faster."""
        waits = self.line.first(hand.room, hand.prefers)
        return waits is not None and self._fastest(waits, than=hand) is None

    def _fastest(self, task: Task, than: Hand | None = None) -> Hand | None:
        able = [
            hand
            for hand in self.idle
            if hand.can(task) and (than is None or hand.clearly_faster(than, task))
        ]
        return min(able, key=lambda hand: hand.pace(task).step or math.inf, default=None)

    def _start(self, hand: Hand, picture: Picture, time: float, encodes: bool = False) -> None:
        if encodes:
            self._number_task(picture.task)
        encode = hand.pace(picture.task).encode if encodes else 0.0
        known = picture.task.known and encode is not None
        self._begin(Run(hand, picture, time, encodes, encode or 0.0, known=known))

    def _begin(self, run: Run) -> None:
        run.known &= not run.hand.lost_count
        self.idle.remove(run.hand)
        self.runs.add(run)
        if run.encodes:
            self._at(run.stepping, "encoded", run)
        self._at(run.end, "end", run)

    def _encoded(self, run: Run) -> None:
        task = run.picture.task
        task.known = run.known
        if not run.only_chunk:
            self.line.encoded(task)

    def _end(self, run: Run, time: float) -> None:
        if run.end_is_known and run.decodes:
            run.picture.ends = time
        run.hand.lost_count |= not run.end_is_known
        self._free(run)

    def _free(self, run: Run) -> None:
        run.over = True
        self.runs.remove(run)
        self.idle.append(run.hand)

    def _watch(self, time: float) -> None:
        """Where a run could be taken over next by somebody who is idle now."""
        for run in self.runs:
            if not run.watched and self._fastest(run.picture.task, than=run.hand) is not None:
                chunk = run.next_chunk(time)
                if chunk is not None:
                    run.watched = True
                    self._at(chunk[0], "chunk", run)

    def _take_over(self, run: Run, time: float) -> None:
        run.watched = False
        hand = self._fastest(run.picture.task, than=run.hand)
        chunk = run.next_chunk(time)
        if hand is None or chunk is None:
            return
        run.hand.lost_count |= not run.known
        self._free(run)
        run.picture.step = chunk[1]
        self._begin(Run(hand, run.picture, time, known=run.known))

    def _number_task(self, task: Task) -> None:
        if task.queued and task.position is None:
            task.position = next(self._positions)

    def _at(self, time: float, event: Event, run: Run) -> None:
        heapq.heappush(self._events, (max(0.0, time), next(self._number), event, run))
