"""PRX-Emoji out of a package against PRX-Emoji out of its folder: what rounding costs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from diffusion.backends import Backend, open_backend
from diffusion.model_folder import read_model_folder
from diffusion.packaging.package import Package
from diffusion.packaging.source import COMPONENTS, STEMS
from tests.diffusion.packaging.conftest import pack

FOLDER = Path("models/prx-emoji")
PROMPTS = ("a rocket above a full moon on a black background",)
STEPS, SIDE = 8, 16  # latent cells: 128 px

# Relative L2 of a segment, and PSNR of the picture: the goals of the product
GOALS = {"f16": (5e-3, 38.0), "int8": (2e-2, 30.0), "int4": (1e-1, 20.0)}


def unpacked(package: Package, target: Path) -> Path:
    """The package as a model folder in f32. Its VAE can decode only."""
    for config in package.manifest.configs:
        (target / config).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FOLDER / config, target / config)
    for file in package.manifest.files:
        (target / file).write_bytes(package.file(file))
    for component in COMPONENTS:
        tensors = {
            name.partition("/")[2]: np.ascontiguousarray(package.tensor(name))
            for name in package.manifest.tensors
            if name.startswith(f"{component}/")
        }
        save_file(tensors, target / component / f"{STEMS[component]}.safetensors")
    return target


class Run:
    """All stages of a picture, each from the reference's input and once in a row."""

    def __init__(self, backend: Backend, given: "Run | None" = None) -> None:
        self.features = [backend.encode(prompt, "", 4.0) for prompt in PROMPTS]
        shape = (16, SIDE, SIDE)
        start = [
            np.random.default_rng(number).standard_normal(shape).astype(np.float32)
            for number in range(len(PROMPTS))
        ]
        own = given or self

        def steps(features, latent, first, last):
            return backend.denoise(
                features, latent, steps=STEPS, guidance=4.0, start=first, stop=last
            )

        pairs = list(zip(own.features, start, strict=True))
        self.velocity = [steps(f, x, 0, 1) - x for f, x in pairs]
        self.latents = [steps(f, x, 0, STEPS) for f, x in zip(self.features, start, strict=True)]
        self.decoded = [backend.decode(latent) for latent in own.latents]
        self.pictures = [backend.decode(latent) for latent in self.latents]


@pytest.fixture(scope="module")
def reference() -> Run:
    return Run(open_backend("torch", read_model_folder(FOLDER)))


def relative(found, exact) -> float:
    pairs = list(zip(found, exact, strict=True))
    off = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return (off / sum(float((b**2).sum()) for _, b in pairs)) ** 0.5


def psnr(found, exact) -> float:
    squares = [(a.astype(np.float64) - b) ** 2 for a, b in zip(found, exact, strict=True)]
    return float(10 * np.log10(255**2 / max(np.mean(squares), 1e-9)))


@pytest.mark.parametrize("variant", GOALS)
def test_a_packed_model_draws_the_same(reference, variant, tmp_path):
    package = pack(FOLDER, tmp_path / "package", variant, max_shard=16 * 2**20)
    backend = open_backend("torch", read_model_folder(unpacked(package, tmp_path / "folder")))
    run = Run(backend, given=reference)
    segment, picture = GOALS[variant]
    features = [[one["prompt"] for one in r.features] for r in (run, reference)]
    numbers = {
        "encode": relative(*features),
        "step": relative(run.velocity, reference.velocity),
        "latents": relative(run.latents, reference.latents),
        "decode": psnr(run.decoded, reference.decoded),
        "picture": psnr(run.pictures, reference.pictures),
    }
    print(variant, numbers)
    assert numbers["encode"] <= segment
    assert numbers["step"] <= segment
    assert numbers["decode"] >= picture
    assert numbers["picture"] >= picture
