"""Written folders: what diffusers makes of them in a process of its own, sizes, and refusals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from diffusion import byte_bpe
from diffusion.model_folder import ModelFolderError, read_model_folder
from diffusion.model_writer import transformers_tokenizer
from diffusion.random_model import Shape, write_random_model
from diffusion.torch_parts.tokenizer import load_tokenizer
from diffusion.torch_parts.weights import load_weights

# As a user would, in every order of imports that matters, without any argument
LOADS = """
{imports}
pipe = DiffusionPipeline.from_pretrained({path!r})
assert type(pipe).__name__ == "PRXPipeline", type(pipe)
assert pipe.text_encoder.config.hidden_size == 48
assert pipe.text_encoder.config._attn_implementation == "eager"
assert pipe.text_encoder.config.query_pre_attn_scalar == 16
assert pipe.tokenizer.padding_side == "right" and pipe.tokenizer.model_max_length == 256
image = pipe("a cat", num_inference_steps=1, height=64, width=64, use_resolution_binning=False)
assert image.images[0].size == (64, 64)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "from diffusers import DiffusionPipeline",
        "import transformers; from diffusers import PRXPipeline as DiffusionPipeline",
    ],
)
def test_diffusers_loads_the_folder_without_tricks(kl_folder: Path, imports: str) -> None:
    code = LOADS.format(imports=imports, path=str(kl_folder))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True,
    )


def test_files_stay_below_the_limit_and_hold_every_weight_once(kl_folder: Path) -> None:
    files = sorted((kl_folder / "transformer").glob("*.safetensors"))
    assert len(files) > 1
    assert max(file.stat().st_size for file in files) <= 300_000
    index = json.loads(
        (kl_folder / "transformer/diffusion_pytorch_model.safetensors.index.json").read_text()
    )
    held = {}
    for file in files:
        with safe_open(file, "pt") as tensors:
            held |= dict.fromkeys(tensors.keys(), file.name)
            assert tensors.metadata() == {"format": "pt"}
            assert all(
                tensors.get_tensor(name).dtype == torch.float16
                for name in tensors.keys()  # noqa: SIM118
            )
    assert held == index["weight_map"]
    loaded = load_weights(
        kl_folder / "transformer", "diffusion_pytorch_model", torch.device("cpu"), torch.float32
    )
    assert loaded.keys() == held.keys()
    assert sum(2 * tensor.numel() for tensor in loaded.values()) == index["metadata"]["total_size"]


def test_modulation_is_away_from_zero(kl_folder: Path) -> None:
    weights = load_weights(
        kl_folder / "transformer", "diffusion_pytorch_model", torch.device("cpu"), torch.float32
    )
    modulations = [tensor for name, tensor in weights.items() if "modulation" in name.lower()]
    assert len(modulations) == 6
    assert all(tensor.std() > 0.01 for tensor in modulations)


def test_writing_again_leaves_no_file_of_the_old_model(tmp_path: Path) -> None:
    write_random_model(tmp_path / "m", Shape(depth=1), max_shard=200_000)
    several = len(list((tmp_path / "m/transformer").iterdir()))
    write_random_model(tmp_path / "m", Shape(depth=1))
    assert several > 3
    assert {file.name for file in (tmp_path / "m/transformer").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }


def test_a_weight_larger_than_a_file_may_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than a file may have"):
        write_random_model(tmp_path / "m", max_shard=10_000)


def test_the_same_seed_writes_the_same_weights(tmp_path: Path, kl_folder: Path) -> None:
    state = torch.random.get_rng_state()
    again = write_random_model(tmp_path / "again", Shape(), max_shard=300_000)
    assert torch.equal(torch.random.get_rng_state(), state)
    for file in sorted(kl_folder.rglob("*.safetensors")):
        assert (again / file.relative_to(kl_folder)).read_bytes() == file.read_bytes()


def test_any_text_becomes_the_ids_that_transformers_gives(kl_folder: Path) -> None:
    from transformers import AutoTokenizer

    ours = load_tokenizer(kl_folder)
    theirs = AutoTokenizer.from_pretrained(kl_folder / "tokenizer")
    texts = ["", " ", "a cat", "ñ 🍎 猫", "<0x41>", "▁x", "a\tb", "word " * 300, "é" * 300]
    for text in texts:
        padded = theirs(text, padding="max_length", truncation=True, max_length=256)
        kept = sum(padded["attention_mask"])
        assert ours(text) == padded["input_ids"][:kept], text
        assert len(ours(text)) <= 256
    assert ours("") == []
    assert theirs.decode(ours("ñ 🍎 猫")) == "ñ 🍎 猫"


def test_gemmas_own_tokenizer_class_is_asked_for_its_rules(kl_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GemmaTokenizerFast

    trained = json.loads(byte_bpe.train(["a cat on a mat"], 400).to_str())["model"]
    merges = [tuple(pair) for pair in trained["merges"]]
    tokenizer = GemmaTokenizerFast(vocab=trained["vocab"], merges=merges, model_max_length=256)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert type(theirs).__name__ == "GemmaTokenizer"
    for text in ("", "a cat", "mat ñ " * 200):
        assert ours(text) == theirs(text, truncation=True, max_length=256)["input_ids"]


def test_a_tokenizer_that_pads_left_is_refused(tmp_path: Path, kl_folder: Path) -> None:
    from diffusion.model_writer import write_model_folder

    tokenizer = transformers_tokenizer(byte_bpe.train(["a cat"], 400))
    tokenizer.padding_side = "left"
    with pytest.raises(ValueError, match="right padding"):
        write_model_folder(tmp_path, None, None, None, tokenizer, None)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("transformer/diffusion_pytorch_model-00002-of-00002.safetensors", "No such file"),
        ("vae/config.json", "vae/config.json"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, file: str, message: str) -> None:
    from diffusion.backends import open_backend

    path = write_random_model(tmp_path / "m", Shape(), max_shard=300_000)
    (path / file).unlink()
    with pytest.raises(ModelFolderError, match=message):
        open_backend("torch", read_model_folder(path))
