"""PRX at 1024 pixels compiles, and its plan keeps what a browser's GPU needs it to keep."""

import math

import pytest

from diffusion.bands import even_bands
from diffusion.model_folder import read_model_folder
from diffusion.plan.__main__ import table
from diffusion.plan.areas import BAND
from diffusion.plan.compiler import Compiled, compile_folder
from diffusion.plan.schema import read_plan, segment_weights, write_plan
from diffusion.plan.sizes import dispatch_sizes, dispatch_workgroups, memory, symbol_values
from tests.diffusion.plan.hollow import write_hollow_prx

DEFAULT_BINDING = 128 * 2**20  # what WebGPU grants everywhere
SIZES = {"B": 2, "T": 256, "S": 28, "H": 128, "W": 128}
UPPER_HALF = {"A": 0, "O": 64}


@pytest.fixture(scope="module")
def prx(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    path = write_hollow_prx(tmp_path_factory.mktemp("models") / "prx-1024")
    return compile_folder(read_model_folder(path), "f16")


@pytest.fixture(scope="module")
def prx_dc(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """With the DC-AE of prx-512-t2i-dc-ae."""
    path = write_hollow_prx(tmp_path_factory.mktemp("models") / "prx-512-dc", vae="dc-ae")
    return compile_folder(read_model_folder(path), "f16")


def test_the_plan_reads_back(prx: Compiled, prx_dc: Compiled) -> None:
    for compiled in (prx, prx_dc):
        text = write_plan(compiled.plan)
        assert read_plan(text) == compiled.plan
        assert len(text) < 500_000


def test_weights_are_as_many_as_the_model_has(prx: Compiled) -> None:
    def parameters(prefix: str, use: str = "device") -> int:
        return sum(
            weight.bytes // (2 if weight.type == "f16" else 4)
            for name, weight in prx.plan.weights.items()
            if name.startswith(prefix) and weight.use == use and not name.endswith("turns")
        )

    assert parameters("transformer.") == 1_170_691_648
    assert parameters("text_encoder.") == 2_614_341_888 - 256_000 * 2304
    assert parameters("text_encoder.", "rows") == 256_000 * 2304


def test_weights_of_a_dc_ae_are_as_many_as_its_decoder_has(prx_dc: Compiled) -> None:
    weights = {
        name: math.prod(weight.shape)
        for name, weight in prx_dc.plan.weights.items()
        if name.startswith("vae.")
    }
    colours = weights["vae.decoder.conv_out"] // 4 + 1  # of the fourth colour, zeros
    assert sum(weights.values()) - colours == 159_223_171
    kept = sum(count for name, count in weights.items() if name.endswith(".taps"))
    assert kept < 0.01 * sum(weights.values())  # these stay f32


def test_a_block_is_at_most_ten_dispatches(prx: Compiled) -> None:
    stage = prx.plan.stages["denoise"]
    blocks = [part for part in stage.segments if part.name.startswith("block.")]
    assert len(blocks) == 16
    assert max(len(block.dispatches) for block in blocks) <= 10
    for block in blocks:  # and needs no weights but its own
        own = sum(prx.plan.weights[name].bytes for name in segment_weights(prx.plan, block))
        assert own < 94e6


def test_the_network_runs_within_the_default_size_of_a_binding(prx: Compiled) -> None:
    for stage, sizes in (
        ("encode", SIZES),
        ("prepare", SIZES),
        ("modulation", SIZES),
        ("denoise", SIZES | {"B": 1}),
        ("decode", {"H": 64, "W": 64}),
    ):
        needed = memory(prx.plan, stage, symbol_values(prx.plan, sizes))
        assert needed.binding <= DEFAULT_BINDING, stage


def test_a_decode_at_1024_pixels_takes_little_more_than_a_gigabyte(prx: Compiled) -> None:
    needed = memory(prx.plan, "decode", symbol_values(prx.plan, {"H": 128, "W": 128}))
    assert needed.total < 1.2e9
    assert needed.binding <= 2**29


def test_a_band_takes_less_than_its_share_and_its_margins(prx: Compiled) -> None:
    whole = memory(prx.plan, "decode", symbol_values(prx.plan, {"H": 128, "W": 128}))
    for rows, bound in ((64, 0.55), (32, 0.30)):
        sizes = {"H": 128, "W": 128, "A": 128 - rows, "O": rows}
        band = memory(prx.plan, BAND, symbol_values(prx.plan, sizes))
        assert band.weights == whole.weights
        assert band.pool < bound * whole.pool
        assert band.binding < bound * whole.binding


def test_1024_pixels_are_decoded_within_the_default_size_of_a_binding_in_bands(
    prx: Compiled,
) -> None:
    for first, rows in even_bands(128, 5):
        sizes = {"H": 128, "W": 128, "A": first, "O": rows}
        needed = memory(prx.plan, BAND, symbol_values(prx.plan, sizes))
        assert needed.binding <= DEFAULT_BINDING


def test_a_dc_ae_decodes_512_pixels_within_the_default_size_of_a_binding(prx_dc: Compiled) -> None:
    symbols = symbol_values(prx_dc.plan, SIZES | {"H": 16, "W": 16})
    needed = memory(prx_dc.plan, "decode", symbols)
    assert needed.binding == DEFAULT_BINDING
    assert needed.pool < 3.2 * DEFAULT_BINDING  # three pictures of the last level, and little else


@pytest.mark.parametrize("side", [4, 16, 32])
def test_every_dispatch_of_a_dc_ae_fits_the_grid(prx_dc: Compiled, side: int) -> None:
    fits_the_grid(prx_dc, side)


@pytest.mark.parametrize("side", [16, 128, 256])
def test_every_dispatch_fits_the_grid(prx: Compiled, side: int) -> None:
    fits_the_grid(prx, side)


def fits_the_grid(compiled: Compiled, side: int) -> None:
    half = {"A": 1, "O": side // 2} if BAND in compiled.plan.stages else {}
    symbols = symbol_values(compiled.plan, SIZES | {"H": side, "W": side} | half)
    for stage in compiled.plan.stages.values():
        for segment in stage.segments:
            for dispatch in segment.dispatches:
                counts = dispatch_workgroups(dispatch, dispatch_sizes(dispatch, symbols), symbols)
                assert min(counts) > 0
                assert max(counts) <= 65535


def test_inner_tensors_share_buffers(prx: Compiled) -> None:
    """Of some 80 inner tensors of a step no more than three are alive at a time."""
    stage = prx.plan.stages["denoise"]
    inner = [tensor for tensor in stage.tensors.values() if tensor.buffer is not None]
    assert len(inner) > 80
    assert len({tensor.buffer for tensor in inner}) <= 3


def test_the_table_names_every_stage(prx: Compiled) -> None:
    text = table(prx.plan, SIZES | UPPER_HALF)
    assert [line.split()[0] for line in text.splitlines()[1:]] == list(prx.plan.stages)
