"""Backends with this site's settings."""

from typing import cast

from django.conf import settings as site

from diffusion import backends
from diffusion.backends import Backend, Precision
from diffusion.model_folder import ModelFolder


def open_backend(folder: ModelFolder, name: str | None = None) -> Backend:
    """`folder` with the backend called `name`, or the site's. Raises as diffusion's does."""
    return backends.open_backend(
        name or site.BACKEND,
        folder,
        cast(Precision | None, site.PRECISION),  # diffusion refuses another word
        shaders=site.WGSL_DIR,
        memory_limit=site.GPU_MEMORY_MB * 2**20 or None,
        trials=site.DATA_DIR / "kernels.json",
    )
