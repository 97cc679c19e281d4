"""A compiled DC-AE gives what diffusers' AutoencoderDC gives, on both executors.

Every buffer begins as NaN. Where a level has no more pixels than a head has channels, torch takes
another way through the same attention; the smallest pictures here go there.
"""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion.backends.plan_backend import Run
from diffusion.backends.torch_backend import TorchBackend
from diffusion.backends.wgpu_backend import open_wgpu
from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.model_folder import ModelFolderError, read_model_folder
from diffusion.noise import initial_noise
from diffusion.packaging.source import folder_weights
from diffusion.pipeline import generate
from diffusion.plan.builder import PlanBuilder
from diffusion.plan.compiler import Compiled
from diffusion.plan.dcae import DeepCompressionCompiler
from diffusion.plan.schema import Symbol
from diffusion.plan.twin_runner import TwinRun
from diffusion.plan.weights import FolderTensors, PlanWeight
from diffusion.settings import Settings
from diffusion.torch_parts.decoder import load_decoder
from tests.diffusion.plan.single import distance

F32, F16 = 1e-4, 5e-3
CPU = torch.device("cpu")

Array = np.ndarray[Any, Any]
OpenRun = Callable[[Compiled, dict[str, int]], Run]


@pytest.fixture(params=[("tiny_dc", F32), ("tiny_dc_f16", F16)], ids=["f32", "f16"])
def stored(request: pytest.FixtureRequest) -> tuple[Compiled, float]:
    """The tiny model with matrices of each type, and how near it must come."""
    name, tolerance = request.param
    return request.getfixturevalue(name), tolerance


@pytest.fixture(params=["twins", "wgpu"])
def open_run(request: pytest.FixtureRequest) -> OpenRun:
    if request.param == "twins":
        return open_twins
    device: Device = request.getfixturevalue("device")

    def run(compiled: Compiled, sizes: dict[str, int]) -> Run:
        weights = Weights(device, compiled.plan, compiled.read_weight)
        return DeviceRun(device, compiled.plan, weights, sizes, poison=True)

    return run


def open_twins(compiled: Compiled, sizes: dict[str, int]) -> Run:
    return TwinRun(compiled.plan, compiled.read_weight, sizes)


def decoded(open_run: OpenRun, compiled: Compiled, latent: Array) -> tuple[Array, Array]:
    """The picture f32 [h, w, 3], and packed for screens u8 [h, w, 4]."""
    _, rows, columns = latent.shape
    with closing(open_run(compiled, {"H": rows, "W": columns})) as run:
        run.write("decode", "latent", latent)
        run.run("decode")
        packed = run.read("decode", "rgba")
        return run.read("decode", "rgb")[..., :3], packed.view(np.uint8).reshape(*packed.shape, 4)


def their_picture(folder: Path, latent: Array) -> Array:
    with torch.inference_mode():
        rgb = load_decoder(folder, CPU, torch.float32).decode(torch.from_numpy(latent))
    picture: Array = rgb.permute(1, 2, 0).numpy()
    return picture


@pytest.mark.parametrize("side", [(2, 3), (5, 4)])
def test_decode(
    open_run: OpenRun, stored: tuple[Compiled, float], dc_folder: Path, side: tuple[int, int]
) -> None:
    compiled, tolerance = stored
    latent = initial_noise(6, (32, *side))
    reference = their_picture(dc_folder, latent)
    ours, pixels = decoded(open_run, compiled, latent)
    assert distance(ours, reference) < tolerance
    expected = ((reference / 2 + 0.5).clip(0, 1) * 255).round()
    assert np.abs(pixels[..., :3] - expected).mean() < 255 * tolerance
    assert (pixels[..., 3] == 255).all()


@pytest.fixture
def copy(dc_folder: Path, tmp_path: Path) -> Path:
    """The folder with a VAE that a test may change; all else are links."""
    for part in dc_folder.iterdir():
        if part.name != "vae":
            (tmp_path / part.name).symlink_to(part)
    (tmp_path / "vae").mkdir()
    for file in (dc_folder / "vae").iterdir():
        (tmp_path / "vae" / file.name).write_bytes(file.read_bytes())
    return tmp_path


def put_vae(folder: Path, options: dict[str, Any]) -> None:
    """Another DC-AE into the folder, of three levels, all its parameters random."""
    from diffusers import AutoencoderDC

    defaults: dict[str, Any] = {
        "latent_channels": 8,
        "attention_head_dim": 8,
        "decoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
        "encoder_block_out_channels": (8, 16, 16),
        "decoder_block_out_channels": (8, 16, 16),
        "encoder_layers_per_block": (1, 1, 1),
        "decoder_layers_per_block": (1, 2, 1),
        "encoder_qkv_multiscales": ((), (), ()),
        "decoder_qkv_multiscales": ((), (), (5,)),
        "scaling_factor": 0.5,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        vae = AutoencoderDC(**defaults | options)
        for name, parameter in vae.named_parameters():
            if parameter.ndim == 1:  # biases around 0, norm weights around 1
                centre = float("norm" in name and name.endswith(".weight"))
                torch.nn.init.normal_(parameter, mean=centre, std=0.2)
    vae.save_pretrained(folder / "vae")


def compile_vae(folder: Path) -> Compiled:
    """Its decoder alone."""
    side = Symbol(smallest=1, largest=64)
    builder = PlanBuilder({"H": side, "W": side}, "f32")
    tensors = FolderTensors("vae", folder_weights(folder))
    DeepCompressionCompiler(folder, tensors, builder).compile()
    plan = builder.finish({})
    weights = {
        name: PlanWeight(
            name, plan.weights[name], recipe, tuple(tensors[source] for source in recipe.sources)
        )
        for name, recipe in builder.recipes.items()
    }
    return Compiled(plan, weights)


@pytest.mark.parametrize(
    "options",
    [
        {"upsample_block_type": "pixel_shuffle"},
        {"upsample_block_type": "pixel_shuffle", "decoder_layers_per_block": (0, 1, 1)},
        {"upsample_block_type": "interpolate", "decoder_layers_per_block": (0, 1, 1)},
        {"decoder_in_shortcut": False, "decoder_block_types": "ResBlock"},
        {
            "decoder_block_types": ("EfficientViTBlock", "ResBlock", "EfficientViTBlock"),
            "decoder_qkv_multiscales": ((), (), (3, 5)),
        },
        {"attention_head_dim": 12, "decoder_block_out_channels": (16, 16, 32)},
    ],
    ids=[
        "pixel shuffle",
        "shuffled last layer",
        "interpolated last layer",
        "no shortcut in",
        "no and two scales",
        "channels that are no head's",
    ],
)
def test_other_configurations_decode_too(copy: Path, options: dict[str, Any]) -> None:
    put_vae(copy, options)
    latent = initial_noise(2, (8, 3, 5))
    ours, _ = decoded(open_twins, compile_vae(copy), latent)
    assert distance(ours, their_picture(copy, latent)) < F32


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("in_channels", 4),
        ("decoder_norm_types", ["batch_norm"] * 3 + ["rms_norm"] * 3),
        ("decoder_act_fns", "relu"),
        ("decoder_conv_act_fn", "silu"),
        ("upsample_block_type", "transposed"),
        ("decoder_block_types", "MambaBlock"),
        ("decoder_layers_per_block", [1, 0, 1, 1, 1, 1]),
        ("decoder_layers_per_block", [1, 1, 1, 1, 1]),
        ("attention_head_dim", 6),
    ],
)
def test_what_has_no_compiler_is_refused_by_name(copy: Path, option: str, value: Any) -> None:
    file = copy / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {option: value}))
    with pytest.raises(ModelFolderError, match=option):
        compile_vae(copy)


def test_channels_that_repeat_no_whole_number_of_times_are_refused(copy: Path) -> None:
    file = copy / "vae" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"decoder_block_out_channels": [16, 16, 16, 32, 32, 48]}))
    with pytest.raises(ModelFolderError, match="decoder_block_out_channels"):
        compile_vae(copy)


def test_the_whole_way_gives_the_picture_of_torch(dc_folder: Path, device: Device) -> None:
    folder = read_model_folder(dc_folder)
    wanted = Settings("a red apple", folder.name, 64, 96, steps=2, guidance=4.0, seed=1)
    [ours], [theirs] = (
        generate(backend, wanted)
        for backend in (open_wgpu(folder, device, poison=True), TorchBackend(folder))
    )
    assert distance(ours.latent, theirs.latent) < F32
    assert np.abs(ours.pixels.astype(int) - theirs.pixels).max() <= 1
