"""Pictures that a tab encodes: to the last bit the pixels and the text that the server writes."""

import base64
import io
import struct

import numpy as np
import pytest
from PIL import Image

from diffusion.pictures import png_bytes, settings_from_png
from tests.studio import settings_of

ENCODE = """async ([name, pixels, ...more]) => {
  const m = await import('/static/js/work/pictures.js');
  const bytes = await m[name](Uint8Array.from(atob(pixels), (c) => c.charCodeAt(0)), ...more);
  return [btoa(String.fromCharCode(...bytes)), m.pictureType(bytes)]; }"""


def encoded(page, name: str, pixels: np.ndarray, *more) -> tuple[bytes, str]:
    height, width, _ = pixels.shape
    data = base64.b64encode(pixels.tobytes()).decode()
    text, kind = page.evaluate(ENCODE, [name, data, width, height, *more])
    return base64.b64decode(text), kind


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 3 + columns, columns * 5, rows * columns], axis=2).astype(np.uint8)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def texts(png: bytes) -> list[bytes]:
    """The iTXt chunks as they lie in the file."""
    found, at = [], 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"iTXt":
            found.append(png[at + 8 : at + 8 + size])
        at += 12 + size
    return found


@pytest.mark.parametrize(
    "pixels",
    [smooth(64, 48), noise(33, 17), noise(1, 1), np.full((5, 7, 3), 255, np.uint8)],
    ids=["smooth", "noise", "one", "white"],
)
def test_a_png_holds_exactly_the_pixels(module_page, pixels):
    png, kind = encoded(module_page, "pngOf", pixels)
    picture = Image.open(io.BytesIO(png))
    picture.load()  # checks the sums of all chunks
    assert (picture.format, picture.mode, kind) == ("PNG", "RGB", "image/png")
    assert np.array_equal(np.asarray(picture), pixels)
    assert texts(png) == []


def test_smooth_pictures_are_about_as_small_as_the_servers(module_page):
    pixels = smooth(128, 128)
    png, _ = encoded(module_page, "pngOf", pixels)
    assert len(png) < 1.1 * len(png_bytes(pixels))


@pytest.mark.parametrize(
    "changes",
    [{}, {"guidance": 4.5}, {"guidance": 1.0},
     {"prompt": 'a "cat"\\ \n\t é 漢字 🚀 \x7f \u2028 </script>', "negative_prompt": "\x01"}],
)  # fmt: skip
def test_the_settings_inside_are_the_servers_to_the_last_byte(module_page, changes):
    pixels = smooth(8, 8)
    settings = settings_of(**changes).as_dict()
    png, _ = encoded(module_page, "pngOf", pixels, settings)
    assert texts(png) == texts(png_bytes(pixels, settings))
    assert settings_from_png(png) == settings


def test_a_preview_is_a_small_webp_that_looks_the_same(module_page):
    pixels = smooth(32, 24) // 4 + 90
    webp, kind = encoded(module_page, "previewOf", pixels)
    picture = Image.open(io.BytesIO(webp))
    assert (picture.format, kind, picture.size) == ("WEBP", "image/webp", (24, 32))
    difference = np.asarray(picture.convert("RGB")).astype(int) - pixels
    assert np.abs(difference).mean() < 12
    assert len(webp) < pixels.size


def test_a_browser_that_writes_no_webp_makes_png_of_previews(module_page):
    pixels = noise(8, 8)
    module_page.evaluate("() => { window.kept = OffscreenCanvas; delete window.OffscreenCanvas; }")
    png, kind = encoded(module_page, "previewOf", pixels)
    module_page.evaluate("() => { window.OffscreenCanvas = window.kept; }")
    assert kind == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)


def test_pixels_that_are_too_few_or_too_many_are_no_picture(module_page):
    said = module_page.evaluate(
        """async () => {
          const { pngOf } = await import('/static/js/work/pictures.js');
          return pngOf(new Uint8Array(11), 2, 2).catch((error) => [error.name, error.message]); }"""
    )
    assert said == ["RangeError", "11 bytes are no picture of 2 x 2"]
