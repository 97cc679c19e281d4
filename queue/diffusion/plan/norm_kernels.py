"""Group norms of a decoder's pictures, whole or in bands of rows, and the cut of rows.

As `kernels`: one function for what a plan calls; `twins` has the shaders again in numpy.
"""

from typing import Final

from diffusion.plan.builder import StageBuilder
from diffusion.plan.calls import ITEM_THREADS, spread
from diffusion.plan.schema import Size

_NORM_THREADS: Final = 32
_MOMENT_THREADS: Final = 64
_FINISH_THREADS: Final = 128


def group_norm(
    stage: StageBuilder,
    picture: str,
    gain: str,
    bias: str,
    *,
    pixels: Size,
    channels: int,
    groups: int,
    eps: float,
) -> str:
    """Over all pixels; the tensor [2, channels] that `kernels.conv2d` takes as its norm."""
    partial, chunk = _partial(stage, picture, pixels=pixels, skip=0, channels=channels)
    return _finish(
        stage, partial, gain, bias, pixels, chunk, channels=channels, groups=groups, eps=eps
    )


def group_moments(
    stage: StageBuilder,
    picture: str,
    moments: str,
    *,
    pixels: Size,
    skip: Size,
    channels: int,
) -> None:
    """moments [2, channels]: mean and variance of each channel over `pixels` after `skip` ones."""
    partial, chunk = _partial(stage, picture, pixels=pixels, skip=skip, channels=channels)
    stage.dispatch(
        "group_norm_moments",
        imports=("reduce",),
        constants={"THREADS": _MOMENT_THREADS},
        sizes={"pixels": pixels, "channels": channels, "chunk": chunk},
        bindings=((partial, "read"), (moments, "write")),
        workgroups=("channels", 1, 1),
    )


def norm_of_moments(
    stage: StageBuilder,
    moments: str,
    gain: str,
    bias: str,
    *,
    channels: int,
    groups: int,
    eps: float,
) -> str:
    """The norm of a picture of which each channel's mean and variance are known.

    To `group_norm_finish` that is a picture of one pixel, whose squares are the variance.
    """
    return _finish(stage, moments, gain, bias, 1, 1, channels=channels, groups=groups, eps=eps)


def crop(stage: StageBuilder, picture: str, output: str, *, skip4: Size, count4: Size) -> None:
    """Some rows of a picture, whole: `count4` vectors of four channels after `skip4` of them."""
    stage.dispatch(
        "crop",
        imports=(
            f"picture_in_{stage.tensors[picture].type}",
            f"picture_out_{stage.tensors[output].type}",
            "grid",
        ),
        constants={"THREADS": ITEM_THREADS},
        sizes={"skip4": skip4, "count4": count4},
        bindings=((picture, "read"), None, None, None, (output, "write")),
        workgroups=spread("ceildiv(count4, THREADS)"),
    )


def _partial(
    stage: StageBuilder, picture: str, *, pixels: Size, skip: Size, channels: int
) -> tuple[str, str]:
    """The first pass: its tensor [chunks, 2, channels], and the pixels of a chunk."""
    chunk = f"max(16, ceildiv({pixels}, 2048))"
    chunks = f"ceildiv({pixels}, {chunk})"
    partial = stage.tensor("partial", (chunks, 2, channels))
    stage.dispatch(
        "group_norm_partial",
        imports=(f"picture_in_{stage.tensors[picture].type}",),
        constants={"THREADS": _NORM_THREADS},
        sizes={"pixels": pixels, "skip": skip, "channels": channels, "chunk": chunk},
        bindings=((picture, "read"), (partial, "write")),
        workgroups=("ceildiv(pixels, chunk)", "ceildiv(channels, 4 * THREADS)", 1),
    )
    return partial, chunk


def _finish(
    stage: StageBuilder,
    partial: str,
    gain: str,
    bias: str,
    pixels: Size,
    chunk: Size,
    *,
    channels: int,
    groups: int,
    eps: float,
) -> str:
    norm = stage.tensor("norm", (2, channels))
    stage.dispatch(
        "group_norm_finish",
        imports=("reduce",),
        constants={"THREADS": _FINISH_THREADS, "EPS": eps},
        sizes={"pixels": pixels, "channels": channels, "chunk": chunk, "groups": groups},
        bindings=((partial, "read"), (gain, "read"), (bias, "read"), (norm, "write")),
        workgroups=("groups", 1, 1),
    )
    return norm
