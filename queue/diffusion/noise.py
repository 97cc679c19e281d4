"""The noise a picture starts from: one seed, the same noise everywhere.

`initial_noise` is torch's own. `noise_without_torch` states torch's algorithm for processes that
have no torch (and for other languages); it differs by at most 2e-6, as torch's own CPU kernels do.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16  # torch fills 16 numbers at a time from 8 pairs


def initial_noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """f32 `shape`: `torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))`.

    seed: 0..2^32-1. Imports torch when first called.
    """
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    noise: NDArray[np.float32] = torch.randn(shape, generator=generator).numpy()
    return noise


def noise_without_torch(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The same with numpy alone: MT19937 and Box-Muller (ATen/native/cpu/DistributionTemplates.h).

    numpy's RandomState seeds MT19937 as torch does, with the low 32 bits of the seed.
    """
    source = np.random.RandomState(seed % 2**32)

    def draw(count: int) -> NDArray[np.uint32]:
        return np.frombuffer(source.bytes(4 * count), "<u4")

    count = math.prod(shape)
    if count < _BLOCK:
        return _few(draw, count).reshape(shape)
    values = (draw(count) & 0xFFFFFF).astype(np.float32) / np.float32(2**24)
    whole = count - count % _BLOCK
    values[:whole] = _box_muller(values[:whole])
    if whole < count:  # the last 16 places are drawn anew, over what was there
        last = (draw(_BLOCK) & 0xFFFFFF).astype(np.float32) / np.float32(2**24)
        values[-_BLOCK:] = _box_muller(last)
    return values.reshape(shape)


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Uniform numbers in blocks of 16 -> normal numbers; j and j + 8 of a block make a pair."""
    pairs = uniform.reshape(-1, 2, _BLOCK // 2)
    radius = np.sqrt(-2 * np.log(1 - pairs[:, 0]))
    angle = np.float32(2 * math.pi) * pairs[:, 1]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return normal.reshape(-1).astype(np.float32)


def _few(draw: Callable[[int], NDArray[np.uint32]], count: int) -> NDArray[np.float32]:
    """Fewer than 16 numbers: in double precision, one pair after the other."""
    values: list[float] = []
    while len(values) < count:
        high_1, low_1, high_2, low_2 = (int(word) for word in draw(4))
        angle = 2 * math.pi * (((high_1 & 0x1FFFFF) << 32) + low_1) / 2**53
        radius = math.sqrt(-2 * math.log1p(-(((high_2 & 0x1FFFFF) << 32) + low_2) / 2**53))
        values += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(values[:count], np.float32)
