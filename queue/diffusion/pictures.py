"""Finished pictures as PNG files with their settings inside.

The settings are one iTXt chunk before the pixels: keyword "p2pweb", uncompressed, UTF-8 JSON.
"""

import io
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

KEYWORD: Final = "p2pweb"


def png_bytes(pixels: NDArray[np.uint8], settings: Mapping[str, Any] | None = None) -> bytes:
    """A PNG of `pixels` (uint8 [H, W, 3]); `settings` are JSON values kept inside of it."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 [H, W, 3], got {pixels.dtype} {pixels.shape}")
    text = PngImagePlugin.PngInfo()
    if settings is not None:
        text.add_itxt(KEYWORD, json.dumps(dict(settings), ensure_ascii=False))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def settings_from_png(data: bytes) -> dict[str, Any] | None:
    """The settings inside a PNG; None when there are none.

    Raises ValueError when the bytes are no PNG, or the settings no JSON object. The pixels are not
    decoded. The values come from a stranger: check them like any other request.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            text = picture.info.get(KEYWORD)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("not a PNG") from error
    if text is None:
        return None
    try:
        settings = json.loads(text)
    except RecursionError as error:
        raise ValueError("the settings inside the PNG are nested too deeply") from error
    if not isinstance(settings, dict):
        raise ValueError("the settings inside the PNG are not a JSON object")
    return settings
