"""What the queue's tests share: workers that are rows, and a hand that plays the worker."""

import shutil
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings as site
from django.utils import timezone

from diffusion.random_model import write_random_model
from diffusion.settings import Settings
from genqueue import fairness, protocol
from genqueue.kinds import ChunkKind
from genqueue.models import Chunk, Speed, Worker
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
STEPS, SIDE = 8, 64


def seconds_of(kind: str, factor: float, side: int, steps: int = 1) -> float:
    """Of an encoding, of so many steps, or of a decoding. A larger picture takes longer in
    proportion to its pixels."""
    if kind == ChunkKind.ENCODE:
        return SECONDS[kind] * factor
    seconds = SECONDS[kind] * factor * side**2 / SIDE**2
    return seconds * steps / STEPS if kind == ChunkKind.DENOISE else seconds


def measured(worker: Hand, factor: float = 1.0, model: str = "tiny", side: int = SIDE) -> None:
    """Three chunks of each kind have run on this worker, at `seconds_of`."""
    for kind in SECONDS:
        seconds = seconds_of(kind, factor, side)
        Speed.objects.get_or_create(
            worker_id=worker.id, kind=kind, model=model, halves=2,
            width=0 if kind == ChunkKind.ENCODE else side,
            height=0 if kind == ChunkKind.ENCODE else side,
            defaults={"samples": [seconds] * 3, "count": 3, "seconds": seconds},
        )  # fmt: skip


class Broker:
    """The real broker's folder, which nobody reads in tests."""

    def __init__(self) -> None:
        self.folder = Path(site.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_out"])
        for message in self.folder.glob("*.msg"):
            message.unlink()

    def woken(self) -> Counter[uuid.UUID]:
        """How many messages lie there for which workers."""
        queues = (path.name.split(".")[1] for path in self.folder.glob("*.msg"))
        return Counter(uuid.UUID(queue.removeprefix("work-")) for queue in queues)


@pytest.fixture
def broker() -> Broker:
    return Broker()


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


@pytest.fixture
def patient(monkeypatch) -> None:
    """Workers wait a minute for each other, so that a busy machine does not change what happens."""
    monkeypatch.setattr(fairness, "RESERVED", timedelta(minutes=1))


def a_while_ago() -> datetime:
    """Longer than the patient wait."""
    return timezone.now() - timedelta(minutes=2)


def chunk_of(lease: Lease) -> Chunk:
    return Chunk.objects.get(pk=lease.chunk_id)


def kinds(leases: list[Lease]) -> list[str]:
    return [ChunkKind(lease.kind).value for lease in leases]
