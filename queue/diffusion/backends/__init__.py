"""What computes the stages of a picture, behind one interface.

Importing this costs nothing: a backend's library is imported when the backend is opened.
"""

import os
from collections.abc import Callable
from typing import Final, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from diffusion.model_folder import ModelFolder

BackendName = Literal["auto", "torch"]
BACKEND_NAMES: Final[tuple[BackendName, ...]] = get_args(BackendName)
Precision = Literal["f32", "bf16"]

# "prompt" and, with guidance, "negative": f32 [tokens, text_dim], without padding
Conditioning = dict[str, NDArray[np.float32]]
OnStep = Callable[[int, NDArray[np.float32]], None]  # (steps done, latent f32 [C, h, w])


class Backend(Protocol):
    """One loaded model. Not safe to use from two threads at once."""

    folder: ModelFolder
    name: str  # "torch"
    device: str  # "cpu", "cuda NVIDIA H200", "mps"

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

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The picture of a finished latent: uint8 [H, W, 3]."""


def open_backend(name: str, folder: ModelFolder, precision: Precision = "f32") -> Backend:
    """Load `folder` with the backend called `name` ("auto" takes the best there is; slow: seconds).

    Raises ValueError for an unknown name, ModelFolderError for a folder the backend cannot run.
    """
    match name:
        case "auto" | "torch":
            # torch's threads wait for each other by spinning, for milliseconds. Where something
            # else wants a core too, one waits for a thread that the spinner keeps from running:
            # a step then takes 10 to 20 times as long. Read when torch is first imported.
            os.environ.setdefault("GOMP_SPINCOUNT", "2000")
            from diffusion.backends.torch_backend import TorchBackend

            return cast(Backend, TorchBackend(folder, precision=precision))
        case _:
            raise ValueError(f"unknown backend {name!r}; there are {', '.join(BACKEND_NAMES)}")
