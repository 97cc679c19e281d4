"""Register tiles of matrix products and of attention: constants of shared/tile.wgsl.

Measured on an H200 with wgpu-native and with Dawn, see docs/measurements.md. An invocation has
8 x 8 outputs in each; none takes more than the 16 KiB that WebGPU grants every workgroup.
"""

from collections.abc import Mapping
from typing import Final

from diffusion.plan.schema import Constant

Tile = Mapping[str, Constant]


def _tile(rows: int, columns: int, inner: int) -> Tile:
    return {"TILE_M": rows, "TILE_N": columns, "TILE_K": inner, "BUFFERS": 1}


TILE: Final = _tile(128, 128, 16)
SMALL_TILE: Final = _tile(64, 64, 16)
# Soonest compiled: for trying what does not depend on the tile
PLAIN_TILE: Final = _tile(64, 64, 4)
PLAIN_ATTENTION: Final = _tile(64, 64, 8)
_SLIM_TILE: Final = _tile(128, 32, 8)  # for convolutions of many pixels to few channels

_TILED_HEAD: Final = 64  # features of a head that attention_tiled.wgsl may have
_WIDE_HEADS: Final = (256, 512)  # and attention_wide.wgsl
_TILED: Final = _tile(128, 64, 16)
_WIDEST_PART: Final = 64  # features of a head that one invocation of attention.wgsl holds


def picture_tile(channels: int) -> Tile:
    """The tile for rows as many as pixels, and so many channels: little of it is left empty."""
    if channels > 64:
        return TILE
    return SMALL_TILE if channels > 32 else _SLIM_TILE


def attention_tile(head_dim: int, *, text: bool) -> tuple[str, Tile]:
    """The shader that computes attention of heads so wide, and how it divides its work.

    text: whether there are keys of a text. Only attention.wgsl's constants have no TILE_M.
    """
    if head_dim <= _TILED_HEAD:
        return "attention_tiled", _TILED
    if head_dim in _WIDE_HEADS and not text:
        return "attention_wide", _tile(32, head_dim, 8)
    split = 1
    while head_dim // split > _WIDEST_PART and head_dim % (8 * split) == 0:
        split *= 2
    keys = 4
    while keys < 32 and 2 * keys * head_dim * 4 <= 8192:
        keys *= 2
    return "attention", {
        "SPLIT": split,
        "KEYS": keys,
        "THREADS": 64 if split == 1 else 32 * split,
    }
