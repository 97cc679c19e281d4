from pathlib import Path

import pytest

from diffusion.random_model import DC_AE_SHAPE, Shape, write_random_model


@pytest.fixture(scope="session")
def kl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a Flux-type VAE, its weights in several files."""
    path = tmp_path_factory.mktemp("models") / "tiny-kl"
    return write_random_model(path, Shape(), max_shard=300_000)


@pytest.fixture(scope="session")
def dc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a DC-AE: 32 channels, 32 times smaller, patch 1."""
    path = tmp_path_factory.mktemp("models") / "tiny-dc"
    return write_random_model(path, DC_AE_SHAPE, seed=1)
