"""What a worker computes with, as it says itself: for people, and for how strictly it is checked.

It is known when a backend is open, and may change with the model: where one has no plan for wgpu,
torch computes it, in f32 and without kernels that multiply in f16.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import transaction

from genqueue import checks, events
from genqueue.check_models import Check
from genqueue.models import Worker
from genqueue.transitions import CheckState

if TYPE_CHECKING:
    from diffusion.backends import Backend

LONGEST_DEVICE: Final = 120
STORES: Final = ("f32", "bf16", "f16", "int8", "int4")


@dataclass(frozen=True, slots=True)
class Equipment:
    """Raises ValueError for what no worker of ours says.

    device: for people.  software: no GPU, the processor after all.
    kernels: which variants of WebGPU kernels it runs; "" for none.  stores: how it stores weights.
    """

    device: str
    software: bool
    kernels: str
    stores: str

    def __post_init__(self) -> None:
        check_lines(self.device, self.kernels)
        if self.stores not in STORES:
            raise ValueError(f"stores: one of {', '.join(STORES)}")


def check_lines(device: str, kernels: str) -> None:
    """Raises ValueError unless these are lines for people."""
    if not device.isprintable() or not 0 < len(device) <= LONGEST_DEVICE:
        raise ValueError(f"device: one line of 1 to {LONGEST_DEVICE} characters")
    if len(kernels) > LONGEST_DEVICE or not kernels.isprintable():
        raise ValueError(f"kernels: one line of at most {LONGEST_DEVICE} characters")


def of_backend(backend: "Backend") -> Equipment:
    """Of an open one; wgpu's may be another one's after a restart."""
    return Equipment(
        device=_line(backend.device),
        software="cpu" in backend.device.lower(),
        kernels=_line(backend.kernels),
        stores=backend.precision,
    )


def _line(text: str) -> str:
    """Drivers may call a device anything."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return shown[:LONGEST_DEVICE]


def record(worker_id: UUID, said: Equipment) -> None:
    """From now on, and for the lease at hand: nothing that came under it has been drawn yet."""
    values: dict[str, Any] = {
        "device": said.device, "software": said.software, "kernels": said.kernels,
        "variant": said.stores,
    }  # fmt: skip
    rows = Worker.objects.filter(pk=worker_id)
    with transaction.atomic():
        if not rows.exclude(**values).update(**values):
            return
        row = rows.get()
        held = Check.objects.filter(worker=row, state=CheckState.HELD)
        held.update(variant=checks.precision(row))
        if row.room_id is None:
            events.announce_workers()
        else:
            events.announce(row.room_id)
