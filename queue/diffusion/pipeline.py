"""The whole path from settings to pictures in one process: encode once, then image by image.

The queue runs the same stages one by one on many workers; this is for commands, benchmarks and
tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffusion.backends import Backend
from diffusion.noise import initial_noise
from diffusion.pictures import png_bytes
from diffusion.settings import Settings, image_seed


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` of image `index` (from 0) are done; latent: f32 [C, h, w]."""

    index: int
    step: int
    steps: int
    latent: NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """pixels: uint8 [H, W, 3]; latent: f32 [C, h, w]; settings: those of this one picture."""

    pixels: NDArray[np.uint8]
    latent: NDArray[np.float32]
    settings: Settings

    def png(self) -> bytes:
        """A PNG that holds its own settings."""
        return png_bytes(self.pixels, self.settings.as_dict())


def generate(
    backend: Backend,
    settings: Settings,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Picture]:
    """Make all pictures of `settings`, which `diffusion.settings.check` has passed.

    `on_progress` is called after every step; what it raises ends the run.
    """
    conditioning = backend.encode(settings.prompt, settings.negative_prompt, settings.guidance)
    shape = backend.folder.latent_shape(settings.width, settings.height)
    pictures = []
    for index in range(settings.num_images):

        def on_step(step: int, latent: NDArray[np.float32], index: int = index) -> None:
            if on_progress is not None:
                on_progress(Progress(index, step, settings.steps, latent))

        seed = image_seed(settings.seed, index)
        latent = backend.denoise(
            conditioning,
            initial_noise(seed, shape),
            steps=settings.steps,
            guidance=settings.guidance,
            start=0,
            stop=settings.steps,
            on_step=on_step,
        )
        own = replace(settings, seed=seed, num_images=1)
        pictures.append(Picture(backend.decode(latent), latent, own))
    return pictures
