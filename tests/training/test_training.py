"""The whole of training, tiny: one command makes a folder that diffusers draws with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion.training.attention import PlainAttention, choose
from diffusion.training.muon import Muon, orthogonalise
from diffusion.training.shapes import Widths, make_transformer
from diffusion.training.train_transformer import learning_rate
from tests.training.conftest import REFERENCE

ROOT = Path(__file__).resolve().parents[2]


def train(*arguments: str) -> str:
    command = [sys.executable, "-m", "diffusion.training", "--tiny", "--no-compile"]
    command += ["--glyphs", str(REFERENCE), "--vae-batch", "2", "--batch", "4", "--pool", "64"]
    done = subprocess.run(
        [*command, "--workers", "1", *arguments],
        cwd=ROOT, env={"PYTHONPATH": "queue", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "tiny"
    train("--out", str(folder), "--vae-minutes", "0.03", "--minutes", "0.05")
    return folder


def test_one_command_makes_a_folder_that_diffusers_draws_with(trained: Path) -> None:
    from diffusers import PRXPipeline

    pipeline = PRXPipeline.from_pretrained(trained, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        "a cat on a blue background 猫 🐈",
        height=64, width=64, num_inference_steps=2, guidance_scale=2.0,
        use_resolution_binning=False, output_type="np",
        generator=torch.Generator("cpu").manual_seed(0),
    ).images[0]  # fmt: skip
    assert drawn.shape == (64, 64, 3)
    assert np.isfinite(drawn).all()
    vocabulary = json.loads((trained / "vocabulary.json").read_text())
    assert "hamburger" in vocabulary["names"]


def test_it_goes_on_from_what_it_wrote(trained: Path, tmp_path: Path) -> None:
    further = tmp_path / "further"
    train(
        "--resume", str(trained), "--out", str(further), "--vae-minutes", "0", "--minutes", "0.05"
    )  # fmt: skip
    log = json.loads((further / "training.json").read_text())
    assert len(log) == 2
    for part in ("vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"):
        assert (further / part).read_bytes() == (trained / part).read_bytes()
    part = "transformer/diffusion_pytorch_model.safetensors"
    assert (further / part).read_bytes() != (trained / part).read_bytes()


def test_plain_attention_is_the_attention_of_diffusers() -> None:
    torch.manual_seed(3)
    model = make_transformer(Widths(hidden=128, depth=2)).double()
    for block in model.blocks:
        torch.nn.init.normal_(block.modulation.lin.weight, std=0.2)
    torch.nn.init.normal_(model.final_layer.linear.weight)
    given = {
        "hidden_states": torch.randn(3, 16, 8, 12).double(),
        "timestep": torch.tensor([0.1, 0.5, 0.9]).double(),
        "encoder_hidden_states": torch.randn(3, 5, 128).double(),
        "attention_mask": torch.tensor(
            [[True] * 5, [True, True, False, False, False], [False] * 5]
        ),
    }
    with torch.no_grad():
        expected = model(**given).sample
        model.set_attn_processor(PlainAttention())
        found = model(**given).sample
    assert expected.abs().mean() > 0.01
    assert (found - expected).norm() < 1e-5 * expected.norm()  # its scores are in f32
    model.set_attn_processor(choose(model.float(), batch=2, tokens=16, text=4))
    assert model.dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 64, 32), (3, 32, 64)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_lowers_a_loss_and_takes_matrices_only() -> None:
    wanted = torch.randn(8, 8, generator=torch.Generator().manual_seed(2))
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    method = Muon([weight], lr=0.03)
    losses = []
    for _ in range(200):
        loss = (weight - wanted).square().mean()
        method.zero_grad()
        torch.autograd.backward(loss)
        method.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10
    with pytest.raises(ValueError, match="takes matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    rates = [learning_rate(1.0, step, passed, 100, 0.6) for step, passed in
             ((0, 0.0), (49, 0.1), (500, 0.5), (900, 0.8), (1000, 1.0))]  # fmt: skip
    assert rates == pytest.approx([0.01, 0.5, 1.0, 0.5, 0.03])
