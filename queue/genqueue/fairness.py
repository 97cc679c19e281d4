"""Who is next.

The order: the room served least recently, in it the client served least recently, then that
client's jobs in order, then the images of a job in order. One turn is one image (with the
encoding, for the first of a job). A worker stays with its image until it is done, unless its
room was paused or a clearly faster worker is idle: that one also begins before slower ones. When
nearly everything is begun, slow workers leave what they would hold up to faster ones, and these
leave what slow ones can end in time (`tail`).
Checks (`checks`) come first: they are short, and who waits for them waits with a finished picture.

A worker whose person wants it so (`Worker.own_first`) looks among that person's chunks first, by
the same rules, and among all others only when there it finds nothing. So it leaves another's image
at the end of a chunk; whoever is idle may go on with that one. For other workers nothing changes:
what was served so was a turn.

`simulation.py` plays the same order forward, to say positions and expected times.
"""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from genqueue import memory, speeds
from genqueue.check_models import Check
from genqueue.kinds import ChunkKind, WorkerKind
from genqueue.models import Chunk, Image, Job, Room, Turn, Worker
from genqueue.speeds import Kind
from genqueue.tail import CLEARLY_FASTER, Left, Tail, differ
from genqueue.transitions import CHUNK_LIVE, ChunkState, ImageState, WorkerState

# A chunk waits this long for the worker that has its latent in memory. It asks again within
# milliseconds when it is alive.
RESERVED = timedelta(seconds=2)
# With fewer workers nobody waits for one that is busy: `simulation`, which tells people when their
# pictures will be done, knows nothing of it.
MANY_WORKERS = 5
TRUSTED_FIRST = timedelta(seconds=10)  # a check waits so long for one of the server's workers
MOST_OPINIONS = 2  # of untrusted checkers who disagree, before only a trusted one may decide
TURNS_KEPT = timedelta(days=1)


def has_open(worker: Worker) -> bool:
    """Whether there is a chunk that this worker may lease: of models that it has, in rooms where it
    helps, and not left to others."""
    found = _open_to(worker, Now())
    return found.check is not None or found.chunks.exists()


class _Open(NamedTuple):
    """What a worker may lease. chunks: those but the checks; check: of these the oldest; own: the
    newest chunk of an image that it has begun."""

    chunks: QuerySet[Chunk]
    check: Chunk | None
    own: int | None


def _open_to(worker: Worker, now: "Now") -> _Open:
    pending = Chunk.objects.filter(_of_its_jobs(worker), state=ChunkState.PENDING)
    looked_at = Q(faults__gt=0) | Q(kind=ChunkKind.CHECK) | Q(image__worker=worker)
    special, own = [], []
    # Nearly all are none of these: only what is one is read whole.
    rows = pending.filter(looked_at).order_by("created_at", "pk")
    for pk, faults, kind, keeper in rows.values_list("pk", "faults", "kind", "image__worker"):
        if faults or kind == ChunkKind.CHECK:
            special.append(pk)
        if keeper == worker.pk:
            own.append(pk)
    if worker.lacks:
        special += memory.too_large(worker, pending).values_list("pk", flat=True)
    left, check = _looked_at(special, worker, now) if special else ([], None)
    computed = pending.exclude(kind=ChunkKind.CHECK)
    chunks = computed.exclude(pk__in=left) if left else computed
    return _Open(chunks, check, next((pk for pk in reversed(own) if pk not in left), None))


def _looked_at(
    special: Iterable[int], worker: Worker, now: "Now"
) -> tuple[list[int], Chunk | None]:
    """Those that are left to others, and the oldest check that is not."""
    left, oldest = [], None
    chunks = Chunk.objects.filter(pk__in=special).select_related("job__room", "check_of")
    for chunk in chunks.order_by("created_at", "pk"):
        if chunk.check_of is not None and not may_check(worker, chunk.check_of):
            continue
        if _is_left_to_others(worker, chunk, now):
            left.append(chunk.pk)
        elif oldest is None and chunk.check_of is not None:
            oldest = chunk
    return left, oldest


def _of_its_jobs(worker: Worker) -> Q:
    """Of models that it has, in rooms where it helps and that are not paused."""
    its = Q(job__room__paused=False, job__model__in=worker.model_names)
    if worker.room_id is None:
        return its & Q(job__room__server_helps=True)
    its &= Q(job__room_id=worker.room_id)
    return its if worker.kind == WorkerKind.CELERY else its & Q(job__room__tabs_help=True)


def may_check(worker: Worker, check: Check) -> bool:
    """Nobody checks what the same client has handed in."""
    if worker.kind == WorkerKind.CELERY:
        return True
    decided_by_anybody = check.opinions < MOST_OPINIONS
    return decided_by_anybody and worker.client not in (check.client, check.second_client)


def has_checker(check: Check) -> bool:
    """Whether somebody is here who may compute this again."""
    ready = Worker.objects.online().filter(state=WorkerState.READY)
    return any(may_do(worker, check.job) and may_check(worker, check) for worker in ready)


def may_do(worker: Worker, job: Job) -> bool:
    """Whether this worker helps in the job's room and has its model. Twin of `_of_its_jobs`."""
    if worker.room_id is None:
        helps = job.room.server_helps
    else:
        helps = worker.room_id == job.room_id
        helps = helps and (worker.kind == WorkerKind.CELERY or job.room.tabs_help)
    return helps and job.model in worker.model_names


def _is_left_to_others(worker: Worker, chunk: Chunk, now: "Now") -> bool:
    """Whether this worker does not try this chunk while others could.

    - What it has failed at itself: a broken worker is the soonest to ask again, and would fail
      everything.
    - What it had too little memory for. What it has room for, it leaves to nobody who has not: two
      would leave it to each other.
    - The last try, for a tab or a helper while one of the server's workers could do it: they are
      anybody's, and must not be able to fail what others asked for.
    - A young check, for a tab or a helper while one of the server's workers could make it.
    """
    room = memory.has_room(worker, chunk)
    if worker.kind == WorkerKind.CELERY and not chunk.faults and room:
        return False
    able = _able_besides(worker, chunk, now)
    with_room = [other for other in able if memory.has_room(other, chunk)]
    if not room and with_room:
        return True
    able = with_room if room else able
    failed_here = chunk.faults > 0 and chunk.worker_id == worker.pk
    last_try = chunk.faults >= settings.MAX_FAULTS - 1
    ours = [other for other in able if other.kind == WorkerKind.CELERY and other.room_id is None]
    if worker.kind == WorkerKind.CELERY:
        return failed_here and bool(ours if last_try else able)  # the last try is left to us
    young = chunk.kind == ChunkKind.CHECK and timezone.now() - chunk.created_at < TRUSTED_FIRST
    return bool(ours and (last_try or young)) or (failed_here and bool(able))


def _able_besides(worker: Worker, chunk: Chunk, now: "Now") -> list[Worker]:
    able = [other for other in now.besides(worker) if may_do(other, chunk.job)]
    check = chunk.check_of
    return able if check is None else [other for other in able if may_check(other, check)]


def others_have_room(worker: Worker, chunk: Chunk) -> bool:
    """Whether somebody else is here who may do it, and had not too little memory for it."""
    return any(memory.has_room(other, chunk) for other in _able_besides(worker, chunk, Now()))


class Next(NamedTuple):
    """What a worker should lease now. portion: of the steps, where it is a `denoise` chunk."""

    chunk: Chunk
    portion: speeds.Portion | None


def next_chunk(worker: Worker) -> Next | None:
    """The chunk this worker should lease now, or None."""
    now = Now()
    found = _open_to(worker, now)
    if found.check is not None:
        return Next(found.check, None)
    view = _View(worker, found.chunks, now)
    chunks = found.chunks.select_related("job__room", "image")
    own = None
    if found.own is not None:  # of most no more is asked
        own = Chunk.objects.select_related("job").filter(pk=found.own).first()
    chunk = _next_chunk(chunks, own, worker, view)
    if chunk is None:
        return None
    return Next(chunk, view.portion(chunk) if chunk.kind == ChunkKind.DENOISE else None)


def _next_chunk(
    chunks: QuerySet[Chunk], own: Chunk | None, worker: Worker, view: "_View"
) -> Chunk | None:
    if worker.own_first:
        asked_here = own if own is not None and own.job.client == worker.client else None
        first = _next_of(chunks.filter(job__client=worker.client), asked_here, worker, view)
        if first is not None:
            return first
    return _next_of(chunks, own, worker, view)


def _next_of(
    chunks: QuerySet[Chunk], own: Chunk | None, worker: Worker, view: "_View"
) -> Chunk | None:
    """own: of the image that this worker has begun."""
    rivals = view.rivals
    if own is None and not chunks.exists():
        return None
    if own is not None and own.kind != ChunkKind.DENOISE:
        return own  # a decoding: the latent stays where it is
    kept = own is not None and not rivals.take_over(own) and not view.is_late(own, worker.pk)
    if own is not None and kept and view.tail(own) is None:
        return own
    fresh = view.first_fresh(chunks)
    if own is not None and kept:
        return _needed(chunks, fresh, own, view) or own
    orphans = _orphans(chunks).order_by("created_at", "pk")
    if orphans.exists():
        for orphan in orphans:
            if not view.is_late(orphan, worker.pk):
                return orphan
    if fresh is not None and not view.is_late(fresh, worker.pk):
        return None if rivals.want(fresh) else fresh
    return _taken_over(chunks, worker, view)


def _orphans(chunks: QuerySet[Chunk]) -> QuerySet[Chunk]:
    """Of images that somebody has begun and nobody holds."""
    return chunks.filter(image__state=ImageState.RUNNING, image__worker=None)


def _fresh(chunks: QuerySet[Chunk]) -> QuerySet[Chunk]:
    """Images (or encodings) that nobody has begun."""
    fresh = chunks.filter(Q(kind=ChunkKind.ENCODE) | Q(image__state=ImageState.QUEUED))
    return fresh.filter(image__worker=None)


def _in_order(fresh: QuerySet[Chunk]) -> QuerySet[Chunk]:
    client_turn = Turn.objects.filter(room=OuterRef("job__room"), client=OuterRef("job__client"))
    return fresh.annotate(
        turn=Coalesce(Subquery(client_turn.values("last_turn")[:1]), Value(0))
    ).order_by(
        "job__room__last_turn", "job__room_id", "turn", "job__client",
        "job__created_at", "job_id", F("image__index").asc(nulls_first=True),
    )  # fmt: skip


def _taken_over(chunks: QuerySet[Chunk], worker: Worker, view: "_View") -> Chunk | None:
    """An image of another worker: of one that does not come, leaves it, or is clearly slower."""
    held = chunks.exclude(image__worker=None).exclude(image__worker=worker)
    good = []
    for chunk in held.order_by("created_at", "pk"):
        assert chunk.image is not None
        if view.is_late(chunk, worker.pk):
            continue
        if is_young(chunk):
            if chunk.kind != ChunkKind.DENOISE:  # of a decoding the latent stays where it is
                continue
            keeper = chunk.image.worker_id
            slower = view.rivals.clearly_faster(worker.pk, keeper, chunk.job)
            if not (slower or view.is_left(chunk)) or view.rivals.want(chunk):
                continue
        good.append(chunk)
    return view.longest(good)


def _needed(
    chunks: QuerySet[Chunk], fresh: Chunk | None, own: Chunk, view: "_View"
) -> Chunk | None:
    """What this worker leaves its own image for: a longer one that slower workers have left."""
    tail = view.tail(own)
    if tail is None:
        return None
    worker = view.worker
    begun = chunks.filter(kind=ChunkKind.DENOISE)
    begun = begun.exclude(image__state=ImageState.QUEUED, image__worker=None)
    left = [chunk for chunk in begun.order_by("created_at", "pk") if view.is_left(chunk)]
    if fresh is not None and fresh.kind == ChunkKind.DENOISE:
        left.append(fresh)
    return view.longest(
        chunk
        for chunk in left
        if tail.is_needed_at(worker.pk, own.image_id, chunk.image_id)
        and not view.rivals.want(chunk)
    )


def left_for(seconds_a_step: float) -> timedelta:
    """An image is left to faster workers until those that compute must have asked again: a slow
    worker waits as long as its step would take."""
    return RESERVED + timedelta(seconds=max(settings.CHUNK_SECONDS, seconds_a_step))


def is_young(chunk: Chunk) -> bool:
    """Whether it may still wait for a certain worker."""
    return timezone.now() - chunk.created_at <= RESERVED


class _Computed(NamedTuple):
    """A leased chunk."""

    worker_id: UUID
    image_id: int | None
    kind: str
    start: int
    stop: int
    leased_at: datetime


class Now:
    """Who is there and what they compute, read once for a claim."""

    @cached_property
    def ready(self) -> list[Worker]:
        return list(Worker.objects.online().filter(state=WorkerState.READY))

    def besides(self, worker: Worker) -> list[Worker]:
        return [other for other in self.ready if other.pk != worker.pk]

    @cached_property
    def leased(self) -> dict[UUID, _Computed]:
        """What is computed, by worker."""
        leased = Chunk.objects.filter(state=ChunkState.LEASED).order_by()
        rows = map(_Computed._make, leased.values_list(*_Computed._fields))
        return {row.worker_id: row for row in rows}

    def idle(self, workers: Iterable[Worker]) -> list[Worker]:
        """Of these those that hold no lease, nor an image whose next chunk has just become open:
        such a worker is about to ask by itself."""
        others = [worker for worker in workers if worker.pk not in self.leased]
        return [worker for worker in others if worker.pk not in self._keepers] if others else []

    @cached_property
    def _keepers(self) -> set[UUID]:
        kept = Chunk.objects.filter(
            state=ChunkState.PENDING,
            job__room__paused=False,
            image__worker__isnull=False,
            created_at__gte=timezone.now() - RESERVED,
        ).order_by()
        return set(kept.values_list("image__worker_id", flat=True))


class _View:
    """What is left to do, as far as one worker knows, and who had better do it.

    chunks: what is open to it.
    """

    def __init__(self, worker: Worker, chunks: QuerySet[Chunk], now: Now) -> None:
        self.worker = worker
        self.rivals = _Rivals(worker, now)
        self._chunks = chunks
        self._now = now
        self._tails: dict[tuple[str, Kind, bool], Tail | None] = {}

    def is_late(self, chunk: Chunk, by: UUID) -> bool:
        """Whether faster workers would have this image too late if `by` did its next chunk, or
        whether that would be the last of all. It is not left to them for ever."""
        tail = self.tail(chunk) if chunk.kind == ChunkKind.DENOISE else None
        if tail is None:
            return False
        assert chunk.image is not None
        pace = self._measured.seconds(by, speeds.kind_of(ChunkKind.DENOISE, chunk.job))
        if pace is None or timezone.now() - chunk.created_at > left_for(pace):
            return False
        left = chunk.job.steps - chunk.image.step
        steps = self._portion(chunk, by, tail).of(left)
        decoding = speeds.kind_of(ChunkKind.DECODE, chunk.job)
        decode = 0.0 if steps < left else self._measured.seconds(by, decoding) or 0.0
        seconds = steps * pace + decode
        return tail.is_too_slow(chunk.image_id, by, seconds, last=steps == left)

    def portion(self, chunk: Chunk) -> speeds.Portion:
        """What this worker should do of a `denoise` chunk until it asks again."""
        tail = self.tail(chunk)
        if tail is None:
            return speeds.portion_for(self.worker, chunk.job)
        return self._portion(chunk, self.worker.pk, tail)

    def _portion(self, chunk: Chunk, by: UUID, tail: Tail) -> speeds.Portion:
        measured = self._measured.measured(by, speeds.kind_of(ChunkKind.DENOISE, chunk.job))
        return speeds.portion(measured, tail.range_seconds(by))

    def is_left(self, chunk: Chunk) -> bool:
        """Whether its worker computes another image now, or had better leave it."""
        assert chunk.image is not None
        keeper = chunk.image.worker_id
        if chunk.kind != ChunkKind.DENOISE or keeper == self.worker.pk or self.tail(chunk) is None:
            return False
        if keeper is None:
            return chunk.image.state == ImageState.RUNNING
        return keeper in self._now.leased or self.is_late(chunk, keeper)

    def longest(self, chunks: Iterable[Chunk]) -> Chunk | None:
        """The first of those with most left."""
        seconds = {chunk: self._seconds(chunk) for chunk in chunks}
        return max(seconds, key=seconds.__getitem__, default=None)

    def _seconds(self, chunk: Chunk) -> float:
        tail = self.tail(chunk)
        return tail.seconds(chunk.image_id) if tail is not None else 0.0

    def tail(self, chunk: Chunk) -> Tail | None:
        """Of images that this worker may do; None while there is enough that nobody has begun."""
        kind = speeds.kind_of(ChunkKind.DENOISE, chunk.job)
        key = (chunk.job.room_id, kind, is_young(chunk))
        if key not in self._tails:
            self._tails[key] = self._make_tail(chunk.job, kind, is_young(chunk))
        return self._tails[key]

    def _make_tail(self, job: Job, kind: Kind, young: bool) -> Tail | None:
        if len(self._ready) + 1 < MANY_WORKERS:
            return None
        hands = [self.worker.pk, *(other.pk for other in self._others(job, young))]
        paces = {pk: self._measured.seconds(pk, kind) for pk in hands}
        known = {pk: pace for pk, pace in paces.items() if pace}
        if self.worker.pk not in known or len(known) < MANY_WORKERS or not differ(known.values()):
            return None
        fresh = self._fresh_kinds
        if len(fresh) >= len(known) or ChunkKind.ENCODE in fresh:
            return None
        return Tail(known, self._images(known))

    def _others(self, job: Job, young: bool) -> list[Worker]:
        """Who may have this worker's images: those that can do nothing that it cannot do itself,
        else it would not know what keeps them, and idle ones while they are expected to come."""
        idle = set() if young else {other.pk for other in self.rivals.idle}
        return [
            other
            for other in self._ready
            if other.pk not in idle
            and may_do(other, job)
            and set(other.model_names) <= set(self.worker.model_names)
            and not (other.room_id is None and self._another_room_waits)
        ]

    def _images(self, hands: Iterable[UUID]) -> Iterator[Left]:
        least: dict[Kind, float | None] = {}
        for pk, step, job_id in self._unfinished:
            job = self._jobs[job_id]
            kinds = [speeds.kind_of(stage, job) for stage in (ChunkKind.DENOISE, ChunkKind.DECODE)]
            for kind in kinds:
                if kind not in least:
                    paces = [self._measured.seconds(hand, kind) for hand in hands]
                    least[kind] = min((pace for pace in paces if pace is not None), default=None)
            a_step, a_decode = (least[kind] for kind in kinds)
            if a_step is None:
                continue
            chunk = self._computed.get(pk)
            done, decoded = self._progress(chunk, step, kinds) if chunk else (step, 0.0)
            seconds = (job.steps - done) * a_step + (1 - decoded) * (a_decode or 0.0)
            yield Left(pk, seconds, chunk.worker_id if chunk else None)

    def _progress(self, chunk: _Computed, step: int, kinds: list[Kind]) -> tuple[float, float]:
        """Steps and the share of the decoding that are done, by the clock: not every step is heard
        of."""
        decodes = chunk.kind == ChunkKind.DECODE
        pace = self._measured.seconds(chunk.worker_id, kinds[decodes])
        if not pace:
            return step, 0.0
        passed = max(0.0, (timezone.now() - chunk.leased_at).total_seconds()) / pace
        if decodes:
            return step, min(1.0, passed)
        return max(step, min(chunk.stop, chunk.start + passed)), 0.0

    @property
    def _measured(self) -> speeds.Speeds:
        return self.rivals.measured

    @cached_property
    def _ready(self) -> list[Worker]:
        return self._now.besides(self.worker)

    @cached_property
    def _computed(self) -> dict[int, _Computed]:
        of_images = (row for row in self._now.leased.values() if row.kind != ChunkKind.CHECK)
        return {row.image_id: row for row in of_images if row.image_id is not None}

    def first_fresh(self, chunks: QuerySet[Chunk]) -> Chunk | None:
        """Of these chunks, whose turn it is."""
        return _in_order(_fresh(chunks)).first() if self._fresh_kinds else None

    @cached_property
    def _fresh_kinds(self) -> list[str]:
        """No more than are enough to know that there are enough."""
        fresh = _fresh(self._chunks).order_by().values_list("kind", flat=True)
        return list(fresh[: len(self._ready) + 1])

    @cached_property
    def _unfinished(self) -> list[tuple[int, int, UUID]]:
        """(image, steps done, job), less what waits for checks."""
        unfinished = Image.objects.filter(
            _of_its_jobs(self.worker), state__in=[ImageState.QUEUED, ImageState.RUNNING], picture=""
        ).exclude(job__conditioning="")
        in_order = unfinished.order_by("job__created_at", "job_id", "index")
        return list(in_order.values_list("pk", "step", "job_id"))

    @cached_property
    def _jobs(self) -> dict[UUID, Job]:
        return Job.objects.in_bulk({job_id for _image, _step, job_id in self._unfinished})

    @cached_property
    def _another_room_waits(self) -> bool:
        """Whether the server's workers have something to do that this one does not know."""
        if self.worker.room_id is None:
            return False
        live = Chunk.objects.filter(
            state__in=CHUNK_LIVE, job__room__paused=False, job__room__server_helps=True
        )
        return live.exclude(job__room_id=self.worker.room_id).exists()


class _Rivals:
    """Idle workers that are clearly faster than this one. They were woken for what has just become
    open, so it is left to them for a moment: else it would be a matter of luck who gets it. When
    one of them has taken something, this one is woken again (`protocol.claim`).
    """

    def __init__(self, worker: Worker, now: Now) -> None:
        self.worker = worker
        self._now = now

    def want(self, chunk: Chunk) -> bool:
        return any(True for _rival in self._for(chunk))

    def take_over(self, chunk: Chunk) -> bool:
        """Whether one of them goes on with the steps of our own image: one that has nothing to
        begin."""
        return any(not self._has_something_to_begin(rival) for rival in self._for(chunk))

    def _has_something_to_begin(self, rival: Worker) -> bool:
        chunks = _open_to(rival, self._now).chunks
        return (_orphans(chunks) | _fresh(chunks)).exists()

    def clearly_faster(self, one: UUID, other: UUID | None, job: Job) -> bool:
        """Compared by steps, of which most of the work is made."""
        kind = speeds.kind_of(ChunkKind.DENOISE, job)
        ours, theirs = (self.measured.compared(worker, kind) for worker in (one, other))
        return ours is not None and theirs is not None and ours * CLEARLY_FASTER < theirs

    def _for(self, chunk: Chunk) -> Iterator[Worker]:
        if is_young(chunk):
            for rival in self.idle:
                able = may_do(rival, chunk.job) and memory.has_room(rival, chunk)
                if able and self.clearly_faster(rival.pk, self.worker.pk, chunk.job):
                    yield rival

    @cached_property
    def idle(self) -> list[Worker]:
        return self._now.idle(self._now.besides(self.worker))

    @cached_property
    def measured(self) -> speeds.Speeds:
        return speeds.Speeds()


def take_turn(job: Job) -> None:
    """This room and this client have just been served."""
    now = time.time_ns()
    Room.objects.filter(pk=job.room_id).update(last_turn=now)
    turns = Turn.objects.filter(room_id=job.room_id, client=job.client)
    if not turns.update(last_turn=now):
        Turn.objects.get_or_create(
            room_id=job.room_id, client=job.client, defaults={"last_turn": now}
        )


def forget_old_turns() -> None:
    """Who was served long ago is as good as new; callers without a cookie are new each time."""
    long_ago = time.time_ns() - int(TURNS_KEPT.total_seconds() * 1e9)
    old = Turn.objects.filter(last_turn__lt=long_ago)
    if old.exists():  # on SQLite, deleting nothing would still wait for other writers
        old.delete()
