"""Which rows of its pictures a stage of a decoder computes: all, or those of a band.

A band is `O` rows of the latent after `A` others, with what they become in the picture. Its
pictures hold more rows than its own where a neighbour's follow, because every convolution makes the
outermost row at such an edge wrong. `margins` says how many are needed; they are cut down where the
picture is doubled. At the picture's own borders there is no margin, and zeros around it are right.

Group norms are over all pixels of the picture. A band leaves mean and variance of its own pixels in
`moments.N` at the end of a segment; before the next one the host writes there those of all bands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from diffusion.plan import norm_kernels
from diffusion.plan.builder import StageBuilder

BAND: Final = "band"
SYMBOLS: Final = ("A", "O", "U")  # rows of the latent above the band, its own ones, and those under


@dataclass(frozen=True)
class Norm:
    """The parameters of a group norm."""

    gain: str
    bias: str
    channels: int
    groups: int
    eps: float


class Whole:
    """All rows."""

    middle: str | None = None  # the first picture is an inner tensor

    def rows(self, level: int) -> str:
        """Of a picture that was doubled `level` times."""
        return f"H * {2**level}"

    def norm(self, stage: StageBuilder, picture: str, norm: Norm, level: int) -> str:
        """The tensor [2, channels] that `kernels.conv2d` takes as its norm."""
        size = 2**level
        return norm_kernels.group_norm(
            stage,
            picture,
            norm.gain,
            norm.bias,
            pixels=f"H * {size} * W * {size}",
            channels=norm.channels,
            groups=norm.groups,
            eps=norm.eps,
        )

    def before_doubling(self, stage: StageBuilder, picture: str, channels: int, level: int) -> str:
        """The picture of which the one of `level` + 1 is made."""
        return picture


class Band(Whole):
    """The rows of a band from the first doubling on; before, all: the least of the work, with an
    attention over all places. What they are made of is kept in the state `middle`, so that a
    worker of several bands computes it once.
    """

    middle = "middle"

    def __init__(self, margins: Sequence[int]) -> None:
        """margins: of latent rows by level; see `margins`."""
        self._margins = margins
        self._margin: int | None = None  # None: all rows are there
        self._norms = 0

    def rows(self, level: int) -> str:
        if self._margin is None:
            return super().rows(level)
        return f"{_held(self._margin)} * {2**level}"

    def norm(self, stage: StageBuilder, picture: str, norm: Norm, level: int) -> str:
        if self._margin is None:
            return super().norm(stage, picture, norm, level)
        size = 2**level
        moments = stage.tensor(f"moments.{self._norms}", (2, norm.channels), "state")
        norm_kernels.group_moments(
            stage,
            picture,
            moments,
            pixels=f"O * {size} * W * {size}",
            skip=f"{_above(self._margin)} * {size} * W * {size}",
            channels=norm.channels,
        )
        self._norms += 1
        stage.segment(f"norm.{self._norms}")
        return norm_kernels.norm_of_moments(
            stage,
            moments,
            norm.gain,
            norm.bias,
            channels=norm.channels,
            groups=norm.groups,
            eps=norm.eps,
        )

    def before_doubling(self, stage: StageBuilder, picture: str, channels: int, level: int) -> str:
        if self._margin is None:
            if picture != self.middle:
                raise ValueError(f"{picture} is no state that others could begin with")
            stage.segment("norm.0")
        return self._cropped(stage, picture, channels, level, self._margins[level + 1])

    def own(self, stage: StageBuilder, picture: str, output: str, level: int) -> None:
        """The band's own rows of a picture of four channels, in `output`."""
        self._crop(stage, picture, output, 4, level, 0)

    def _cropped(
        self, stage: StageBuilder, picture: str, channels: int, level: int, margin: int
    ) -> str:
        if margin == self._margin:
            return picture
        size = 2**level
        shape = f"{_held(margin)} * {size}", f"W * {size}", channels
        output = stage.tensor("rows", shape, type=stage.tensors[picture].type)
        self._crop(stage, picture, output, channels, level, margin)
        self._margin = margin
        return output

    def _crop(
        self,
        stage: StageBuilder,
        picture: str,
        output: str,
        channels: int,
        level: int,
        margin: int,
    ) -> None:
        size = 2**level
        first = "A" if self._margin is None else _above(self._margin)
        row4 = f"{size} * W * {size} * {channels // 4}"
        norm_kernels.crop(
            stage,
            picture,
            output,
            skip4=f"({first} - {_above(margin)}) * {row4}",
            count4=f"{_held(margin)} * {row4}",
        )


def margins(convolutions: Sequence[int]) -> list[int]:
    """Latent rows that a band's pictures hold beyond its own at a neighbour's, by level.

    convolutions: of 3 x 3 in a row at each level, the one that doubles the picture at the level it
    gives. Each makes one more row wrong. The first level is computed whole and has no margin.
    """
    needed, found = 0, []
    for level in reversed(range(len(convolutions))):
        needed += convolutions[level]
        found.append(-(-needed // 2**level))
        needed = -(-needed // 2)
    found[-1] = 0
    return found[::-1]


def _above(margin: int) -> str:
    """Latent rows above the band's own ones in a picture with this margin."""
    return f"min(A, {margin})"


def _held(margin: int) -> str:
    return f"(min(A, {margin}) + O + min(U, {margin}))"
