"""What crosses the wire for one chunk: what its worker needs, and what it hands in.

Both are one safetensors file. What comes in is checked before anybody else sees it: exactly these
tensors, of this type and shape, finite, and no more bytes than that can take. Pictures are encoded
here, from pixels, so that no file of a stranger is stored.
"""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.utils import timezone

from diffusion.backends import guided_halves
from diffusion.model_folder import ModelFolder
from diffusion.pictures import png_bytes
from diffusion.preview import webp_bytes
from diffusion.settings import Settings
from diffusion.tensors import Expected, Pixels, from_bytes, most_bytes, to_bytes
from genqueue import choices, files
from genqueue.kinds import ChunkKind
from genqueue.protocol import Lease

MOST_BYTES: Final = 2**25  # of one file that comes in, whatever the model: a picture of 2048 x 2048


class ModelGoneError(Exception):
    """This site has the model no more."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """What a worker has at hand and need not be sent: the conditioning of jobs, and latents of
    images (job, index) after a step."""

    conditionings: frozenset[UUID] = frozenset()
    latents: frozenset[tuple[UUID, int, int]] = frozenset()


def needed(lease: Lease, at_hand: InMemory) -> dict[str, Any]:
    """The tensors that this chunk starts from, by name, less what its worker has. Who starts afresh
    has nothing.

    `prompt` and, with guidance, `negative` f32 [tokens, features] for steps; `latent` f32 [C, h, w]
    for steps after the first and for decoding.
    Raises FileLostError, ModelGoneError.
    """
    folder = _folder(lease)
    tensors: dict[str, Any] = {}
    if lease.fresh:
        at_hand = InMemory()
    if lease.kind == ChunkKind.DENOISE and lease.job_id not in at_hand.conditionings:
        tensors |= _from_file(lease.conditioning, expected_conditioning(lease, folder))
    if lease.latent is not None and _latent_key(lease) not in at_hand.latents:
        tensors |= _from_file(lease.latent, _latent(lease, folder))
    return tensors


def _from_file(name: str, expected: Expected) -> dict[str, Any]:
    return files.load(name, lambda data: from_bytes(data, expected))


def _latent_key(lease: Lease) -> tuple[UUID, int, int]:
    step = lease.start if lease.kind == ChunkKind.DENOISE else lease.settings.steps
    return lease.job_id, lease.index or 0, step


def expected_result(lease: Lease) -> Expected:
    """The tensors of a finished chunk. Raises ModelGoneError."""
    folder = _folder(lease)
    if lease.kind == ChunkKind.ENCODE:
        return expected_conditioning(lease, folder)
    if lease.kind == ChunkKind.DENOISE:
        return _latent(lease, folder)
    return {"picture": Pixels((lease.settings.height, lease.settings.width, 3))}


def expected_step(lease: Lease, *, latent: bool, preview: bool) -> Expected:
    """The tensors that may come with a step. Raises ModelGoneError."""
    folder = _folder(lease)
    expected: dict[str, Any] = {}
    if latent:
        expected |= _latent(lease, folder)
    if preview:
        _channels, rows, columns = _shape(lease, folder)
        expected["preview"] = Pixels((rows, columns, 3))
    return expected


def fits(expected: Expected, nbytes: int) -> bool:
    """Whether so many bytes may be these tensors: asked before any of them is taken."""
    return 0 < nbytes <= min(MOST_BYTES, most_bytes(expected))


def result_of(lease: Lease, expected: Expected, data: bytes) -> bytes:
    """What `protocol.complete` stores. Raises TensorError."""
    tensors = from_bytes(data, expected)
    if lease.kind == ChunkKind.DECODE:
        return png_bytes(tensors["picture"], inside_png(lease.settings, lease.seed or 0))
    return to_bytes(tensors)


def step_of(expected: Expected, data: bytes) -> tuple[bytes | None, bytes | None]:
    """(latent as safetensors, preview as WebP), each None without it. Raises TensorError."""
    tensors = from_bytes(data, expected) if expected else {}
    latent, preview = tensors.get("latent"), tensors.get("preview")
    return (
        None if latent is None else to_bytes({"latent": latent}),
        None if preview is None else webp_bytes(preview),
    )


def seconds_of(lease: Lease, said: object) -> float:
    """Computing time as a worker said it, where that is a number of seconds that have passed."""
    passed = (timezone.now() - lease.began_at).total_seconds()
    number = isinstance(said, int | float) and not isinstance(said, bool)
    return float(said) if number and 0 <= said <= passed else passed  # type: ignore[operator,arg-type]


def inside_png(settings: Settings, seed: int) -> dict[str, Any]:
    """The settings that make this one picture again: its own seed, one image."""
    return {**settings.as_dict(), "seed": seed, "num_images": 1}


def _folder(lease: Lease) -> ModelFolder:
    folder = choices.models().get(lease.settings.model)
    if folder is None:
        raise ModelGoneError
    return folder


def _shape(lease: Lease, folder: ModelFolder) -> tuple[int, int, int]:
    return folder.latent_shape(lease.settings.width, lease.settings.height)


def _latent(lease: Lease, folder: ModelFolder) -> Expected:
    return {"latent": _shape(lease, folder)}


def expected_conditioning(lease: Lease, folder: ModelFolder) -> Expected:
    return dict.fromkeys(guided_halves(lease.settings.guidance), folder.conditioning_shape)
