from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion.backends.wgpu_device import Device
from diffusion.model_folder import read_model_folder
from diffusion.packaging.storage import decode
from diffusion.plan.compiler import Compiled, compile_folder
from diffusion.random_model import DC_AE_SHAPE, Shape, write_random_model

WGSL = Path(__file__).resolve().parents[3] / "static" / "wgsl"


def values(compiled: Compiled, name: str) -> np.ndarray:
    """A weight in f32, of its shape."""
    weight = compiled.plan.weights[name]
    return decode(compiled.read_weight(name).data, weight.type, weight.shape)


@pytest.fixture(scope="session")
def device() -> Device:
    """wgpu on whatever is here; without a GPU Mesa's lavapipe, which `make test` installs."""
    return Device(WGSL)


@pytest.fixture(scope="session")
def kl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose weights are f32, so that storing them as f16 rounds."""
    path = tmp_path_factory.mktemp("models") / "tiny-kl-f32"
    return write_random_model(path, Shape(), dtype=torch.float32, max_shard=300_000)


@pytest.fixture(scope="session")
def tiny(kl_folder: Path) -> Compiled:
    return compile_folder(read_model_folder(kl_folder), "f32")


@pytest.fixture(scope="session")
def tiny_f16(kl_folder: Path) -> Compiled:
    return compile_folder(read_model_folder(kl_folder), "f16")


@pytest.fixture(scope="session")
def dc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a DC-AE, in f32 too."""
    path = tmp_path_factory.mktemp("models") / "tiny-dc-f32"
    return write_random_model(path, DC_AE_SHAPE, dtype=torch.float32)


@pytest.fixture(scope="session")
def tiny_dc(dc_folder: Path) -> Compiled:
    return compile_folder(read_model_folder(dc_folder), "f32")


@pytest.fixture(scope="session")
def tiny_dc_f16(dc_folder: Path) -> Compiled:
    return compile_folder(read_model_folder(dc_folder), "f16")
