"""Computes one leased chunk with `diffusion`, and reports every step.

- The model, the newest conditionings and the latent of the image at hand stay in memory, so that
  a worker that keeps its image reads nothing back.
- Every step is written under the lease's fence; that write is also how a cancelled chunk is
  noticed, so a worker stops within one step.
- It imports torch, through the backend, when the first model is opened. One model is in memory at
  a time: another one replaces it.
- A backend that computes in a process of its own may lose that process: a fault of the chunk at
  hand, and the backend starts another one for the next.
"""

import gc
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from django.conf import settings as site
from django.db import InterfaceError, OperationalError, connection
from numpy.typing import NDArray

from diffusion.backends import Backend
from diffusion.backends.errors import BackendDiedError
from diffusion.model_folder import ModelFolder, ModelFolderError, find_models
from diffusion.noise import initial_noise
from diffusion.pictures import png_bytes
from diffusion.preview import Previews
from diffusion.tensors import from_bytes, to_bytes
from genqueue import files, protocol
from genqueue.backends import open_backend
from genqueue.faults import Fault
from genqueue.handing import expected_conditioning, inside_png
from genqueue.kinds import ChunkKind
from genqueue.protocol import Lease, LeaseLostError

log = logging.getLogger(__name__)

Array = NDArray[np.float32]
Conditioning = dict[str, Array]
REMEMBERED = 8  # conditionings and latents
# As CUDA, MPS and the CPU say it; of torch's exceptions only CUDA's has a type of its own.
_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class ModelLackingError(Exception):
    """The model's folder is gone: another worker may have it."""


class StoppingError(Exception):
    """The worker was asked to stop; the chunk goes on elsewhere from its checkpoint."""


class Runner:
    """stopping: asked between steps; True gives the chunk back after a checkpoint. computing: told
    which backend computes, before and after, because one may be another after a restart.
    """

    def __init__(
        self, stopping: Callable[[], bool], computing: Callable[[Backend], None] = lambda _: None
    ) -> None:
        self._stopping, self._computing = stopping, computing
        self._open: tuple[str, ModelFolder, Backend] | None = None
        self._conditionings: OrderedDict[str, Conditioning] = OrderedDict()
        self._latents: OrderedDict[int, tuple[int, Array]] = OrderedDict()

    def load(self, name: str) -> Backend:
        """Open the model and compute one step with it, so that the first picture is not slow."""
        folder, backend = self._model(name)
        side = folder.default_width, folder.default_height
        conditioning = backend.encode("a warm-up", "", folder.default_guidance)
        noise = initial_noise(0, folder.latent_shape(*side))
        latent = backend.denoise(
            conditioning,
            noise,
            steps=2,
            guidance=folder.default_guidance,
            start=0,
            stop=1,
        )
        # Pillow loads its writers with the first file of each kind, which takes as long as half
        # a step.
        Previews(folder, 2, noise).after(1, latent)
        png_bytes(backend.decode(latent))
        return backend

    def close(self) -> None:
        """Let go of the model that is open; another may be opened."""
        if self._open is not None:
            self._open[2].close()
            self._open = None
            gc.collect()  # backends hold themselves in a circle; two at once may be too large

    def run(self, lease: Lease) -> None:
        """Compute and hand in. Every ending is reported; only a broken database raises."""
        try:
            result, seconds = self._compute(lease)
            protocol.complete(lease, result, seconds)
        except LeaseLostError:
            log.info("chunk %d is not ours any more", lease.chunk_id)
        except StoppingError:
            _unless_lost(lambda: protocol.release(lease))
        except ModelLackingError:
            log.warning("the model %s is not here any more", lease.settings.model)
            _unless_lost(lambda: protocol.lack_model(lease))
        except (OperationalError, InterfaceError):  # no fault of the chunk, which may even be done
            log.exception("the database failed under chunk %d", lease.chunk_id)
            connection.close()
            _unless_lost(lambda: protocol.release(lease))
        except Exception as error:
            log.exception("chunk %d failed", lease.chunk_id)
            fault, detail = fault_of(error), f"{type(error).__name__}: {error}"
            lost = error.name if isinstance(error, files.FileLostError) else ""
            _unless_lost(lambda: protocol.fail(lease, fault, detail, lost))

    def _compute(self, lease: Lease) -> tuple[bytes, float]:
        folder, backend = self._model(lease.settings.model)
        self._computing(backend)
        start = time.perf_counter()
        if lease.kind == ChunkKind.ENCODE:
            result = self._encode(lease, backend)
        elif lease.kind == ChunkKind.DENOISE:
            result = self._denoise(lease, folder, backend)
        else:
            result = self._decode(lease, folder, backend)
        seconds = time.perf_counter() - start
        self._computing(backend)
        return result, seconds

    def _model(self, name: str) -> tuple[ModelFolder, Backend]:
        if self._open is None or self._open[0] != name:
            folder = find_models(*site.MODEL_ROOTS).get(name)
            if folder is None:
                raise ModelLackingError
            self.close()
            try:
                self._open = (name, folder, open_backend(folder))
            except OSError as error:
                raise ModelFolderError(f"{name}: {error}") from error
        return self._open[1], self._open[2]

    def _encode(self, lease: Lease, backend: Backend) -> bytes:
        wanted = lease.settings
        conditioning = backend.encode(wanted.prompt, wanted.negative_prompt, wanted.guidance)
        return to_bytes(conditioning)

    def _denoise(self, lease: Lease, folder: ModelFolder, backend: Backend) -> bytes:
        assert lease.image_id is not None
        image_id = lease.image_id
        noisy = self._latent(lease, folder)
        previews = Previews(folder, lease.settings.steps, noisy)
        saved_at = time.monotonic()

        def on_step(step: int, latent: Array) -> None:
            nonlocal saved_at
            stopping = step < lease.stop and self._stopping()
            late = time.monotonic() - saved_at >= site.CHECKPOINT_SECONDS
            save = step < lease.stop and (late or stopping)
            protocol.checkpoint(
                lease,
                step,
                latent=to_bytes({"latent": latent}) if save else None,
                preview=previews.after(step, latent),
            )
            if save:
                saved_at = time.monotonic()
            if stopping:
                raise StoppingError

        latent = backend.denoise(
            self._conditioning(lease, folder),
            noisy,
            steps=lease.settings.steps,
            guidance=lease.settings.guidance,
            start=lease.start,
            stop=lease.stop,
            on_step=on_step,
        )
        if lease.check_id is None:
            remember(self._latents, image_id, (lease.stop, latent))
        return to_bytes({"latent": latent})

    def _decode(self, lease: Lease, folder: ModelFolder, backend: Backend) -> bytes:
        pixels = backend.decode(self._latent(lease, folder))
        return png_bytes(pixels, inside_png(lease.settings, lease.seed or 0))

    def _conditioning(self, lease: Lease, folder: ModelFolder) -> Conditioning:
        known = self._conditionings.get(lease.conditioning)
        if known is None:
            expected = expected_conditioning(lease, folder)
            known = files.load(lease.conditioning, lambda data: from_bytes(data, expected))
            remember(self._conditionings, lease.conditioning, known)
        return known

    def _latent(self, lease: Lease, folder: ModelFolder) -> Array:
        """Where this chunk starts: noise, what we computed last, or the checkpoint."""
        assert lease.image_id is not None
        assert lease.seed is not None
        shape = folder.latent_shape(lease.settings.width, lease.settings.height)
        if lease.latent is None:
            return initial_noise(lease.seed, shape)
        step = lease.start if lease.kind == ChunkKind.DENOISE else lease.settings.steps
        known = self._latents.get(lease.image_id)
        if known is not None and known[0] == step and not lease.fresh:
            return known[1]
        return files.load(lease.latent, lambda data: from_bytes(data, {"latent": shape}))["latent"]


def fault_of(error: Exception) -> Fault:
    """What kind of fault an exception of the backend or the storage is."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in _MEMORY):
        return Fault.OUT_OF_MEMORY
    if isinstance(error, BackendDiedError):
        return Fault.WORKER_LOST
    if isinstance(error, ModelFolderError):
        return Fault.MODEL_UNREADABLE
    if isinstance(error, files.FileLostError):
        return Fault.FILE_LOST
    return Fault.COMPUTATION_FAILED


def remember(memory: OrderedDict[Any, Any], key: object, value: object) -> None:
    """Keep this, and of the others the newest."""
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)


def _unless_lost(report: Callable[[], object]) -> None:
    try:
        report()
    except LeaseLostError:
        log.info("the lease had ended already")
