"""The `work.` messages of tabs and helpers: what is in theirs, and the lease that they are sent."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from genqueue import partners
from genqueue.partners import Partner
from genqueue.protocol import Lease
from rooms.messages import MessageError, WorkLease

if TYPE_CHECKING:
    from diffusion.tensors import Expected
    from genqueue.handing import InMemory  # with numpy and Pillow: only who needs them

MOST_AT_HAND = 16


def expected_bytes(command: str, message: dict[str, Any], lease: Lease) -> "Expected":
    from genqueue import handing

    if command == "complete":
        return handing.expected_result(lease)
    latent, preview = message.get("latent") is True, message.get("preview") is True
    return handing.expected_step(lease, latent=latent, preview=preview)


def partners_in(message: dict[str, Any], lease: Lease) -> tuple[Partner, ...]:
    try:
        return partners.read(message.get("partners", []), lease.kind, lease.stop - lease.start)
    except ValueError as error:
        raise MessageError("bad-message", str(error)) from None


def list_in(message: dict[str, Any], name: str) -> list[Any]:
    value = message.get(name)
    if not isinstance(value, list) or len(value) > MOST_AT_HAND:
        raise MessageError("bad-message", f"{name} must be a list of at most {MOST_AT_HAND}.")
    return value


def at_hand_in(message: dict[str, Any]) -> "InMemory":
    from genqueue.handing import InMemory

    try:
        return InMemory(
            conditionings=frozenset(UUID(job) for job in list_in(message, "conditionings")),
            latents=frozenset(
                (UUID(job), int(image), int(step))
                for job, image, step in list_in(message, "latents")
            ),
        )
    except (ValueError, TypeError, AttributeError, OverflowError):
        detail = "conditionings are ids of jobs, latents are [job, image, step]."
        raise MessageError("bad-message", detail) from None


def lease_message(lease: Lease, nbytes: int) -> WorkLease:
    return WorkLease(
        type="work.lease",
        chunk=lease.chunk_id,
        attempt=lease.attempt,
        kind=lease.kind.value,  # type: ignore[typeddict-item]
        job=str(lease.job_id),
        image=lease.index,
        seed=lease.seed,
        start=lease.start,
        stop=lease.stop,
        settings=lease.settings.as_dict(),
        fresh=lease.fresh,
        bytes=nbytes,
    )
