"""What the queue's tests share: workers that are rows, and a hand that plays the worker."""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from diffusion.random_model import write_random_model
from diffusion.settings import Settings
from genqueue import protocol
from genqueue.models import Chunk, ChunkKind, Speed, Worker
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


def new_worker(
    name: str = "worker", state: str = "ready", models: tuple[str, ...] = ("tiny",), **columns
) -> Hand:
    row = Worker.objects.create(
        name=name, state=state, device="cpu", model_names=list(models), **columns
    )
    return Hand(row.pk)


# Of a job with the settings above, on a worker of factor 1
SECONDS = {ChunkKind.ENCODE: 0.1, ChunkKind.DENOISE: 1.0, ChunkKind.DECODE: 0.2}


def measured(worker: Hand, factor: float = 1.0, model: str = "tiny") -> None:
    """This worker has a known speed: SECONDS times the factor."""
    for kind, seconds in SECONDS.items():
        side = 0 if kind == ChunkKind.ENCODE else 64
        per_unit = seconds / 8 if kind == ChunkKind.DENOISE else seconds
        Speed.objects.create(
            worker_id=worker.id, kind=kind, model=model, width=side, height=side, halves=2,
            samples=[per_unit * factor] * 3, count=3, seconds=per_unit * factor,
        )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """The folder of a model that computes, with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_random_model(folder)
    return folder


@pytest.fixture
def models(settings, tiny_model, tmp_path) -> Path:
    """The only folder of models: a copy of the tiny one, which may be damaged."""
    shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
    settings.MODEL_ROOTS = [tmp_path / "models"]
    return tmp_path / "models"


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
