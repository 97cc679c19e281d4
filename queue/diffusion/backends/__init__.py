"""What computes the stages of a picture, behind one interface.

Importing this costs nothing: a backend's library is imported when the backend is opened.
"""

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from diffusion.backends.errors import BackendError
from diffusion.model_folder import ModelFolder

log = logging.getLogger(__name__)

BackendName = Literal["auto", "torch", "wgpu"]
BACKEND_NAMES: Final[tuple[BackendName, ...]] = get_args(BackendName)
Precision = Literal["f32", "f16", "bf16"]
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)

# "prompt" and, with guidance, "negative": f32 [tokens, text_dim], without padding
Conditioning = dict[str, NDArray[np.float32]]
OnStep = Callable[[int, NDArray[np.float32]], None]  # (steps done, latent f32 [C, h, w])
# (latent f32 [C, h, w], step from 0) -> f32 [C, h, w]
VelocityOf = Callable[[NDArray[np.float32], int], NDArray[np.float32]]


def guided_halves(guidance: float) -> tuple[str, ...]:
    """The texts that a run needs, in the order of a batch: with guidance 1 no negative one."""
    return ("negative", "prompt") if guidance > 1 else ("prompt",)


def check_range(start: int, stop: int, steps: int) -> None:
    """Raises ValueError where steps `start` to `stop` are no part of a run of `steps`."""
    if not 0 <= start <= stop <= steps:
        raise ValueError(f"cannot do steps {start} to {stop} of {steps}")


class Backend(Protocol):
    """One loaded model. Not safe to use from two threads at once."""

    folder: ModelFolder
    name: str  # "torch", "wgpu"
    device: str  # "cpu", "cuda NVIDIA H200", "mps", "wgpu Vulkan AMD Radeon RX 7600, f16"
    kernels: str  # variants of wgpu's kernels, such as "baseline"; torch has none: ""
    precision: str  # how it stores weights: "f32", "f16", "bf16"

    def encode(self, prompt: str, negative_prompt: str, guidance: float) -> Conditioning:
        """Clean, tokenize and encode the texts; with guidance 1 the negative one is left out."""

    def denoise(
        self,
        conditioning: Conditioning,
        latent: NDArray[np.float32],
        *,
        steps: int,
        guidance: float,
        start: int,
        stop: int,
        on_step: OnStep | None = None,
    ) -> NDArray[np.float32]:
        """Steps `start` to `stop` (exclusive) of a run of `steps`; f32 [C, h, w] in and out.

        Cutting a run anywhere gives the same bits as one go on the same machine. `on_step` is
        called after every step with the number of steps done; it may raise to stop the run.
        """

    def velocities(
        self, text: NDArray[np.float32], shape: tuple[int, ...], *, steps: int
    ) -> AbstractContextManager[VelocityOf]:
        """One half of guidance by itself, or a run without: the velocities of latents of `shape`
        [C, h, w], given one of `encode`'s texts. See `diffusion.halves`."""

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The picture of a finished latent: uint8 [H, W, 3]."""

    def close(self) -> None:
        """Let go of memory and processes. No call may follow."""


def open_backend(
    name: str,
    folder: ModelFolder,
    precision: Precision | None = None,
    *,
    shaders: Path | None = None,
    memory_limit: int | None = None,
    trials: Path | None = None,
) -> Backend:
    """Load `folder` with the backend called `name` (slow: seconds).

    "auto" takes the best that this machine has: CUDA or MPS through torch, then a GPU through wgpu,
    then torch on the CPU. "wgpu" also takes a software adapter.

    precision: how weights are stored; torch has f32, the default, and bf16, wgpu f32 and f16, the
    default on a GPU. shaders: the folder static/wgsl, without which "auto" leaves wgpu out.
    memory_limit: bytes that wgpu may take of the GPU. trials: a file in which wgpu keeps which
    variants of its kernels are fastest here; without one it tries at every start.

    Raises ValueError for an unknown name or a precision that the backend has not, ModelFolderError
    for a folder that it cannot run, BackendError where it cannot compute at all.
    """
    match name:
        case "auto":
            _calm_threads()
            return _open_best(folder, precision, shaders, memory_limit, trials)
        case "torch":
            _calm_threads()
            return _open_torch(folder, precision)
        case "wgpu" if shaders is not None:
            return _open_wgpu(folder, precision, shaders, memory_limit, trials)
        case "wgpu":
            raise ValueError("the wgpu backend needs a folder of shaders")
        case _:
            raise ValueError(f"unknown backend {name!r}; there are {', '.join(BACKEND_NAMES)}")


def _open_best(
    folder: ModelFolder,
    precision: Precision | None,
    shaders: Path | None,
    memory_limit: int | None,
    trials: Path | None,
) -> Backend:
    from diffusion.backends.choice import best_backend

    if shaders is not None and precision != "bf16" and best_backend() == "wgpu":
        try:
            return _open_wgpu(folder, precision, shaders, memory_limit, trials)
        except (ValueError, MemoryError, BackendError) as error:  # no plan for it, say
            log.warning("%s does not run on wgpu, so torch computes it: %s", folder.name, error)
    return _open_torch(folder, precision)


def _open_torch(folder: ModelFolder, precision: Precision | None) -> Backend:
    from diffusion.backends.torch_backend import TorchBackend

    return cast(Backend, TorchBackend(folder, precision=precision or "f32"))


def _open_wgpu(
    folder: ModelFolder,
    precision: Precision | None,
    shaders: Path,
    memory_limit: int | None,
    trials: Path | None,
) -> Backend:
    if precision not in (None, "f32", "f16"):
        raise ValueError(f"the wgpu backend has no {precision}, but f32 and f16")
    from diffusion.backends.child_backend import ChildBackend

    opening = {
        "shaders": str(shaders.resolve()),
        "precision": precision,
        "memory_limit": memory_limit,
        "trials": None if trials is None else str(trials.resolve()),
    }
    return ChildBackend(folder, "wgpu", "diffusion.backends.wgpu_child", opening)


def _calm_threads() -> None:
    """torch's threads wait for each other by spinning, for milliseconds. Where something else wants
    a core too, one waits for a thread that the spinner keeps from running: a step then takes 10 to
    20 times as long. Read when torch is first imported.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
