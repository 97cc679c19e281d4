"""Pictures that a tab made, next to torch's."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusion.backends import open_backend
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise

# Every latent that a page hands its engine to decode, as `decoded`
DECODED = """
window.decoded = [];
const { postMessage } = Worker.prototype;
Worker.prototype.postMessage = function (message, ...more) {
  if (message?.call === 'decode') decoded.push([...message.request.latent]);
  return postMessage.call(this, message, ...more);
};
"""


def made_by_torch(model: Path, wanted: Any) -> np.ndarray:
    """uint8 [H, W, 3]. wanted: a job, or settings."""
    backend = open_backend("torch", read_model_folder(model))
    conditioning = backend.encode(wanted.prompt, wanted.negative_prompt, wanted.guidance)
    noise = initial_noise(wanted.seed, backend.folder.latent_shape(wanted.width, wanted.height))
    latent = backend.denoise(
        conditioning, noise, steps=wanted.steps, guidance=wanted.guidance,
        start=0, stop=wanted.steps,
    )  # fmt: skip
    return backend.decode(latent)


def decibels(ours: np.ndarray, theirs: np.ndarray) -> float:
    """PSNR; the same picture has 138."""
    off = ours.astype(float) - theirs
    return float(10 * np.log10(255**2 / max(np.mean(off**2), 1e-9)))


def pixels(png: bytes) -> np.ndarray:
    """uint8 [H, W, 3], to be written to."""
    with Image.open(io.BytesIO(png)) as picture:
        return np.array(picture)
