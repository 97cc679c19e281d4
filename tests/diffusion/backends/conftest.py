"""What these tests share: the shaders, and a tiny model opened in a child process."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from diffusion.backends import open_backend
from diffusion.backends.child_backend import ChildBackend
from diffusion.model_folder import ModelFolder, read_model_folder

WGSL = Path(__file__).resolve().parents[3] / "static" / "wgsl"


@pytest.fixture(scope="session")
def folder(kl_folder: Path) -> ModelFolder:
    return read_model_folder(kl_folder)


@pytest.fixture(scope="module")
def ours(folder: ModelFolder) -> Iterator[ChildBackend]:
    """On whatever is here; without a GPU Mesa's lavapipe, which `make test` installs."""
    backend = open_backend("wgpu", folder, "f32", shaders=WGSL)
    assert isinstance(backend, ChildBackend)
    with closing(backend):
        yield backend
