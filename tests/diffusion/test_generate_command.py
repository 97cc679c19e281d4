"""`manage.py generate`: files, progress and one-line refusals."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from diffusion.pictures import settings_from_png

PROMPT = "a snowman on a blue background"
SMALL = {"width": 64, "height": 80, "steps": 2, "seed": 2**32 - 1}


def generate(folder: Path, out: Path, **options: Any) -> str:
    said = io.StringIO()
    given = {**SMALL, "model": str(folder), "out": out, **options}
    call_command("generate", PROMPT, **given, stdout=said)
    return said.getvalue()


def test_a_picture_with_its_settings_is_written(
    kl_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = generate(kl_folder, tmp_path / "a.png", guidance=3.5, negative_prompt="a dog")
    assert said == f"{tmp_path / 'a.png'}  (seed 4294967295)\n"
    assert "2/2" in capsys.readouterr().err  # the progress bar
    data = (tmp_path / "a.png").read_bytes()
    assert settings_from_png(data) == {
        "prompt": PROMPT,
        "negative_prompt": "a dog",
        "model": kl_folder.name,
        **SMALL,
        "guidance": 3.5,
        "num_images": 1,
    }
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (64, 80)


def test_several_pictures_and_their_latents(kl_folder: Path, tmp_path: Path) -> None:
    generate(kl_folder, tmp_path / "b.png", num_images=2, latents_out=tmp_path / "b.latents")
    latents = np.load(tmp_path / "b.latents")
    assert latents.shape == (2, 16, 10, 8)
    assert latents.dtype == np.float32
    assert not np.array_equal(latents[0], latents[1])
    seeds = [
        settings_from_png((tmp_path / f"b-{number}.png").read_bytes())["seed"] for number in (0, 1)
    ]
    assert seeds == [2**32 - 1, 0]


def test_a_model_is_found_by_name_and_the_seed_is_random(
    kl_folder: Path, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MODEL_ROOTS = [kl_folder.parent]
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        call_command("generate", PROMPT, model=kl_folder.name, width=64, height=64, steps=1)
    files = sorted(tmp_path.glob("a-snowman-on-a-blue-background-*.png"))
    assert len(files) == 2


def test_wgpu_gives_the_latents_of_torch(kl_folder: Path, tmp_path: Path) -> None:
    for backend in ("wgpu", "torch"):
        saved = {"out": tmp_path / f"{backend}.png", "latents_out": tmp_path / backend}
        generate(kl_folder, backend=backend, **saved)
    ours, theirs = (np.load(tmp_path / backend) for backend in ("wgpu", "torch"))
    assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)


def test_wgpu_without_a_device_is_refused_in_one_line(
    kl_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent")
    with pytest.raises(CommandError, match="neither Vulkan nor Metal nor DX12") as refusal:
        generate(kl_folder, tmp_path / "a.png", backend="wgpu")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be between 1 and 100"),
        ({"width": 65}, "multiple of 16 pixels"),
        ({"guidance": float("nan")}, "guidance must be"),
        ({"seed": 2**32}, "seed must be"),
        ({"model": "nowhere"}, "no model 'nowhere'"),
        ({"out": Path("a.jpg")}, "must name a .png file"),
        ({"out": Path("/nowhere/a.png")}, "no folder /nowhere"),
        ({"latents_out": Path("/nowhere/a.npy")}, "no folder /nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    kl_folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CommandError, match=message) as refusal:
        generate(kl_folder, **{"out": tmp_path / "a.png", **options})
    assert "\n" not in str(refusal.value)
