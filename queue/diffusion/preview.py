"""Small pictures of a latent that is still being made.

A fitted linear map from the channels of a latent cell to its RGB is enough to recognise a picture
by (and costs microseconds, where decoding costs as much as two steps). preview.json holds it. A
folder without one gets an honest grey picture instead: the strongest principal component of the
channels, which shows shapes and says nothing of colours.

What is shown is not the noisy latent but where it is heading: the step's velocity, followed to the
end of the schedule. After the last step the two are the same.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffusion.model_folder import ModelFolder
from diffusion.schedule import read_schedule_config

_WEBP_QUALITY: Final = 75


class Previews:
    """The previews of one run of steps on one image, one after the other."""

    def __init__(self, folder: ModelFolder, steps: int, latent: NDArray[np.float32]) -> None:
        """`latent`: f32 [C, h, w] before the first of these steps; `steps`: of the whole image."""
        self._folder = folder
        self._levels = read_schedule_config(folder.path).schedule(steps).sigmas
        self._before = latent

    def after(self, step: int, latent: NDArray[np.float32]) -> bytes:
        """The WebP after step `step` (from 1), whose latent is `latent`."""
        return webp_bytes(self.pixels_after(step, latent))

    def pixels_after(self, step: int, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The same as pixels, uint8 [h, w, 3]."""
        heading = heading_for(
            self._before, latent, float(self._levels[step - 1]), float(self._levels[step])
        )
        self._before = latent
        return preview_pixels(heading, self._folder)


def heading_for(
    before: NDArray[np.float32], after: NDArray[np.float32], from_level: float, to_level: float
) -> NDArray[np.float32]:
    """The clean latent that one Euler step between two noise levels was aimed at.

    A step moves along a line that reaches the clean latent at level 0: x0 = x - level * velocity.
    """
    return after + (after - before) * (to_level / (from_level - to_level))


def preview_webp(latent: NDArray[np.float32], folder: ModelFolder) -> bytes:
    """A WebP of `latent` (f32 [C, h, w]), one pixel per latent cell: about a kilobyte at 32 x 32.

    Pages are to scale it up smoothly.
    """
    return webp_bytes(preview_pixels(latent, folder))


def preview_pixels(latent: NDArray[np.float32], folder: ModelFolder) -> NDArray[np.uint8]:
    """What that shows: uint8 [h, w, 3] of `latent`, f32 [C, h, w]."""
    if folder.preview is None:
        return _principal_grey(latent)
    return apply_map(latent, folder.preview)


def webp_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A preview's pixels (uint8 [h, w, 3]) as the file that pages are sent."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=_WEBP_QUALITY, method=2)
    return file.getvalue()


def apply_map(latent: NDArray[np.float32], preview: Mapping[str, Any]) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] of `latent` (f32 [C, h, w]) through {"matrix": C x 3, "bias": 3}."""
    matrix = np.asarray(preview["matrix"], np.float32)
    bias = np.asarray(preview["bias"], np.float32)
    return _to_bytes(np.tensordot(latent, matrix, axes=(0, 0)) + bias)


def fit_preview(
    latents: Sequence[NDArray[np.float32]], pictures: Sequence[NDArray[np.uint8]]
) -> dict[str, Any]:
    """The map that comes closest, by least squares, as preview.json holds it.

    latents: f32 [C, h, w] each; pictures: uint8 [H, W, 3] each, H and W multiples of h and w.
    """
    cells, colours = [], []
    for latent, picture in zip(latents, pictures, strict=True):
        channels, rows, columns = latent.shape
        height, width = picture.shape[:2]
        cells.append(latent.reshape(channels, -1).T)
        blocks = picture.reshape(rows, height // rows, columns, width // columns, 3)
        colours.append(blocks.mean(axis=(1, 3)).reshape(-1, 3) / 255)
    known = np.concatenate(cells)
    known = np.concatenate([known, np.ones((len(known), 1), known.dtype)], axis=1)
    solution = np.linalg.lstsq(known.astype(np.float64), np.concatenate(colours))[0]
    rounded: Any = np.round(solution, 6).tolist()
    return {"matrix": rounded[:-1], "bias": rounded[-1]}


def _principal_grey(latent: NDArray[np.float32]) -> NDArray[np.uint8]:
    channels = latent.reshape(len(latent), -1).astype(np.float64)
    channels -= channels.mean(axis=1, keepdims=True)
    component = np.linalg.eigh(channels @ channels.T)[1][:, -1]
    component *= np.sign(component[np.abs(component).argmax()])  # eigenvectors have no sign
    grey = component @ channels
    grey = 0.5 + grey / (4 * grey.std() + 1e-12)  # two standard deviations to either side
    return _to_bytes(np.repeat(grey.reshape(*latent.shape[1:], 1), 3, axis=2))


def _to_bytes(colours: NDArray[Any]) -> NDArray[np.uint8]:
    return (colours.clip(0, 1) * 255).round().astype(np.uint8)
