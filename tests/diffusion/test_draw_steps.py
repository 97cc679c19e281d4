"""`scripts/draw_steps.py`: the front page's picture of a picture that is made."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion.backends import open_backend
from diffusion.model_folder import read_model_folder
from diffusion.pipeline import generate
from diffusion.settings import Settings

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/draw_steps.py"
PROMPT = "a snowman on a blue background"


def draw(folder: Path, out: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, SCRIPT, PROMPT, "--model", folder, "--out", out, "--steps", "3"]
    small = ["--pixels", "64", "--side", "132", "--seed", "5", "--backend", "torch", *more]
    return subprocess.run([*command, *small], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("more", [(), ("--heading",)])
def test_frames_go_from_noise_to_the_very_picture(
    kl_folder: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    out = tmp_path / "new/steps.webp"
    drawn = draw(kl_folder, out, *more)
    assert drawn.returncode == 0, drawn.stderr
    assert out.stat().st_size < 60_000
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGBA")).astype(float)
    assert pixels.shape == (132, 132, 4)
    assert pixels[0, 0, 3] < 10, "corners are clear"
    assert pixels[66, 66, 3] == 0, "gaps are clear"
    assert pixels[32, 32, 3] == 255
    folder = read_model_folder(kl_folder)
    wanted = Settings(
        PROMPT, folder.name, 64, 64, steps=3, guidance=folder.default_guidance, seed=5
    )
    [picture] = generate(open_backend("torch", folder), wanted)
    frames = [pixels[y : y + 64, x : x + 64, :3] for y in (0, 68) for x in (0, 68)]
    likeness = [alike(frame, picture.pixels) for frame in frames]
    assert max(likeness) == likeness[-1] > 0.95
    assert likeness[0] < 0.9


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the brightness inside the rounded corners; the colours are subsampled."""
    inner = [frame[8:-8, 8:-8].mean(axis=2).ravel() for frame in (one, other)]
    return float(np.corrcoef(*inner)[0, 1])


def test_what_cannot_be_small_enough_is_refused(kl_folder: Path, tmp_path: Path) -> None:
    drawn = draw(kl_folder, tmp_path / "steps.webp", "--max-bytes", "100")
    assert drawn.returncode == 1
    assert drawn.stderr.strip().endswith("choose a smaller --side.")
    assert not (tmp_path / "steps.webp").exists()
