"""From a folder to a package."""

import json
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion.model_folder import ModelFolderError
from diffusion.packaging.manifest import dtypes_of, read_manifest
from diffusion.packaging.pack import CompiledPlan, by_rule, pack_model
from diffusion.packaging.package import Package
from diffusion.packaging.source import folder_weights
from diffusion.packaging.storage import as_matrix
from tests.diffusion.packaging.conftest import SMALL_SHARDS, contents, pack

ROUNDED = {"f32": 0.0, "f16": 4e-4, "int8": 0.0075, "int4": 0.1}


def errors(package: Package, folder: Path) -> dict[str, float]:
    """The relative error of each weight."""
    found = {}
    for weight in folder_weights(folder):
        name = f"{weight.component}/{weight.name}"
        exact = weight.rows(0, as_matrix(weight.shape)[0]).reshape(weight.shape)
        error = float(np.linalg.norm(package.tensor(name) - exact))
        found[name] = error / float(np.linalg.norm(exact)) if error else 0.0
    assert found.keys() == package.manifest.tensors.keys()
    return found


@pytest.mark.parametrize("variant", ["f32", "f16", "int8", "int4"])
def test_every_weight_comes_back_within_the_error_of_its_type(packages, kl_folder, variant):
    package = packages[variant]
    for name, error in errors(package, kl_folder).items():
        assert error <= ROUNDED[package.manifest.tensors[name].dtype], name


def test_each_part_has_its_own_type(packages):
    tensors = packages["int4-f16-f16"].manifest.tensors
    assert tensors["text_encoder/layers.0.mlp.up_proj.weight"].dtype == "int4"
    assert tensors["text_encoder/embed_tokens.weight"].dtype == "int4"
    assert tensors["transformer/blocks.0.up_proj.weight"].dtype == "f16"
    assert tensors["vae/decoder.conv_in.weight"].dtype == "f16"


@pytest.mark.parametrize("variant", ["f16", "int8", "int4"])
def test_vectors_stay_f32_and_the_ends_of_a_part_f16(packages, variant):
    for name, tensor in packages[variant].manifest.tensors.items():
        if len(tensor.shape) < 2:
            assert tensor.dtype == "f32", name
    tensors = packages[variant].manifest.tensors
    for name in (
        "transformer/img_in.weight", "transformer/txt_in.weight",
        "transformer/time_in.in_layer.weight", "transformer/final_layer.linear.weight",
        "vae/decoder.conv_in.weight", "vae/decoder.conv_out.weight",
    ):  # fmt: skip
        assert tensors[name].dtype == "f16"
    assert tensors["transformer/blocks.1.modulation.lin.weight"].dtype == variant
    assert tensors["vae/decoder.mid_block.resnets.0.conv1.weight"].dtype == variant


def test_the_same_folder_gives_the_same_bytes(packages, kl_folder, tmp_path):
    again = pack(kl_folder, tmp_path / "again", "int4")
    assert contents(again.path) == contents(packages["int4"].path)
    assert again.package_id == packages["int4"].package_id


def test_variants_differ_and_are_of_one_model(packages):
    assert len({package.package_id for package in packages.values()}) == len(packages)
    assert len({package.manifest.model_id for package in packages.values()}) == 1
    for variant, package in packages.items():
        assert package.manifest.variant == variant


def test_a_part_in_the_same_type_has_the_same_shards_in_every_variant(packages):
    def shards_of(variant: str, component: str) -> set[str]:
        manifest = packages[variant].manifest
        return {
            manifest.shards[piece.shard].sha256
            for name, tensor in manifest.tensors.items()
            if name.startswith(component)
            for piece in tensor.pieces
        }

    assert shards_of("f16", "transformer") == shards_of("int4-f16-f16", "transformer")
    assert shards_of("int4", "text_encoder") == shards_of("int4-f16-f16", "text_encoder")
    assert not shards_of("f16", "transformer") & shards_of("f16", "vae")


def test_shards_are_small_full_and_all_that_lies_there(packages):
    for package in packages.values():
        manifest = package.manifest
        assert {path.name for path in package.path.iterdir()} == {
            "manifest.json", *(shard.file_name for shard in manifest.shards)
        }  # fmt: skip
        for shard in manifest.shards:
            assert (package.path / shard.file_name).stat().st_size == shard.nbytes
            assert shard.nbytes <= SMALL_SHARDS
        across = [t for t in manifest.tensors.values() if len(t.pieces) > 1]
        assert across
        for tensor in across:
            for piece in tensor.pieces[:-1]:  # a tensor goes on only where a shard is full
                assert piece.offset + piece.nbytes == SMALL_SHARDS


def test_files_and_configuration_come_along(packages, kl_folder):
    package = packages["f16"]
    tokenizer = (kl_folder / "tokenizer" / "tokenizer.json").read_bytes()
    assert package.file("tokenizer/tokenizer.json") == tokenizer
    for name, config in package.manifest.configs.items():
        assert config == json.loads((kl_folder / name).read_text())
    assert package.manifest.about["side_multiple"] == 16
    assert package.manifest.plan is None


def test_what_prx_emoji_says_of_itself_comes_along(tmp_path):
    folder = Path("models/prx-emoji")
    manifest = pack(folder, tmp_path / "emoji", "int8", max_shard=16 * 2**20).manifest
    about = json.loads((folder / "p2pweb.json").read_text())
    assert about.items() <= manifest.about.items()
    assert manifest.preview == json.loads((folder / "preview.json").read_text())
    assert "vocabulary.json" in manifest.files


def test_a_plan_and_the_hashes_of_its_shaders_come_along(kl_folder, packages, tmp_path):
    plan = CompiledPlan('{"format":"p2pweb-plan"}', {"matmul.wgsl": "ab" * 32})
    package = pack(kl_folder, tmp_path / "planned", "int8", plan=plan)
    assert package.manifest.plan is not None
    assert package.file(package.manifest.plan).decode() == plan.text
    assert package.manifest.wgsl == plan.wgsl
    # the plan is in the id, and only the plan's shard is new
    bare = packages["int8"].manifest
    assert package.package_id != packages["int8"].package_id
    assert package.manifest.model_id == bare.model_id
    assert len(set(package.manifest.shards) - set(bare.shards)) == 1


@dataclass(frozen=True)
class Fused:
    """What a plan might want instead of two matrices."""

    component: str = "transformer"
    name: str = "blocks.0.gate_up"
    shape: tuple[int, ...] = (6, 40)

    def rows(self, start: int, stop: int) -> np.ndarray:
        return np.arange(240, dtype=np.float32).reshape(6, 40)[start:stop]


def test_a_plan_may_have_its_own_weights(kl_folder, tmp_path):
    storing = {"blocks.0.gate_up": "f32"}
    package = pack(
        kl_folder, tmp_path / "fused", "int4",
        weights=[Fused()], storing=lambda weight, dtype: storing[weight.name],
    )  # fmt: skip
    [(name, tensor)] = package.manifest.tensors.items()
    assert (name, tensor.dtype) == ("transformer/blocks.0.gate_up", "f32")
    assert np.array_equal(package.tensor("transformer/blocks.0.gate_up"), Fused().rows(0, 6))


def test_deep_compression_decoders_are_packed_too(dc_folder, tmp_path):
    package = pack(dc_folder, tmp_path / "dc", "int8")
    for name, error in errors(package, dc_folder).items():
        assert error <= ROUNDED[package.manifest.tensors[name].dtype], name


def test_what_cannot_be_packed_leaves_what_was_there(kl_folder, tmp_path):
    out = tmp_path / "out"
    before = contents(pack(kl_folder, out, "f16").path)
    broken = Path(shutil.copytree(kl_folder, tmp_path / "broken"))
    file = sorted((broken / "vae").glob("*.safetensors"))[0]
    tensors = load_file(file)
    tensors["decoder.conv_in.bias"] = torch.full_like(tensors["decoder.conv_in.bias"], torch.inf)
    save_file(tensors, file)
    with pytest.raises(ModelFolderError, match=r"vae: decoder.conv_in.bias: .* finite"):
        pack(broken, out, "int8")
    assert contents(out) == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "broken"}


def test_a_package_takes_the_place_of_an_older_one(kl_folder, packages, tmp_path):
    out = tmp_path / "out"
    pack(kl_folder, out, "f16")
    pack(kl_folder, out, "int8")
    assert contents(out) == contents(packages["int8"].path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_something_else_is_not_replaced(kl_folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="no package"):
        pack(kl_folder, tmp_path, "f16")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_progress_reaches_its_end(kl_folder, tmp_path):
    heard: dict[str, tuple[int, int]] = {}
    pack_model(
        kl_folder, tmp_path / "out", dtypes_of("f16"),
        report=lambda what, done, total: heard.update({what: (done, total)}),
    )  # fmt: skip
    assert heard.keys() == {"reading", "packing as f16"}
    for done, total in heard.values():
        assert done == total > 0


def test_edges_are_told_from_norms_and_biases(kl_folder):
    kept = {w.name for w in folder_weights(kl_folder) if by_rule(w, "int4") == "f16"}
    assert "decoder.conv_in.weight" in kept
    assert not any(name.endswith(".bias") or "norm" in name for name in kept)


def sparse_folder(model: Path, target: Path, rows: int, columns: int) -> Path:
    """The model with one huge matrix of zeros more, which takes no disk."""
    shutil.copytree(model, target)
    part = target / "text_encoder"
    tensors = {
        name: t for file in part.glob("*.safetensors") for name, t in load_file(file).items()
    }
    for old in part.glob("*.safetensors*"):
        old.unlink()
    save_file(tensors, part / "model-00001-of-00002.safetensors")
    size = 4 * rows * columns
    header = json.dumps(
        {"huge": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, size]}}
    ).encode()
    with (part / "model-00002-of-00002.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    index = dict.fromkeys(tensors, "model-00001-of-00002.safetensors")
    index["huge"] = "model-00002-of-00002.safetensors"
    (part / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return target


PACK_AND_MEASURE = """
import resource, sys
from pathlib import Path
from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.pack import pack_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pack_model(Path(sys.argv[1]), Path(sys.argv[2]), dtypes_of("int8"))
assert "torch" not in sys.modules
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_bounded_whatever_the_size(kl_folder, tmp_path):
    """400 MB of f32 in one matrix; benchmarks/pack_large.py does the same with 15.3 GB."""
    folder = sparse_folder(kl_folder, tmp_path / "large", 24576, 4096)
    out = tmp_path / "out"
    measure = [sys.executable, "-c", PACK_AND_MEASURE, str(folder), str(out)]
    answer = subprocess.run(measure, check=True, capture_output=True, text=True)
    grown = int(answer.stdout) * 1024
    assert grown < 200 * 2**20
    huge = read_manifest((out / "manifest.json").read_bytes()).tensors["text_encoder/huge"]
    assert huge.layout.nbytes == 24576 * 4096 * 17 // 16
