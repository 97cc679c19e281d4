"""The torch backend gives what diffusers' PRXPipeline gives, and can be cut anywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PRXPipeline
from diffusers.utils import logging

from diffusion.backends import Backend, open_backend
from diffusion.cleaning import clean_prompt
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from diffusion.pipeline import Progress, generate
from diffusion.settings import Settings

TOLERANCE = 1e-5  # relative L2 of the final latent, in f32
PROMPT = "a Red apple left of a ñandú 🍎 &amp; two crowns"


@pytest.fixture(scope="module")
def kl(kl_folder: Path) -> Backend:
    return open_backend("torch", read_model_folder(kl_folder))


@pytest.fixture(scope="module")
def dc(dc_folder: Path) -> Backend:
    return open_backend("auto", read_model_folder(dc_folder))


def load_theirs(folder: Path) -> Any:
    logging.set_verbosity_error()
    pipeline = PRXPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def their_kl(kl_folder: Path) -> Any:
    return load_theirs(kl_folder)


@pytest.fixture(scope="module")
def their_dc(dc_folder: Path) -> Any:
    return load_theirs(dc_folder)


def asked(**changes: Any) -> Settings:
    given = {
        "prompt": PROMPT,
        "model": "tiny",
        "width": 128,
        "height": 128,
        "steps": 4,
        "guidance": 4.0,
        "seed": 7,
    }
    return Settings(**given | changes)


def theirs(pipeline: Any, wanted: Settings, output: str, count: int = 1) -> Any:
    """What the library makes of the same settings; `count` images from a list of generators."""
    generators = [torch.Generator("cpu").manual_seed(wanted.seed + index) for index in range(count)]
    return pipeline(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        height=wanted.height,
        width=wanted.width,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance,
        num_images_per_prompt=count,
        generator=generators,
        output_type=output,
        use_resolution_binning=False,
    ).images


def distance(ours: np.ndarray, reference: np.ndarray) -> float:
    assert ours.shape == reference.shape
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance": 1.0},
        {"guidance": 1.5, "negative_prompt": "blurry, a dog on a green background"},
        {"width": 64, "height": 160},
        {"width": 176, "height": 80, "steps": 1},
        {"steps": 13, "seed": 2**32 - 1},
        {"prompt": "a " * 400},
        {"prompt": "x", "negative_prompt": "一猫"},
    ],
    ids=lambda changes: ",".join(changes) or "default",
)
def test_latents_and_pixels_are_those_of_diffusers(
    kl: Backend, their_kl: Any, changes: dict[str, Any]
) -> None:
    wanted = asked(**changes)
    [picture] = generate(kl, wanted)
    [reference] = theirs(their_kl, wanted, "latent").numpy()
    assert distance(picture.latent, reference) < TOLERANCE
    [decoded] = theirs(their_kl, wanted, "pil")
    off = np.abs(picture.pixels.astype(int) - np.asarray(decoded).astype(int))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.005  # rounding at a half only


@pytest.mark.parametrize("changes", [{}, {"guidance": 1.0, "width": 192, "height": 64}])
def test_a_dc_ae_folder_gives_the_same_too(
    dc: Backend, their_dc: Any, changes: dict[str, Any]
) -> None:
    wanted = asked(**changes)
    [picture] = generate(dc, wanted)
    [reference] = theirs(their_dc, wanted, "latent").numpy()
    assert distance(picture.latent, reference) < TOLERANCE
    [decoded] = theirs(their_dc, wanted, "pil")
    off = np.abs(picture.pixels.astype(int) - np.asarray(decoded).astype(int))
    assert off.max() <= 1


def test_a_batch_is_that_of_a_list_of_generators(kl: Backend, their_kl: Any) -> None:
    wanted = asked(guidance=1.0, num_images=3)  # with guidance, their batches raise (0.42.1)
    pictures = generate(kl, wanted)
    references = theirs(their_kl, wanted, "latent", count=3).numpy()
    for picture, reference in zip(pictures, references, strict=True):
        assert distance(picture.latent, reference) < TOLERANCE
    assert [picture.settings.seed for picture in pictures] == [7, 8, 9]


def test_images_of_a_guided_batch_are_those_of_their_seeds(kl: Backend, their_kl: Any) -> None:
    pictures = generate(kl, asked(num_images=2, seed=2**32 - 1))
    for picture, seed in zip(pictures, (2**32 - 1, 0), strict=True):
        [reference] = theirs(their_kl, asked(seed=seed), "latent").numpy()
        assert distance(picture.latent, reference) < TOLERANCE


def test_text_features_are_those_of_the_padded_encoder(kl: Backend, their_kl: Any) -> None:
    ours = kl.encode(PROMPT, "a dog", 4.0)
    prompt, mask, negative, negative_mask = their_kl.encode_prompt(PROMPT, negative_prompt="a dog")
    for mine, padded, kept in (
        (ours["prompt"], prompt, mask),
        (ours["negative"], negative, negative_mask),
    ):
        reference = padded[0][kept[0]].numpy()
        assert distance(mine, reference) < 1e-5
        assert 0 < len(reference) < 256


def test_without_guidance_the_negative_prompt_is_not_encoded(kl: Backend) -> None:
    assert kl.encode(PROMPT, "a dog", 1.0).keys() == {"prompt"}


def test_an_empty_negative_prompt_is_no_token(kl: Backend) -> None:
    assert kl.encode(PROMPT, "", 4.0)["negative"].shape == (0, kl.folder.text_dim)


def test_the_prompt_and_the_seed_matter(kl: Backend) -> None:
    """The comparisons above would be empty if the networks ignored their inputs."""
    [base] = generate(kl, asked())
    for change in ({"prompt": "a dog"}, {"seed": 8}, {"guidance": 2.0}, {"negative_prompt": "dog"}):
        [other] = generate(kl, asked(**change))
        assert distance(other.latent, base.latent) > 1e-3, change


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_cutting_the_steps_anywhere_gives_the_same_bits(kl: Backend, guidance: float) -> None:
    conditioning = kl.encode(PROMPT, "", guidance)
    noise = initial_noise(3, kl.folder.latent_shape(96, 128))
    seen: dict[int, np.ndarray] = {}
    whole = kl.denoise(
        conditioning,
        noise,
        steps=6,
        guidance=guidance,
        start=0,
        stop=6,
        on_step=lambda step, latent: seen.update({step: latent.copy()}),
    )
    assert list(seen) == [1, 2, 3, 4, 5, 6]
    assert np.array_equal(seen[6], whole)
    # A fresh backend, as after the death of a worker
    other = open_backend("torch", kl.folder)
    again = other.encode(PROMPT, "", guidance)
    for cut in range(7):
        first = kl.denoise(conditioning, noise, steps=6, guidance=guidance, start=0, stop=cut)
        assert np.array_equal(first, seen.get(cut, noise))
        rest = other.denoise(again, first, steps=6, guidance=guidance, start=cut, stop=6)
        assert np.array_equal(rest, whole), cut


def test_halves_of_guidance_in_one_batch_give_the_same(kl: Backend) -> None:
    """As on a GPU; on CPU cores the halves are computed side by side."""
    batched = open_backend("torch", kl.folder)
    batched._pool = None  # type: ignore[attr-defined]
    [ours] = generate(batched, asked())
    [beside] = generate(kl, asked())
    assert distance(ours.latent, beside.latent) < TOLERANCE


def test_a_step_that_does_not_exist_is_refused(kl: Backend) -> None:
    noise = initial_noise(0, (16, 8, 8))
    for start, stop in ((0, 5), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="cannot do steps"):
            kl.denoise({}, noise, steps=4, guidance=1, start=start, stop=stop)


def test_a_run_ends_when_its_listener_raises(kl: Backend) -> None:
    seen: list[Progress] = []

    class CancelledError(Exception):
        pass

    def cancel(progress: Progress) -> None:
        seen.append(progress)
        if (progress.index, progress.step) == (1, 2):
            raise CancelledError

    with pytest.raises(CancelledError):
        generate(kl, asked(num_images=3), cancel)
    assert [(p.index, p.step) for p in seen] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2)]


def test_neither_the_latent_nor_the_noise_given_in_is_changed(kl: Backend) -> None:
    noise = initial_noise(0, (16, 8, 8))
    before = noise.copy()
    conditioning = kl.encode(clean_prompt(PROMPT), "", 1)
    kl.denoise(conditioning, noise, steps=2, guidance=1, start=0, stop=2)
    kl.decode(noise)
    assert np.array_equal(noise, before)


def test_bf16_gives_nearly_the_same_picture(kl: Backend) -> None:
    half = open_backend("torch", kl.folder, precision="bf16")
    assert (half.precision, kl.precision) == ("bf16", "f32")
    [ours] = generate(half, asked())
    [exact] = generate(kl, asked())
    assert 1e-4 < distance(ours.latent, exact.latent) < 0.1


def test_an_unknown_backend_is_refused(kl: Backend) -> None:
    with pytest.raises(ValueError, match="unknown backend 'abacus'"):
        open_backend("abacus", kl.folder)
