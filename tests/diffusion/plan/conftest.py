from pathlib import Path

import pytest

from diffusion.backends.wgpu_device import Device
from diffusion.model_folder import read_model_folder
from diffusion.plan.compiler import Compiled, compile_folder

WGSL = Path(__file__).resolve().parents[3] / "static" / "wgsl"


@pytest.fixture(scope="session")
def device() -> Device:
    """wgpu on whatever is here; without a GPU Mesa's lavapipe, which `make test` installs."""
    return Device(WGSL)


@pytest.fixture(scope="session")
def tiny(kl_folder: Path) -> Compiled:
    return compile_folder(read_model_folder(kl_folder), "f32")


@pytest.fixture(scope="session")
def tiny_f16(kl_folder: Path) -> Compiled:
    return compile_folder(read_model_folder(kl_folder), "f16")
