"""A picture in bands of rows: how it is cut, and what all bands know of each other.

Group norms are over all pixels, so between two of them bands exchange mean and variance of their
channels, and nothing else; the picture is that of one piece, but for rounding. The stage `band` of
a plan says the rest (`plan.areas`). Twin of static/js/engine/bands.js.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Moments = NDArray[np.float32]  # [2, channels]: mean, variance
# Takes the number of a norm and the moments of each band that is computed here, and gives those of
# the whole picture, or None when somebody else's are not to be had any more
Exchange = Callable[[int, list[Moments]], Moments | None]


class Rows(NamedTuple):
    """Rows of a latent: `rows` of them from row `first` on."""

    first: int
    rows: int


def even_bands(rows: int, bands: int) -> list[Rows]:
    """All `rows` in so many bands, or one a row; the first ones are the larger."""
    count, more = divmod(rows, min(bands, rows))
    found: list[Rows] = []
    for number in range(min(bands, rows)):
        first = sum(found[-1]) if found else 0
        found.append(Rows(first, count + (number < more)))
    return found


def joined(parts: Sequence[Moments], rows: Sequence[int]) -> Moments:
    """The moments of the bands together, which have so many rows; summed in f64.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm".
    """
    shares = np.asarray(rows, np.float64) / sum(rows)
    every = np.asarray(parts, np.float64)  # [bands, 2, channels]
    mean = np.einsum("b,bc->c", shares, every[:, 0])
    variance = np.einsum("b,bc->c", shares, every[:, 1] + (every[:, 0] - mean) ** 2)
    return np.stack([mean, variance]).astype(np.float32)


def check_bands(bands: Sequence[Rows], rows: int) -> None:
    """Raise ValueError for bands that are no rows of a latent with so many."""
    for first, count in bands:
        if first < 0 or count < 1 or first + count > rows:
            raise ValueError(f"a band of {count} rows from row {first} on, of {rows}")


def check_moments(moments: Moments, shape: tuple[int, ...]) -> None:
    """Raise ValueError for what are no moments of this shape."""
    right = moments.shape == shape and np.isfinite(moments).all() and (moments[1] >= 0).all()
    if not right:
        raise ValueError(f"no mean and variance of {shape[-1]} channels")
