"""Previews show what the latent holds."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.preview import Previews, apply_map, fit_preview, heading_for, preview_webp
from diffusion.schedule import read_schedule_config

CHANNELS = 16


@pytest.fixture
def folder(kl_folder: Path) -> ModelFolder:
    return read_model_folder(kl_folder)


def latents_and_pictures() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Latents of different sizes, and pictures that follow from them by a hidden linear map."""
    random = np.random.default_rng(3)
    hidden = random.normal(size=(CHANNELS, 3)) * 0.02
    latents, pictures = [], []
    for rows, columns in [(8, 8), (4, 12), (16, 6)]:
        latent = random.normal(size=(CHANNELS, rows, columns)).astype(np.float32)
        colours = np.tensordot(latent, hidden, axes=(0, 0)) + np.array([0.5, 0.4, 0.6])
        pixels = (colours.clip(0, 1) * 255).round().astype(np.uint8)
        latents.append(latent)
        pictures.append(pixels.repeat(8, axis=0).repeat(8, axis=1))
    return latents, pictures


def test_a_linear_relation_is_found_again() -> None:
    latents, pictures = latents_and_pictures()
    preview = fit_preview(latents, pictures)
    assert np.shape(preview["matrix"]) == (CHANNELS, 3)
    for latent, picture in zip(latents, pictures, strict=True):
        difference = apply_map(latent, preview).astype(int) - picture[::8, ::8]
        assert np.abs(difference).max() <= 2


def test_the_preview_shows_where_a_noisy_latent_is_heading(folder: ModelFolder) -> None:
    latents, pictures = latents_and_pictures()
    fitted = replace(folder, preview=fit_preview(latents, pictures))
    clean = latents[0]
    noise = np.random.default_rng(9).normal(size=clean.shape).astype(np.float32)
    levels = read_schedule_config(folder.path).schedule(4).sigmas
    on_the_line = [level * noise + (1 - level) * clean for level in levels]
    previews = Previews(fitted, 4, on_the_line[0])
    shown = [previews.after(step, on_the_line[step]) for step in (1, 2, 3, 4)]
    assert set(shown) == {preview_webp(clean, fitted)}
    assert shown[0] != preview_webp(on_the_line[1], fitted)
    assert np.array_equal(heading_for(noise, clean, 0.3, 0.0), clean)


def test_the_preview_is_a_small_webp_of_the_latents_size(folder: ModelFolder) -> None:
    latents, pictures = latents_and_pictures()
    fitted = replace(folder, preview=fit_preview(latents, pictures))
    data = preview_webp(latents[1], fitted)
    assert len(data) < 3000
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
        assert picture.size == (12, 4)
        shown = np.asarray(picture.convert("RGB")).astype(int)
    expected = pictures[1][::8, ::8]
    assert np.abs(shown - expected).mean() < 30  # WebP blurs colours; another picture is ~60 off


def test_without_a_map_the_preview_is_grey_and_shows_the_shape(folder: ModelFolder) -> None:
    latent = np.random.default_rng(5).normal(size=(CHANNELS, 32, 32)).astype(np.float32) * 0.1
    latent[:, 8:24, 8:24] += np.linspace(1, 2, CHANNELS, dtype=np.float32)[:, None, None]
    with Image.open(io.BytesIO(preview_webp(latent, folder))) as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    assert np.ptp(shown, axis=2).max() <= 4
    square, around = shown[10:22, 10:22].mean(), shown[:6].mean()
    assert square - around > 60


def test_a_flat_latent_still_gives_a_picture(folder: ModelFolder) -> None:
    assert preview_webp(np.zeros((CHANNELS, 8, 8), np.float32), folder)
