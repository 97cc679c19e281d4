"""What can be asked for, and how a refusal reads."""

import dataclasses
import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diffusion.model_folder import (
    ModelFolder,
    ModelFolderError,
    find_models,
    read_model_folder,
    read_vae_config,
)
from diffusion.settings import Limits, Settings, SettingsError, check, refusals

GOOD = Settings(
    prompt="a snowman", model="tiny", width=128, height=192, steps=8, guidance=4.0, seed=7
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kl_folder: Path) -> ModelFolder:
    path = tmp_path_factory.mktemp("root") / "tiny"
    shutil.copytree(kl_folder, path)
    about = {
        "title": "Tiny",
        "default_width": 128,
        "default_height": 128,
        "default_steps": 8,
        "default_guidance": 4,
        "min_side": 64,
        "max_side": 512,
        "examples": ["a snowman"],
    }
    (path / "p2pweb.json").write_text(json.dumps(about))
    words = {"names": ["snowman", "full moon"], "colours": ["blue"], "words": ["a", "on"]}
    (path / "vocabulary.json").write_text(json.dumps(words))
    return read_model_folder(path)


def test_good_settings_pass(folder: ModelFolder) -> None:
    check(GOOD, folder)
    check(dataclasses.replace(GOOD, guidance=1, steps=100, seed=2**32 - 1, num_images=16), folder)
    check(dataclasses.replace(GOOD, prompt="x" * 2000, negative_prompt=""), folder)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"prompt": ""}, "prompt-empty", "prompt"),
        ({"prompt": " \n\t "}, "prompt-empty", "prompt"),
        ({"prompt": "x" * 2001}, "prompt-too-long", "prompt"),
        ({"prompt": "一只红色的猫"}, "prompt-cleaned-away", "prompt"),
        ({"prompt": "a\0b"}, "prompt-not-text", "prompt"),
        ({"prompt": "a\ud800b"}, "prompt-not-text", "prompt"),
        ({"negative_prompt": "x" * 2001}, "negative-prompt-too-long", "negative_prompt"),
        ({"negative_prompt": "\0"}, "negative-prompt-not-text", "negative_prompt"),
        ({"model": "other"}, "unknown-model", "model"),
        ({"width": 100}, "side-not-multiple", "width"),
        ({"height": 136}, "side-not-multiple", "height"),
        ({"width": 48}, "side-out-of-range", "width"),
        ({"height": 528}, "side-out-of-range", "height"),
        ({"width": 0}, "side-out-of-range", "width"),
        ({"height": -16}, "side-out-of-range", "height"),
        ({"steps": 0}, "steps-out-of-range", "steps"),
        ({"steps": 101}, "steps-out-of-range", "steps"),
        ({"guidance": 0.99}, "guidance-out-of-range", "guidance"),
        ({"guidance": 20.5}, "guidance-out-of-range", "guidance"),
        ({"guidance": float("nan")}, "guidance-out-of-range", "guidance"),
        ({"guidance": float("inf")}, "guidance-out-of-range", "guidance"),
        ({"num_images": 0}, "num-images-out-of-range", "num_images"),
        ({"num_images": 17}, "num-images-out-of-range", "num_images"),
        ({"seed": -1}, "seed-out-of-range", "seed"),
        ({"seed": 2**32}, "seed-out-of-range", "seed"),
    ],
)
def test_each_bad_setting_is_named_with_a_code_and_a_sentence(
    folder: ModelFolder, change: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        check(dataclasses.replace(GOOD, **change), folder)
    assert (refusal.value.code, refusal.value.field) == (code, field)
    assert str(refusal.value).endswith(".")


def test_all_that_is_wrong_is_named_once_for_each_field(folder: ModelFolder) -> None:
    wrong = dataclasses.replace(GOOD, prompt="", width=7, height=4096, steps=0, seed=-1)
    fields = [refusal.field for refusal in refusals(wrong, folder)]
    assert fields == ["prompt", "width", "height", "steps", "seed"]
    assert list(refusals(GOOD, folder)) == []


def test_the_refusal_of_a_chinese_prompt_says_what_cleaning_does(folder: ModelFolder) -> None:
    with pytest.raises(SettingsError, match="deletes Chinese, Japanese and Korean"):
        check(dataclasses.replace(GOOD, prompt="猫"), folder)


def test_limits_of_the_installation_come_on_top(folder: ModelFolder) -> None:
    with pytest.raises(SettingsError, match="between 64 and 256 pixels"):
        check(dataclasses.replace(GOOD, width=512), folder, Limits(max_side=260))


def test_a_folder_tells_its_sizes_and_words(folder: ModelFolder) -> None:
    assert (folder.name, folder.title, folder.side_multiple) == ("tiny", "Tiny", 16)
    assert folder.latent_shape(128, 192) == (16, 24, 16)
    assert folder.examples == ("a snowman",)
    assert folder.unknown_words("A snowman on a FULL moon, on a wombat & a 猫 wombat") == ["wombat"]


def test_a_folder_without_words_knows_no_unknown_ones(dc_folder: Path) -> None:
    folder = read_model_folder(dc_folder)
    assert folder.unknown_words("anything") == []
    assert (folder.side_multiple, folder.latent_channels, folder.default_width) == (32, 32, 256)
    assert folder.latent_shape(256, 128) == (32, 4, 8)


def test_models_are_found_below_their_roots_and_bad_ones_left_out(
    tmp_path: Path, kl_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first / "good", second / "good", second / "broken", second / "other"):
        shutil.copytree(kl_folder, path)
    (second / "broken" / "vae" / "config.json").write_text("{")
    (second / "other" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (second / "no-model").mkdir()
    models = find_models(first, second, tmp_path / "missing")
    assert {name: model.path.parent for name, model in models.items()} == {"good": first}
    assert "vae/config.json: not JSON" in caplog.text
    assert "FluxPipeline" in caplog.text


def test_a_folder_that_may_not_be_looked_into_hides_no_model(
    tmp_path: Path, kl_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(kl_folder, tmp_path / "good")
    (tmp_path / "lost+found").mkdir()
    is_file = Path.is_file

    def is_file_for_others_than_root(path: Path) -> bool:  # tests may run as root
        if path.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", is_file_for_others_than_root)
    assert list(find_models(tmp_path)) == ["good"]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "no VAE of class AutoencoderTiny"),
        ("vae/config.json", {"latent_channels": 4}, "differ in their latent channels"),
        ("p2pweb.json", {"default_width": 100}, "outside of its own limits"),
        ("p2pweb.json", {"max_side": "big"}, "lacks or garbles"),
        ("transformer/config.json", {"patch_size": 0}, "lacks or garbles"),
        ("preview.json", {"matrix": [[0, 0, 0]], "bias": [0, 0, 0]}, "not a 16 x 3 matrix"),
    ],
)
def test_a_contradictory_folder_is_refused(
    tmp_path: Path, kl_folder: Path, file: str, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(kl_folder, path)
    old = json.loads((path / file).read_text()) if (path / file).exists() else {}
    (path / file).write_text(json.dumps(old | change))
    with pytest.raises(ModelFolderError, match=message):
        read_model_folder(path)


def test_what_the_site_needs_never_imports_torch() -> None:
    modules = "settings model_folder cleaning noise schedule tensors pictures preview backends"
    code = "import sys\n" + "".join(f"import diffusion.{name}\n" for name in modules.split())
    code += "assert not {'torch', 'transformers', 'diffusers'} & sys.modules.keys()"
    source = Path(__file__).parents[2] / "queue"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)})


@pytest.mark.parametrize("vae", ["AutoencoderKL", "AutoencoderDC"])
def test_what_a_vae_leaves_out_is_what_diffusers_takes(tmp_path: Path, vae: str) -> None:
    """Files that diffusers' own conversion of PRX writes leave out most."""
    import diffusers

    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"_class_name": vae}))
    ours = read_vae_config(tmp_path)
    parameters = inspect.signature(getattr(diffusers, vae).__init__).parameters
    theirs = {name: parameters[name].default for name in ours if name != "_class_name"}
    assert ours == json.loads(json.dumps(theirs | {"_class_name": vae}))
