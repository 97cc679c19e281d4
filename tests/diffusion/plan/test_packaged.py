"""A package runs as it is: its plan, its bytes on the device, nothing of its model's folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffusion.backends.torch_backend import TorchBackend
from diffusion.backends.wgpu_backend import open_wgpu_package
from diffusion.backends.wgpu_device import Device
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from diffusion.packaging.manifest import dtypes_of, write_manifest
from diffusion.packaging.pack import CompiledPlan, pack_model
from diffusion.packaging.package import Package, PackageError
from diffusion.pipeline import generate
from diffusion.plan.compiler import compile_folder
from diffusion.plan.packaged import PackagedPlan
from diffusion.plan.schema import write_plan
from diffusion.plan.shaders import shader_hashes
from diffusion.settings import Settings
from tests.diffusion.plan.conftest import WGSL
from tests.diffusion.plan.rounded import write_rounded_model
from tests.diffusion.plan.single import distance

EMOJI = Path(__file__).resolve().parents[3] / "models" / "prx-emoji"
PROMPT = "a red apple left of a small dog"
MIXED = "int4-int8-f16"


def pack(folder: Path, out: Path, variant: str, max_shard: int = 2**24) -> Package:
    compiled = compile_folder(read_model_folder(folder), variant)
    plan = CompiledPlan(write_plan(compiled.plan), shader_hashes(compiled.plan, WGSL))
    weights = list(compiled.weights.values())
    pack_model(folder, out, dtypes_of(variant), plan=plan, weights=weights, max_shard=max_shard)
    return Package(out)


@pytest.fixture(scope="module")
def package(kl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Of the tiny model, in shards so small that tensors lie across them."""
    return pack(kl_folder, tmp_path_factory.mktemp("packages") / MIXED, MIXED, max_shard=8192)


def changed(package: Package, target: Path, **changes: Any) -> Package:
    """The package with another manifest."""
    target.mkdir()
    for file in package.path.glob("*.bin"):
        (target / file.name).symlink_to(file)
    (target / "manifest.json").write_bytes(write_manifest(replace(package.manifest, **changes)))
    return Package(target)


def test_a_package_draws_what_torch_draws_with_its_weights(
    package: Package, kl_folder: Path, device: Device, tmp_path: Path
) -> None:
    ours = open_wgpu_package(package, tmp_path / "scratch", device, WGSL, poison=True)
    rounded = write_rounded_model(kl_folder, tmp_path / "rounded", MIXED)
    theirs = TorchBackend(read_model_folder(rounded))
    texts, latents = [], []
    for backend in (ours, theirs):
        texts.append(backend.encode(PROMPT, "blurry", 4.0))
        noise = initial_noise(7, (16, 4, 6))
        latents.append(backend.denoise(texts[-1], noise, steps=2, guidance=4.0, start=0, stop=2))
    assert distance(texts[0]["prompt"], texts[1]["prompt"]) < 1e-4
    assert distance(*latents) < 1e-4
    off = ours.decode(latents[1]).astype(int) - theirs.decode(latents[1])
    assert np.abs(off).max() <= 1


def test_prx_emoji_in_int8_draws_its_picture(device: Device, tmp_path: Path) -> None:
    package = pack(EMOJI, tmp_path / "package", "int8")
    folder = read_model_folder(EMOJI)
    ours = open_wgpu_package(package, tmp_path / "scratch", device, WGSL, poison=True)
    assert ours.folder == replace(folder, name="scratch", path=ours.folder.path)
    wanted = Settings(PROMPT, folder.name, 64, 64, steps=1, guidance=4.0, seed=1)
    [mine], [its] = (generate(backend, wanted) for backend in (ours, TorchBackend(folder)))
    assert distance(mine.latent, its.latent) < 2e-2
    off = mine.pixels.astype(float) - its.pixels
    assert 10 * np.log10(255**2 / np.mean(off**2)) >= 30  # PSNR in dB


@pytest.mark.parametrize(
    "name",
    ["text_encoder/embedding", "transformer/blocks.0.gate_up", "vae/decoder.conv_in"],
)
def test_rows_are_those_of_the_whole(package: Package, name: str) -> None:
    """int4, int8 and f16; the embedding lies in several shards."""
    whole = package.tensor(name)
    whole = whole.reshape(len(whole), -1)
    numbers = [len(whole) - 1, 0, 3, 3]
    assert np.array_equal(package.rows(name, numbers), whole[numbers])
    assert package.rows(name, []).shape == (0, whole.shape[1])
    with pytest.raises(IndexError):
        package.rows(name, [len(whole)])
    with pytest.raises(IndexError):
        package.rows(name, [-1])


def test_the_embedding_lies_in_several_shards(package: Package) -> None:
    assert len(package.manifest.tensors["text_encoder/embedding"].pieces) > 1


def test_a_package_without_a_plan_cannot_be_run(package: Package, tmp_path: Path) -> None:
    bare = changed(package, tmp_path / "bare", plan=None)
    with pytest.raises(PackageError, match="no plan"):
        PackagedPlan(bare, WGSL)


def test_a_plan_that_the_tensors_do_not_fit_is_refused(package: Package, tmp_path: Path) -> None:
    """A tensor turned over, of as many bytes, or none at all."""
    name = "transformer/txt_in"
    tensors = dict(package.manifest.tensors)
    rows, columns = tensors[name].shape
    for number, tensor in enumerate((replace(tensors[name], shape=(columns, rows)), None)):
        others = {key: value for key, value in tensors.items() if key != name}
        if tensor is not None:
            others[name] = tensor
        broken = changed(package, tmp_path / str(number), tensors=others)
        with pytest.raises(PackageError, match=r"differ in transformer\.txt_in"):
            PackagedPlan(broken, WGSL)


def test_a_plan_for_other_shaders_is_refused(package: Package, tmp_path: Path) -> None:
    wgsl = dict(package.manifest.wgsl) | {"matmul": "ab" * 32}
    with pytest.raises(PackageError, match="other shaders"):
        PackagedPlan(changed(package, tmp_path / "other", wgsl=wgsl), WGSL)
