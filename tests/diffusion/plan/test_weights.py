"""A plan's weights are the folder's tensors, joined, turned and padded, whatever rows one asks."""

from pathlib import Path

import numpy as np
import pytest

from diffusion.model_folder import ModelFolderError, read_model_folder
from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.pack import pack_model
from diffusion.packaging.package import Package
from diffusion.packaging.source import COMPONENTS, FileWeight, folder_weights
from diffusion.plan.builder import Recipe
from diffusion.plan.compiler import Compiled, compile_folder
from diffusion.plan.schema import Weight
from diffusion.plan.weights import PlanWeight, stored_bytes
from tests.diffusion.plan.conftest import values


@pytest.fixture(scope="module")
def stored(kl_folder: Path) -> dict[str, FileWeight]:
    return {f"{weight.component}/{weight.name}": weight for weight in folder_weights(kl_folder)}


def whole(weight: FileWeight) -> np.ndarray:
    rows = weight.shape[0] if len(weight.shape) > 1 else 1
    return weight.rows(0, rows).reshape(weight.shape)


def test_gate_and_up_take_turns_of_four_rows(tiny: Compiled, stored: dict[str, FileWeight]) -> None:
    found = values(tiny, "transformer.blocks.1.gate_up").reshape(-1, 2, 4, 64)
    for number, name in enumerate(("gate_proj", "up_proj")):
        expected = whole(stored[f"transformer/blocks.1.{name}.weight"])
        assert np.array_equal(found[:, number].reshape(-1, 64), expected)


def test_a_convolution_has_its_inputs_last_and_a_fourth_colour(
    tiny: Compiled, stored: dict[str, FileWeight]
) -> None:
    found = values(tiny, "vae.decoder.conv_out")
    expected = whole(stored["vae/decoder.conv_out.weight"]).transpose(0, 2, 3, 1)
    assert np.array_equal(found[:3], expected)
    assert not found[3].any()
    assert values(tiny, "vae.decoder.conv_out.bias")[3] == 0


def test_taps_of_a_depthwise_convolution_have_their_channels_last(
    tiny_dc: Compiled, dc_folder: Path
) -> None:
    name = "decoder.up_blocks.3.1.attn.to_qkv_multiscale.0.proj_in"
    found = values(tiny_dc, f"vae.{name}.taps").reshape(5, 5, 96)
    [source] = [each for each in folder_weights(dc_folder) if each.name == f"{name}.weight"]
    assert np.array_equal(found, whole(source)[:, 0].transpose(1, 2, 0))


def test_any_rows_are_those_of_the_whole(tiny: Compiled) -> None:
    for name in (
        "transformer.blocks.0.gate_up",
        "text_encoder.layers.0.qkv",
        "vae.decoder.conv_out",
        "vae.decoder.mid_block.attentions.0.qkv",
    ):
        weight = tiny.weights[name]
        rows = weight.shape[0]
        everything = weight.rows(0, rows)
        for start in range(0, rows, 3):
            stop = min(start + 5, rows)
            assert np.array_equal(weight.rows(start, stop), everything[start:stop]), name


def test_rows_of_the_embedding(tiny: Compiled, stored: dict[str, FileWeight]) -> None:
    expected = whole(stored["text_encoder/embed_tokens.weight"])
    rows = tiny.read_rows("text_encoder.embedding", [3, 0, 3])
    assert np.array_equal(rows, expected[[3, 0, 3]])
    assert tiny.read_rows("text_encoder.embedding", []).shape == (0, 48)


@pytest.mark.parametrize("variant", ["f32", "f16", "int8", "int4", "int4-f16-int8"])
def test_a_package_holds_the_bytes_that_a_device_binds(
    kl_folder: Path, tmp_path: Path, variant: str
) -> None:
    compiled = compile_folder(read_model_folder(kl_folder), variant)
    in_order = sorted(
        compiled.weights.values(), key=lambda weight: COMPONENTS.index(weight.component)
    )
    pack_model(kl_folder, tmp_path / "package", dtypes_of(variant), weights=in_order)
    package = Package(tmp_path / "package")
    assert len(package.manifest.tensors) == len(compiled.plan.weights)
    for name, weight in compiled.plan.weights.items():
        stored = name.replace(".", "/", 1)
        tensor = package.manifest.tensors[stored]
        assert (tensor.dtype, tensor.shape) == (weight.type, weight.shape), name
        assert tensor.layout.nbytes == weight.bytes, name
        assert package.stored(stored) == compiled.read_weight(name).tobytes(), name


@pytest.mark.parametrize(
    ("shape", "sources", "recipe"),
    [
        ((48, 47), ["text_encoder/layers.0.self_attn.o_proj.weight"], Recipe()),
        ((47, 64), ["text_encoder/layers.0.self_attn.o_proj.weight"], Recipe()),
        ((49, 64), ["text_encoder/layers.0.self_attn.o_proj.weight"], Recipe()),
        ((47,), ["text_encoder/norm.weight"], Recipe()),
        ((49,), ["text_encoder/norm.weight"], Recipe()),
    ],
)
def test_tensors_of_another_shape_are_refused(
    stored: dict[str, FileWeight], shape: tuple[int, ...], sources: list[str], recipe: Recipe
) -> None:
    files = tuple(stored[source] for source in sources)
    weight = PlanWeight("text_encoder.x", Weight(shape, "f32"), recipe, files)
    with pytest.raises(ModelFolderError, match=r"make no text_encoder\.x"):
        stored_bytes(weight)


def test_a_number_too_large_for_f16_is_refused() -> None:
    recipe = Recipe(computed=np.array([1e6], np.float32))
    with pytest.raises(ModelFolderError, match=r"vae\.x: .* too large for f16"):
        stored_bytes(PlanWeight("vae.x", Weight((1,), "f16"), recipe, ()))
