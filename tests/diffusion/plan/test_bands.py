"""A picture that is decoded in bands is the picture that is decoded whole, but for rounding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion.backends.errors import TooLargeError
from diffusion.backends.plan_backend import PlanBackend
from diffusion.backends.torch_backend import TorchBackend
from diffusion.backends.wgpu_backend import open_wgpu
from diffusion.backends.wgpu_device import Device
from diffusion.bands import Rows, even_bands, joined
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from diffusion.plan.areas import BAND, margins
from diffusion.plan.compiler import Compiled, compile_folder
from diffusion.plan.twin_runner import TwinRun
from tests.diffusion.plan.single import distance

Array = np.ndarray[Any, Any]

EXACT = 1e-5
CUTS = [(5, 5), (2, 5, 3), (1, 9), (10,)]
ROWS, COLUMNS = 10, 6


def backend(folder: Path, variant: str, device: Device | None) -> PlanBackend:
    """On the device, or on the twins where there is none; buffers begin as NaN."""
    model = read_model_folder(folder)
    if device is not None:
        return open_wgpu(model, device, variant=variant, poison=True)
    compiled = compile_folder(model, variant)
    return PlanBackend(
        model,
        compiled,
        lambda sizes: TwinRun(compiled.plan, compiled.read_weight, sizes),
        "twins",
        "numpy",
    )


@pytest.fixture(scope="module", params=["twins", "wgpu"])
def device_or_twins(request: pytest.FixtureRequest) -> Device | None:
    return None if request.param == "twins" else request.getfixturevalue("device")


def bands_of(counts: tuple[int, ...]) -> list[Rows]:
    return [Rows(sum(counts[:number]), count) for number, count in enumerate(counts)]


def rgb_in_bands(compiled: Compiled, latent: Array, counts: tuple[int, ...]) -> Array:
    """f32 [H, W, 3] on the twins, before it is rounded to bytes."""
    shape = {"H": latent.shape[1], "W": latent.shape[2]}
    runs = [
        TwinRun(compiled.plan, compiled.read_weight, shape | {"A": first, "O": count})
        for first, count in bands_of(counts)
    ]
    segments = [segment.name for segment in compiled.plan.stages[BAND].segments]
    for run in runs:
        run.write(BAND, "latent", latent)
        run.run(BAND, segments[:2])
    for number, segment in enumerate(segments[2:]):
        name = f"moments.{number}"
        together = joined([run.read(BAND, name) for run in runs], counts)
        for run in runs:
            run.write(BAND, name, together)
            run.run(BAND, [segment])
    return np.concatenate([run.read(BAND, "band_rgb") for run in runs])[..., :3]


@pytest.mark.parametrize("counts", CUTS)
def test_bands_are_the_whole_picture(kl_folder: Path, counts: tuple[int, ...]) -> None:
    compiled = compile_folder(read_model_folder(kl_folder), "f32")
    latent = initial_noise(1, (16, ROWS, COLUMNS))
    whole = TwinRun(compiled.plan, compiled.read_weight, {"H": ROWS, "W": COLUMNS})
    whole.write("decode", "latent", latent)
    whole.run("decode")
    rgb = whole.read("decode", "rgb")[..., :3]
    assert distance(rgb_in_bands(compiled, latent, counts), rgb) < EXACT


def test_bands_are_torchs_picture_before_it_is_rounded(kl_folder: Path) -> None:
    model = read_model_folder(kl_folder)
    latent = initial_noise(2, (16, ROWS, COLUMNS))
    with torch.inference_mode():
        decoded = TorchBackend(model)._decoder.decode(torch.from_numpy(latent))
    ours = rgb_in_bands(compile_folder(model, "f32"), latent, (4, 3, 3))
    assert distance(ours, decoded.permute(1, 2, 0).numpy()) < EXACT


@pytest.mark.parametrize(("variant", "off"), [("f32", 0.002), ("f16", 0.25)])
@pytest.mark.parametrize("counts", CUTS)
def test_a_backend_decodes_bands(
    kl_folder: Path,
    device_or_twins: Device | None,
    variant: str,
    off: float,
    counts: tuple[int, ...],
) -> None:
    """off: levels of 255 on average, to which a last bit may round."""
    ours = backend(kl_folder, variant, device_or_twins)
    latent = initial_noise(3, (16, ROWS, COLUMNS))
    seen: list[int] = []

    def exchange(number: int, parts: list[Array]) -> Array:
        seen.append(number)
        return joined(parts, counts)

    found = ours.decode_bands(latent, bands_of(counts), exchange)
    assert found is not None
    assert [len(rows) for rows in found] == [8 * count for count in counts]
    whole = ours.decode(latent)
    assert np.abs(np.concatenate(found).astype(int) - whole).mean() < off
    last = len(ours._planned.plan.stages[BAND].segments) - 2
    assert seen == list(range(last))


def test_two_that_exchange_have_the_picture_of_one(kl_folder: Path) -> None:
    """Each computes one band; the norms of the other come from a run before, as over a wire."""
    ours = backend(kl_folder, "f32", None)
    latent = initial_noise(4, (16, ROWS, COLUMNS))
    bands, together = bands_of((4, 6)), []

    def note(_: int, parts: list[Array]) -> Array:
        together.append(joined(parts, (4, 6)))
        return together[-1]

    both = ours.decode_bands(latent, bands, note)
    assert both is not None
    for band, expected in zip(bands, both, strict=True):
        found = ours.decode_bands(latent, [band], lambda number, _: together[number])
        assert found is not None
        assert np.array_equal(found[0], expected)


def test_whoever_is_left_alone_gives_up(kl_folder: Path) -> None:
    ours = backend(kl_folder, "f32", None)
    latent = initial_noise(5, (16, ROWS, COLUMNS))
    assert ours.decode_bands(latent, [Rows(0, 4)], lambda *_: None) is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_what_are_no_moments_is_refused(kl_folder: Path, wrong: float) -> None:
    ours = backend(kl_folder, "f32", None)
    latent = initial_noise(6, (16, ROWS, COLUMNS))
    with pytest.raises(ValueError, match="no mean and variance"):
        ours.decode_bands(latent, [Rows(0, 4)], lambda _, parts: np.full_like(parts[0], wrong))
    with pytest.raises(ValueError, match="no mean and variance"):
        ours.decode_bands(latent, [Rows(0, 4)], lambda _, parts: parts[0][:, :-1])


@pytest.mark.parametrize("band", [Rows(-1, 4), Rows(0, 0), Rows(8, 4)])
def test_rows_that_the_latent_has_not_are_refused(kl_folder: Path, band: Rows) -> None:
    ours = backend(kl_folder, "f32", None)
    with pytest.raises(ValueError, match="a band of"):
        ours.decode_bands(initial_noise(6, (16, ROWS, COLUMNS)), [band], lambda *_: None)


def test_a_dc_ae_has_no_bands(dc_folder: Path) -> None:
    ours = backend(dc_folder, "f32", None)
    with pytest.raises(ValueError, match="no bands"):
        ours.decode_bands(initial_noise(7, (32, 4, 4)), [Rows(0, 4)], lambda *_: None)


def test_a_picture_too_large_for_a_binding_is_decoded_in_bands(
    kl_folder: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    latent = initial_noise(8, (16, 24, 24))
    whole = backend(kl_folder, "f32", device).decode(latent)
    # 192 x 192 pixels of 16 channels are 2.4 MB; of three bands the largest tensor has 0.98 MB
    monkeypatch.setattr(device, "largest_binding", 1_000_000)
    in_bands = backend(kl_folder, "f32", device)
    with pytest.raises(TooLargeError):
        in_bands._decode_whole(latent)
    assert np.abs(in_bands.decode(latent).astype(int) - whole).mean() < 0.002
    monkeypatch.setattr(device, "largest_binding", 250_000)
    with pytest.raises(TooLargeError):
        in_bands.decode(latent)


def test_margins_are_the_rows_that_convolutions_make_wrong() -> None:
    """Flux has three residual blocks a level: 8 rows of the picture, 11 before, 13 before that."""
    assert margins([6, 7, 7, 8]) == [0, 7, 3, 1]
    assert margins([4, 6]) == [0, 3]


def test_bands_are_even() -> None:
    assert even_bands(7, 3) == [(0, 3), (3, 2), (5, 2)]
    assert even_bands(2, 5) == [(0, 1), (1, 1)]


def test_moments_are_joined_as_if_they_had_been_of_all() -> None:
    values = np.random.default_rng(1).standard_normal((12, 5)).astype(np.float32) + 100
    parts = [values[:2], values[2:7], values[7:]]
    found = joined([np.stack([part.mean(0), part.var(0)]) for part in parts], [2, 5, 5])
    exact = values.astype(np.float64)
    assert np.allclose(found, np.stack([exact.mean(0), exact.var(0)]), rtol=1e-5)
