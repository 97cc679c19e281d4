"""Browser tabs as workers: who is admitted, whether it may go on, what ends its work.

A tab is a worker of one room, as long as its socket lives. It leases chunks by the same protocol
as everybody (`protocol`); sockets and messages are the rooms' business (`rooms.work`), tensors are
`handing`'s.

Anybody in a room may compute, unless its owner says no. What a tab computes is checked now and then
by somebody else (`checks`).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final
from uuid import UUID, uuid4, uuid5

from django.db import transaction
from django.utils import timezone

from genqueue import actions, departure, events, fairness, packages, protocol, roster
from genqueue.admission import refuse_crowd, refuse_unwanted
from genqueue.clients import client_label
from genqueue.equipment import check_lines
from genqueue.kinds import WorkerKind
from genqueue.locks import lock_room
from genqueue.models import Chunk, Room, Worker
from genqueue.problems import Problem
from genqueue.protocol import Lease
from genqueue.transitions import ChunkState, WorkerState

MOST_PACKAGES: Final = 8
MOST_OPEN_KNOWN: Final = 100

_KEY: Final = re.compile(r"[0-9a-f]{32}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_IDS: Final = UUID("0f7c7f0b-3c9a-5f0e-9a53-6a1df4b5c0de")


@dataclass(frozen=True, slots=True)
class Hello:
    """What a tab says of itself. Raises ValueError for what no tab of ours says.

    key: 32 hex digits that it keeps over reloads, so that measured speeds keep their owner.
    device: for people.  software: no GPU, the processor after all.
    packages: ids of the model packages that it has opened.
    kernels: which variants of kernels it runs.
    own_first: what its own person asks for comes before all else.
    """

    key: str
    device: str
    software: bool
    packages: tuple[str, ...]
    kernels: str = ""
    own_first: bool = False

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError("key: 32 hex digits")
        check_lines(self.device, self.kernels)
        if not 0 < len(self.packages) <= MOST_PACKAGES:
            raise ValueError(f"packages: 1 to {MOST_PACKAGES}")
        if not all(_HASH.fullmatch(package) for package in self.packages):
            raise ValueError("packages: ids of 64 hex digits")


def admit(room_id: str, client_id: str, hello: Hello, network: str = "") -> UUID:
    """A tab becomes a worker of the room, ready to lease; returns its id.

    network: as `refuse_unwanted` takes it.
    Raises Problem: what that raises, `unknown-package` (422), `too-many-tabs` (429).
    """
    models, variants = _opened(hello.packages)
    actions.make_room(room_id, client_id)
    with transaction.atomic():
        lock_room(room_id)  # so that tabs that come at once are counted one after the other
        room = Room.objects.get(pk=room_id)
        refuse_unwanted(room, client_id, network)
        refuse_crowd(room, client_id)
        worker_id = _own_id(room_id, client_id, hello.key)
        row, _new = Worker.objects.update_or_create(
            pk=worker_id,
            defaults={
                "name": f"tab of {client_label(client_id)}",
                "kind": WorkerKind.TAB,
                "room": room,
                "client": client_id,
                "network": network,
                "device": hello.device,
                "software": hello.software,
                "variant": variants,
                "kernels": hello.kernels,
                "own_first": hello.own_first,
                "model_names": models,
                "started_at": timezone.now(),
                "last_seen_at": timezone.now(),
            },
        )
        if row.state != WorkerState.READY:
            roster.set_state(worker_id, row.state, WorkerState.READY)
        events.announce(room_id)
    departure.give_back(worker_id, None, "The tab connected again.")  # when its site had died
    return worker_id


def _opened(package_ids: tuple[str, ...]) -> tuple[list[str], str]:
    """The models of these packages, and how they store their weights."""
    here = {entry["package_id"]: entry for entry in packages.listed() if entry["package_id"]}
    if not here.keys() >= set(package_ids):
        raise Problem(
            "unknown-package",
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "This server has no such model package, or has made it anew: load it again.",
        )
    opened = [here[package_id] for package_id in package_ids]
    variants = dict.fromkeys(entry["variant"] for entry in opened)
    return sorted({entry["model"] for entry in opened}), " ".join(variants)


def _own_id(room_id: str, client_id: str, key: str) -> UUID:
    """The same over reloads of a tab, and nobody else's: it is made of the secret client id."""
    worker_id = uuid5(_IDS, f"{client_id} {room_id} {key}")
    if Worker.objects.online().filter(pk=worker_id).exists():
        return uuid4()  # a tab that was duplicated, or whose old socket is still open
    return worker_id


def stand(worker_id: UUID, client_id: str) -> None:
    """Whether this tab may still compute. One that was taken for gone, because this machine slept,
    is ready again.

    Raises Problem: what `refuse_unwanted` raises, `worker-forgotten` (410).
    """
    row = Worker.objects.filter(pk=worker_id).select_related("room").first()
    if row is None or row.room is None:
        raise Problem("worker-forgotten", HTTPStatus.GONE, "The server has forgotten this tab.")
    if row.state == WorkerState.GONE:
        refuse_unwanted(row.room, client_id)
        roster.set_state(worker_id, row.state, WorkerState.READY, last_seen_at=timezone.now())


def put_own_first(worker_id: UUID, first: bool) -> None:
    """Whether what its own person asked for comes before all else, from the next claim on."""
    row = Worker.objects.filter(pk=worker_id).only("own_first", "room_id").first()
    if row is None or row.room_id is None or row.own_first == first:
        return
    with transaction.atomic():
        Worker.objects.filter(pk=worker_id).update(own_first=first)
        events.announce(row.room_id)  # positions and times may be others


def heard(worker_id: UUID) -> None:
    """The tab is alive; called every few seconds."""
    Worker.objects.filter(pk=worker_id).update(last_seen_at=timezone.now())


def holds(lease: Lease) -> bool:
    """Whether the chunk is still this lease's; a cancelled job's is not."""
    rows = Chunk.objects.filter(pk=lease.chunk_id, state=ChunkState.LEASED, **lease.fence)
    return rows.exists()


@dataclass(frozen=True, slots=True)
class Standing:
    """What concerns the workers of a room at one moment.

    ready: those that may lease.  leased: chunk, attempt and worker.
    open: chunk and attempt of what somebody may lease, the newest ones; not everybody may.
    kept: those that wait for who computes their image, and is about to ask: that worker.
    """

    ready: frozenset[UUID]
    leased: frozenset[tuple[int, int, UUID]]
    open: frozenset[tuple[int, int]]
    kept: Mapping[tuple[int, int], UUID]

    def of(self, waiting: Collection[UUID]) -> "Standing":
        """The same, when these workers have asked and got nothing: what they had is open."""
        left = [chunk for chunk, keeper in self.kept.items() if keeper in waiting]
        if not left:
            return self
        kept = {chunk: keeper for chunk, keeper in self.kept.items() if chunk not in left}
        return replace(self, open=self.open.union(left), kept=kept)


def standing(room_id: str) -> Standing:
    ready = Worker.objects.filter(room_id=room_id, state=WorkerState.READY).order_by()
    live = Chunk.objects.filter(job__room_id=room_id).order_by("-pk")
    leased = live.filter(state=ChunkState.LEASED, worker__isnull=False)
    pending = live.filter(state=ChunkState.PENDING)
    rows = pending.values_list("pk", "attempt", "image__worker_id", "created_at")
    young_since = timezone.now() - fairness.RESERVED
    opened = {
        (pk, attempt): keeper if created_at >= young_since else None
        for pk, attempt, keeper, created_at in rows[:MOST_OPEN_KNOWN]
    }
    return Standing(
        ready=frozenset(ready.values_list("pk", flat=True)),
        leased=frozenset(leased.values_list("pk", "attempt", "worker_id")),
        open=frozenset(chunk for chunk, keeper in opened.items() if keeper is None),
        kept={chunk: keeper for chunk, keeper in opened.items() if keeper is not None},
    )


def next_lease(worker_id: UUID, among: Collection[tuple[int, int]] | None = None) -> Lease | None:
    """The next chunk for this tab.

    among: what was open when somebody looked, chunk and attempt; when all of it has been taken
    since, there is nothing.
    """
    if among is not None:
        looked_at = Chunk.objects.filter(pk__in=[pk for pk, _attempt in among])
        if not looked_at.filter(state=ChunkState.PENDING).exists():
            return None
    return protocol.claim(worker_id)
