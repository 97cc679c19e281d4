"""A backend that computes what another one does, as inexactly as kernels that multiply in f16."""

from typing import Any

import numpy as np

from diffusion.backends import Backend

KERNELS = "few 64x128x8x2, many 128x128x16f16"
# Relative to what the steps change: between the limits of f16 and of `half` (diffusion.likeness),
# and no more than what was measured of honest devices (docs/measurements.md)
OFF = 0.004


class Halved:
    """device, kernels and precision are what a GPU's wgpu backend says."""

    device = "wgpu Vulkan Test GPU, f16"
    kernels = KERNELS
    precision = "f16"

    def __init__(self, exact: Backend) -> None:
        self._exact = exact

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exact, name)

    def denoise(self, conditioning, latent, **steps):
        result = self._exact.denoise(conditioning, latent, **steps)
        error = np.random.default_rng(1).standard_normal(latent.shape).astype(np.float32)
        changed = np.linalg.norm(result - latent)
        return result + OFF * changed / np.linalg.norm(error) * error
