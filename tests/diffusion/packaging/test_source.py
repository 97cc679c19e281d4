"""Reading a folder's weights, and the name of what they are."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion.model_folder import ModelFolderError
from diffusion.packaging.source import folder_weights, model_id
from diffusion.packaging.storage import as_matrix
from diffusion.random_model import Shape, write_random_model


def all_of(weight) -> np.ndarray:
    rows, _ = as_matrix(weight.shape)
    return weight.rows(0, rows).reshape(weight.shape)


def loaded(folder: Path, part: str) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in (folder / part).glob("*.safetensors"):
        tensors |= load_file(file)
    return tensors


@pytest.fixture
def copy(kl_folder, tmp_path) -> Path:
    return Path(shutil.copytree(kl_folder, tmp_path / "copy"))


@pytest.mark.parametrize("folder_name", ["kl_folder", "dc_folder"])
def test_all_that_a_picture_needs_is_there_and_equal(folder_name, request):
    folder = request.getfixturevalue(folder_name)
    found = {(w.component, w.name): all_of(w) for w in folder_weights(folder)}
    expected = {
        (part, name): tensor.float().numpy()
        for part in ("text_encoder", "transformer", "vae")
        for name, tensor in loaded(folder, part).items()
        if part != "vae" or name.startswith("decoder.")
    }
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert np.array_equal(found[key], values), key


def test_the_order_is_that_of_the_computation():
    names = [
        w.name for w in folder_weights(Path("models/prx-emoji")) if w.component == "transformer"
    ]
    blocks = [int(name.split(".")[1]) for name in names if name.startswith("blocks.")]
    assert blocks == sorted(blocks)
    assert max(blocks) == 11


def test_some_rows_are_those_rows(kl_folder):
    weight = next(w for w in folder_weights(kl_folder) if w.name == "blocks.1.up_proj.weight")
    assert np.array_equal(weight.rows(3, 7), all_of(weight)[3:7])


def test_bfloat16_is_read_as_it_is(copy):
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = {name: tensor.bfloat16() for name, tensor in loaded(copy, "vae").items()}
    for old in (copy / "vae").glob("*.safetensors*"):
        old.unlink()
    save_file(tensors, file)
    found = {w.name: all_of(w) for w in folder_weights(copy) if w.component == "vae"}
    name = "decoder.conv_in.weight"
    assert np.array_equal(found[name], tensors[name].float().numpy())


def test_an_encoder_saved_with_its_decoder_gives_the_encoder(copy):
    file = copy / "text_encoder" / "model.safetensors"
    tensors = loaded(copy, "text_encoder")
    for old in (copy / "text_encoder").glob("*.safetensors*"):
        old.unlink()
    both = {f"model.encoder.{name}": tensor for name, tensor in tensors.items()}
    both |= {
        "model.decoder.norm.weight": torch.ones(3),
        "lm_head.out_proj.weight": torch.ones(2, 2),
    }
    save_file(both, file)
    found = {w.name for w in folder_weights(copy) if w.component == "text_encoder"}
    assert found == tensors.keys()


def test_a_type_that_is_no_weight_is_refused(copy):
    file = next((copy / "transformer").glob("*.safetensors"))
    save_file({"img_in.weight": torch.ones(4, 4, dtype=torch.int32)}, file)
    with pytest.raises(ModelFolderError, match=r"img_in.weight has the type I32"):
        folder_weights(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-8],
        lambda data: data[:4],
        lambda data: struct.pack("<Q", 2**40) + data[8:],
        lambda data: data[:8] + b"x" + data[9:],
        lambda data: struct.pack("<Q", 2) + b"[]",
        lambda data: data.replace(b'"shape":[', b'"shape":[2,', 1),
    ],
)
def test_a_broken_file_is_refused_by_name(copy, change):
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    whole = next((copy / "vae").glob("*.safetensors")).read_bytes()
    for old in (copy / "vae").glob("*.safetensors*"):
        old.unlink()
    file.write_bytes(change(whole))
    with pytest.raises(ModelFolderError, match=r"vae/diffusion_pytorch_model.safetensors"):
        folder_weights(copy)


def test_a_missing_file_is_refused_by_name(copy):
    missing = sorted((copy / "transformer").glob("*.safetensors"))[0]
    missing.unlink()
    with pytest.raises(ModelFolderError, match=f"transformer/{missing.name}"):
        folder_weights(copy)


class TestModelId:
    def test_is_the_same_however_the_weights_are_cut_into_files(self, kl_folder, tmp_path):
        whole = write_random_model(tmp_path / "whole", Shape())
        assert len(list((whole / "transformer").glob("*.safetensors"))) == 1
        assert len(list((kl_folder / "transformer").glob("*.safetensors"))) > 1
        assert model_id(whole) == model_id(kl_folder)

    def test_differs_with_a_single_bit_of_a_weight(self, copy, kl_folder):
        file = next((copy / "text_encoder").glob("*.safetensors"))
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert model_id(copy) != model_id(kl_folder)

    def test_does_not_differ_with_the_vae_encoder(self, copy, kl_folder):
        for file in (copy / "vae").glob("*.safetensors"):
            tensors = load_file(file)
            tensors = {n: t + 1 if n.startswith("encoder.") else t for n, t in tensors.items()}
            save_file(tensors, file, {"format": "pt"})
        assert model_id(copy) == model_id(kl_folder)

    @pytest.mark.parametrize(
        ("file", "key", "value", "same"),
        [
            ("scheduler/scheduler_config.json", "shift", 1.5, False),
            ("transformer/config.json", "theta", 500, False),
            ("transformer/config.json", "_diffusers_version", "9.9", True),
            ("tokenizer/tokenizer_config.json", "model_max_length", 255, False),
        ],
    )
    def test_is_of_whatever_decides_on_the_picture(self, copy, kl_folder, file, key, value, same):
        config = json.loads((copy / file).read_text())
        (copy / file).write_text(json.dumps(config | {key: value}))
        assert (model_id(copy) == model_id(kl_folder)) is same
