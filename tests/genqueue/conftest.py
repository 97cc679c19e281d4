"""What the queue's tests share: workers that are rows, and a hand that plays the worker."""

import uuid
from dataclasses import dataclass

import pytest

from diffusion.settings import Settings
from genqueue import protocol
from genqueue.models import Chunk, ChunkKind, Worker
from genqueue.protocol import Lease


def settings_of(**changes) -> Settings:
    defaults = Settings(
        prompt="a rocket on a blue background",
        model="tiny",
        width=64,
        height=64,
        steps=8,
        guidance=4.0,
        seed=7,
    )
    return Settings(**{**defaults.as_dict(), **changes})


@dataclass(frozen=True)
class Hand:
    """Plays a worker: computes nothing, hands in bytes."""

    id: uuid.UUID

    def claim(self) -> Lease | None:
        return protocol.claim(self.id)

    def finish(self, lease: Lease, seconds: float = 0.5) -> Lease:
        protocol.complete(lease, f"{lease.kind} of {self.id}".encode(), seconds)
        return lease

    def do_next(self, seconds: float = 0.5) -> Lease | None:
        lease = self.claim()
        return self.finish(lease, seconds) if lease else None

    def do_all(self) -> list[Lease]:
        done = []
        while (lease := self.do_next()) is not None:
            done.append(lease)
        return done

    def row(self) -> Worker:
        return Worker.objects.get(pk=self.id)


def new_worker(name: str = "worker", state: str = "ready", **columns) -> Hand:
    row = Worker.objects.create(name=name, state=state, device="cpu", **columns)
    return Hand(row.pk)


@pytest.fixture
def worker(db) -> Hand:
    return new_worker("one")


@pytest.fixture
def other(db) -> Hand:
    return new_worker("two")


def chunk_of(lease: Lease) -> Chunk:
    return Chunk.objects.get(pk=lease.chunk_id)


def kinds(leases: list[Lease]) -> list[str]:
    return [ChunkKind(lease.kind).value for lease in leases]
