"""What diffusers makes of the settings that are asked for while faults happen."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import PRXPipeline
from diffusers.utils import logging

SIDE, STEPS, GUIDANCE = 64, 24, 4.0
PROMPT = "a rocket on a blue background"
TOLERANCE = 1e-5  # relative L2, in f32


class Reference:
    """The latents of one model, by seed."""

    def __init__(self, folder: Path) -> None:
        logging.set_verbosity_error()
        self._pipeline = PRXPipeline.from_pretrained(folder, dtype=torch.float32)
        self._pipeline.set_progress_bar_config(disable=True)
        self._latents: dict[tuple[int, int, int], np.ndarray] = {}

    def latent(self, seed: int, steps: int = STEPS, side: int = SIDE) -> np.ndarray:
        """f32 [C, h, w]."""
        wanted = seed, steps, side
        if wanted not in self._latents:
            self._latents[wanted] = self._made(*wanted)
        return self._latents[wanted]

    def _made(self, seed: int, steps: int, side: int) -> np.ndarray:
        images: Any = self._pipeline(
            PROMPT, negative_prompt="", height=side, width=side, num_inference_steps=steps,
            guidance_scale=GUIDANCE, generator=torch.Generator("cpu").manual_seed(seed),
            output_type="latent", use_resolution_binning=False,
        ).images  # fmt: skip
        return np.asarray(images[0], dtype=np.float32)

    def distance(
        self, latent: np.ndarray, seed: int, steps: int = STEPS, side: int = SIDE
    ) -> float:
        """Relative L2 from diffusers' latent."""
        theirs = self.latent(seed, steps, side)
        return float(np.linalg.norm(latent - theirs) / np.linalg.norm(theirs))
