"""A compiled plan gives what torch gives, stage by stage and as a whole, on both executors.

"twins" are the shaders' twins in numpy and say that the compilers are right; "wgpu" is the device.
Every buffer begins as NaN. Weights of each type are compared with torch over the same rounded
weights; what the rounding costs is for tests/diffusion/packaging/test_fidelity.py.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion.backends.plan_backend import PlanBackend, Run
from diffusion.backends.torch_backend import TorchBackend
from diffusion.backends.wgpu_backend import open_wgpu
from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from diffusion.packaging.storage import DTYPES
from diffusion.pipeline import generate
from diffusion.plan.compiler import Compiled, compile_folder
from diffusion.plan.expressions import PlanError
from diffusion.plan.sizes import memory, symbol_values
from diffusion.plan.transformer import time_waves
from diffusion.plan.twin_runner import TwinRun
from diffusion.random_model import Shape, write_random_model
from diffusion.settings import Settings
from tests.diffusion.plan.rounded import write_rounded_model
from tests.diffusion.plan.single import distance

EMOJI = Path(__file__).resolve().parents[3] / "models" / "prx-emoji"
PROMPT = "a red apple left of a small dog"
CLOSE = 1e-4
F16_PICTURES = 2e-3  # the decoder's pictures are f16 where weights are not f32
TEXTS = ("", PROMPT)

Array = np.ndarray[Any, Any]
OpenRun = Callable[[Compiled, dict[str, int]], Run]


@pytest.fixture(scope="module")
def theirs(kl_folder: Path) -> TorchBackend:
    return TorchBackend(read_model_folder(kl_folder))


@pytest.fixture(scope="module", params=["twins", "wgpu"])
def open_run(request: pytest.FixtureRequest) -> OpenRun:
    if request.param == "twins":
        return lambda compiled, sizes: TwinRun(compiled.plan, compiled.read_weight, sizes)
    device: Device = request.getfixturevalue("device")
    kept: dict[int, Weights] = {}

    def run(compiled: Compiled, sizes: dict[str, int]) -> Run:
        if id(compiled) not in kept:
            kept[id(compiled)] = Weights(device, compiled.plan, compiled.read_weight)
        return DeviceRun(device, compiled.plan, kept[id(compiled)], sizes, poison=True)

    return run


@pytest.fixture(scope="module", params=DTYPES)
def stored(
    request: pytest.FixtureRequest, kl_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Compiled, TorchBackend]:
    """The tiny model with weights of each type, and torch over what they were rounded to."""
    target = tmp_path_factory.mktemp("rounded") / request.param
    rounded = read_model_folder(write_rounded_model(kl_folder, target, request.param))
    return compile_folder(read_model_folder(kl_folder), request.param), TorchBackend(rounded)


def features(theirs: TorchBackend) -> list[Array]:
    encoded = theirs.encode(PROMPT, "", 2)
    return [encoded["negative"], encoded["prompt"]]


def prepared(run: Run, theirs: TorchBackend, texts: list[Array], steps: int) -> None:
    """The texts' and the schedule's stages, as the denoise stage needs them."""
    longest = max(len(text) for text in texts)
    padded = np.zeros((len(texts), longest, theirs.folder.text_dim), np.float32)
    for place, text in zip(padded, texts, strict=True):
        place[: len(text)] = text
    run.write("prepare", "text", padded)
    run.run("prepare")
    times = theirs._schedule_config.schedule(steps).times
    time = {"features": 256, "factor": 1000.0, "max_period": 10000}
    run.write("modulation", "waves", time_waves(times, time))
    run.run("modulation")
    run.write("denoise", "text_lengths", np.array([len(text) for text in texts], np.uint32))


def their_velocity(theirs: TorchBackend, latent: Array, texts: list[Array], step: int) -> Array:
    network = theirs._transformer
    with torch.inference_mode():
        _, modulation = theirs._plan(4)
        rows, columns = (side // network.patch for side in latent.shape[1:])
        velocity: Array = network.velocity(
            torch.from_numpy(latent),
            [network.text_kv(torch.from_numpy(text)) for text in texts],
            modulation,
            step,
            network.rotation(rows, columns),
        ).numpy()
    return velocity


@pytest.mark.parametrize("text", ["a", PROMPT])
def test_encode(open_run: OpenRun, stored: tuple[Compiled, TorchBackend], text: str) -> None:
    compiled, theirs = stored
    ids = theirs._tokenize(text)
    with closing(open_run(compiled, {"T": len(ids)})) as run:
        run.write("encode", "token_rows", compiled.read_rows("text_encoder.embedding", ids))
        run.run("encode")
        ours = run.read("encode", "features")
    with torch.inference_mode():
        reference = theirs._text_encoder.encode(ids).numpy()
    assert distance(ours, reference) < CLOSE


def test_no_token_has_no_feature(open_run: OpenRun, tiny: Compiled) -> None:
    with closing(open_run(tiny, {"T": 0})) as run:
        run.run("encode")
        assert run.read("encode", "features").shape == (0, 48)


def test_modulation(open_run: OpenRun, stored: tuple[Compiled, TorchBackend]) -> None:
    compiled, theirs = stored
    _, table = theirs._plan(7)
    with closing(open_run(compiled, {"S": 7})) as run:
        times = theirs._schedule_config.schedule(7).times
        host = compiled.plan.host["transformer"]
        run.write("modulation", "waves", time_waves(times, host["time"]))
        run.run("modulation")
        blocks = [run.read("modulation", f"modulation.{n}") for n in range(host["depth"])]
        ours = np.stack(blocks, axis=1).reshape(table.blocks.shape)
    ours[:, :, [1, 4]] += 1  # torch's table holds 1 + scale
    assert distance(ours, table.blocks.numpy()) < CLOSE


@pytest.mark.parametrize("side", [(8, 10), (2, 14)])
def test_denoise_both_halves_in_one_batch(
    open_run: OpenRun, stored: tuple[Compiled, TorchBackend], side: tuple[int, int]
) -> None:
    compiled, theirs = stored
    texts, (rows, columns) = features(theirs), side
    latent = initial_noise(3, (16, rows, columns))
    sizes = {"B": 2, "T": max(map(len, texts)), "S": 4, "H": rows, "W": columns}
    with closing(open_run(compiled, sizes)) as run:
        prepared(run, theirs, texts, 4)
        run.write("denoise", "latent", latent)
        for step in (2, 0):
            run.write("denoise", "step", np.array([step], np.uint32))
            run.run("denoise")
            ours = run.read("denoise", "velocity")
            assert distance(ours, their_velocity(theirs, latent, texts, step)) < CLOSE


def test_halves_apart_give_what_they_give_together(
    open_run: OpenRun, tiny: Compiled, theirs: TorchBackend
) -> None:
    texts, latent = features(theirs), initial_noise(4, (16, 6, 8))
    reference = their_velocity(theirs, latent, texts, 1)
    for text, expected in zip(texts, reference, strict=True):
        with closing(open_run(tiny, {"B": 1, "T": len(text), "S": 4, "H": 6, "W": 8})) as run:
            prepared(run, theirs, [text], 4)
            run.write("denoise", "latent", latent)
            run.write("denoise", "step", np.array([1], np.uint32))
            run.run("denoise")
            assert distance(run.read("denoise", "velocity")[0], expected) < CLOSE


def test_blocks_of_a_step_may_run_on_different_workers(
    open_run: OpenRun, tiny: Compiled, theirs: TorchBackend
) -> None:
    texts, latent = features(theirs), initial_noise(5, (16, 6, 8))
    sizes = {"B": 2, "T": max(map(len, texts)), "S": 4, "H": 6, "W": 8}
    step = np.array([0], np.uint32)
    with closing(open_run(tiny, sizes)) as first, closing(open_run(tiny, sizes)) as second:
        for run in (first, second):
            prepared(run, theirs, texts, 4)
            run.write("denoise", "step", step)
        first.write("denoise", "latent", latent)
        first.run("denoise", ["begin", "block.0"])
        second.write("denoise", "hidden", first.read("denoise", "hidden"))
        second.run("denoise", ["block.1", "end"])
        ours = second.read("denoise", "velocity")
    assert distance(ours, their_velocity(theirs, latent, texts, 0)) < CLOSE


@pytest.mark.parametrize("side", [(4, 6), (5, 3)])
def test_decode(
    open_run: OpenRun, stored: tuple[Compiled, TorchBackend], side: tuple[int, int]
) -> None:
    compiled, theirs = stored
    exact = compiled.plan.weights["vae.decoder.conv_in"].type == "f32"
    tolerance = CLOSE if exact else F16_PICTURES
    rows, columns = (cells * 2 for cells in side)
    latent = initial_noise(6, (16, rows, columns))
    with torch.inference_mode():
        reference = theirs._decoder.decode(torch.from_numpy(latent)).permute(1, 2, 0).numpy()
    with closing(open_run(compiled, {"H": rows, "W": columns})) as run:
        run.write("decode", "latent", latent)
        run.run("decode")
        assert distance(run.read("decode", "rgb")[..., :3], reference) < tolerance
        packed = run.read("decode", "rgba")
    pixels = packed.view(np.uint8).reshape(*packed.shape, 4)
    off = np.abs(pixels[..., :3].astype(int) - theirs.decode(latent).astype(int))
    assert off.mean() < 255 * tolerance
    assert (pixels[..., 3] == 255).all()


@pytest.fixture(scope="module")
def ours(kl_folder: Path, device: Device) -> PlanBackend:
    return open_wgpu(read_model_folder(kl_folder), device, poison=True)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_whole_way_gives_the_latents_of_torch(
    ours: PlanBackend, theirs: TorchBackend, guidance: float
) -> None:
    noise = initial_noise(7, (16, 8, 10))
    results = []
    for backend in (ours, theirs):
        encoded = backend.encode(f"  {PROMPT.upper()} &amp; more", "blurry", guidance)
        seen: list[int] = []
        results.append(
            backend.denoise(
                encoded,
                noise,
                steps=8,
                guidance=guidance,
                start=0,
                stop=8,
                on_step=lambda step, latent, seen=seen: seen.append(step),
            )
        )
        assert seen == list(range(1, 9))
    assert distance(*results) < CLOSE


def test_cutting_the_steps_gives_the_same_bits(ours: PlanBackend) -> None:
    encoded = ours.encode(PROMPT, "", 4)
    noise = initial_noise(8, (16, 4, 6))
    whole = ours.denoise(encoded, noise, steps=3, guidance=4, start=0, stop=3)
    first = ours.denoise(encoded, noise, steps=3, guidance=4, start=0, stop=1)
    assert np.array_equal(ours.denoise(encoded, first, steps=3, guidance=4, start=1, stop=3), whole)
    assert np.array_equal(noise, initial_noise(8, (16, 4, 6)))


def test_a_device_takes_the_memory_that_was_planned(device: Device, tiny_f16: Compiled) -> None:
    sizes = {"H": 10, "W": 6}
    planned = memory(tiny_f16.plan, "decode", symbol_values(tiny_f16.plan, sizes))
    before = device.bytes
    weights = Weights(device, tiny_f16.plan, tiny_f16.read_weight)
    with closing(DeviceRun(device, tiny_f16.plan, weights, sizes)) as run:
        run.write("decode", "latent", initial_noise(0, (16, 10, 6)))
        run.run("decode")
        run.read("decode", "rgb")
        assert weights.bytes == planned.weights
        assert run.bytes == planned.pool + planned.shared
        assert device.bytes - before == planned.total
    weights.release()
    assert weights.bytes == 0
    assert device.bytes == before


def test_what_a_device_cannot_bind_is_refused_before_it_is_tried(
    device: Device, tiny: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "largest_binding", 100_000)
    weights = Weights(device, tiny.plan, tiny.read_weight)
    with closing(DeviceRun(device, tiny.plan, weights, {"H": 30, "W": 30})) as run:
        with pytest.raises(PlanError, match=r"takes \d+ bytes; this device binds 100000"):
            run.write("decode", "latent", initial_noise(0, (16, 30, 30)))
        assert run.bytes == 0


def test_prx_emoji_on_a_device_is_prx_emoji(device: Device) -> None:
    folder = read_model_folder(EMOJI)
    backends = open_wgpu(folder, device, variant="f16", poison=True), TorchBackend(folder)
    wanted = Settings(PROMPT, folder.name, 64, 96, steps=2, guidance=4.0, seed=1)
    [ours], [theirs] = (generate(backend, wanted) for backend in backends)
    assert distance(ours.latent, theirs.latent) < CLOSE  # it is stored as f16 anyway
    off = ours.pixels.astype(float) - theirs.pixels
    assert 10 * np.log10(255**2 / max(np.mean(off**2), 1e-9)) > 50  # PSNR in dB


@pytest.mark.parametrize(
    "shape",
    [
        Shape(hidden=192, heads=3, axes=(32, 32), depth=3, text_kv_heads=2),
        Shape(hidden=96, heads=2, axes=(32, 16), depth=1, text_heads=2, text_kv_heads=1),
        Shape(vae_channels=(16, 32), vae_groups=4, vae_layers=2, text_layers=1),
    ],
    ids=["hidden 192", "unequal axes", "two levels"],
)
def test_other_shapes_compile_to_right_plans(tmp_path: Path, shape: Shape) -> None:
    folder = read_model_folder(write_random_model(tmp_path / "other", shape, seed=5))
    compiled, theirs = compile_folder(folder, "f32"), TorchBackend(folder)

    def open_twins(sizes: Any) -> Run:
        return TwinRun(compiled.plan, compiled.read_weight, sizes)

    ours = PlanBackend(folder, compiled, open_twins, "twins", "numpy")
    noise = initial_noise(1, (16, 6, 8))
    latents = [
        backend.denoise(backend.encode(PROMPT, "", 3), noise, steps=2, guidance=3, start=0, stop=2)
        for backend in (ours, theirs)
    ]
    assert distance(*latents) < CLOSE
    off = np.abs(ours.decode(latents[1]).astype(int) - theirs.decode(latents[1]).astype(int))
    assert off.max() <= 1
