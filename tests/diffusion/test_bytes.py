"""Tensors and pictures as bytes, and back."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from diffusion.pictures import png_bytes, settings_from_png
from diffusion.tensors import TensorError, from_bytes, to_bytes

LATENT = np.random.default_rng(0).normal(size=(16, 4, 6)).astype(np.float32)


def test_tensors_come_back_bit_for_bit() -> None:
    tensors = {"prompt": LATENT[0], "negative": np.zeros((0, 6), np.float32)}
    back = from_bytes(to_bytes(tensors), {"prompt": (4, 6), "negative": (range(257), 6)})
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)
    assert back["negative"].shape == (0, 6)


def test_a_tensor_that_is_a_view_is_written_as_it_reads() -> None:
    turned = LATENT.transpose(2, 0, 1)
    assert np.array_equal(from_bytes(to_bytes({"x": turned}), {"x": (6, 16, 4)})["x"], turned)


def bytes_of(tensor: np.ndarray) -> bytes:
    return to_bytes({"latent": tensor})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not safetensors"),
        (b"\xff" * 64, "not safetensors"),
        (bytes_of(LATENT)[:-4], "not safetensors"),
        (bytes_of(LATENT) + bytes(8192), "at most"),
        (to_bytes({"other": LATENT}), "expected"),
        (to_bytes({"latent": LATENT, "more": LATENT[:1]}), "expected"),
        (bytes_of(LATENT[:, :2]), "has shape"),
        (bytes_of(LATENT.reshape(-1)), "has shape"),
        (bytes_of(LATENT * np.float32(np.nan)), "not finite"),
        (bytes_of(np.full_like(LATENT, np.inf)), "not finite"),
    ],
)
def test_bytes_that_are_not_the_expected_tensors_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        from_bytes(data, {"latent": (16, 4, 6)})


def test_only_f32_is_written_and_read() -> None:
    with pytest.raises(TensorError, match="float64"):
        to_bytes({"latent": LATENT.astype(np.float64)})
    from safetensors.numpy import save

    with pytest.raises(TensorError, match="float16"):
        from_bytes(save({"latent": LATENT.astype(np.float16)}), {"latent": (16, 4, 6)})


PIXELS = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_a_png_keeps_pixels_and_settings() -> None:
    settings = {"prompt": "a “snowman” 🍎\n第二", "seed": 2**32 - 1, "guidance": 4.5}
    data = png_bytes(PIXELS, settings)
    assert settings_from_png(data) == settings
    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(np.asarray(picture), PIXELS)


def test_a_png_without_settings_has_none() -> None:
    assert settings_from_png(png_bytes(PIXELS)) is None


def test_other_files_are_not_read_as_pictures() -> None:
    jpeg = io.BytesIO()
    Image.fromarray(PIXELS).save(jpeg, "JPEG")
    for data in (b"", b"hello", jpeg.getvalue(), png_bytes(PIXELS, {"a": 1})[:20]):
        with pytest.raises(ValueError, match="not a PNG"):
            settings_from_png(data)


def test_settings_nested_without_end_are_refused() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("p2pweb", "[" * 200_000)
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG", pnginfo=text)
    with pytest.raises(ValueError, match="nested"):
        settings_from_png(file.getvalue())


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 4), (3, 5, 7)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        png_bytes(np.zeros(shape, np.uint8))
