"""The two halves of guidance apart: each is a velocity of the same latent, one from elsewhere.

The step itself is done here and not on a device: who exchange velocities get the same latents to
the last bit, whatever their devices round otherwise. Twin of static/js/engine/halves.js.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffusion.backends import Backend, Conditioning, OnStep, check_range
from diffusion.schedule import read_schedule_config

Half = Literal["negative", "prompt"]
Velocity = NDArray[np.float32]
# Takes this half's velocity of a step, f32 [C, h, w], and gives the other half's, or None when
# nobody computes it any more
Exchange = Callable[[int, Velocity], Velocity | None]


def advanced(
    latent: NDArray[np.float32],
    negative: Velocity,
    prompt: Velocity,
    guidance: float,
    stride: float,
) -> NDArray[np.float32]:
    """One Euler step along the guided velocity, as euler.wgsl and the torch backend do it: every
    operation rounded to f32. All arrays are f32 of one shape; stride: the schedule's, negative."""
    scale, length = np.float32(guidance), np.float32(stride)
    towards: NDArray[np.float32] = negative + scale * (prompt - negative)
    return np.asarray(latent + length * towards, np.float32)


def denoise_half(
    backend: Backend,
    conditioning: Conditioning,
    latent: NDArray[np.float32],
    *,
    half: Half,
    steps: int,
    guidance: float,
    start: int,
    stop: int,
    exchange: Exchange,
    on_step: OnStep | None = None,
) -> tuple[NDArray[np.float32], int]:
    """Steps `start` to `stop` (exclusive) of a run of `steps`; `backend` computes one half of each.

    conditioning: needs the text of `half` alone. Returns the latent, f32 [C, h, w], and how many
    steps are done: fewer than `stop` where `exchange` gave None. Raises ValueError without
    guidance, for a range that is none, for a velocity of another shape or one that is not finite.
    """
    check_range(start, stop, steps)
    if not guidance > 1:
        raise ValueError("only with guidance there are two halves")
    strides = read_schedule_config(backend.folder.path).schedule(steps).strides
    with backend.velocities(conditioning[half], latent.shape, steps=steps) as velocity:
        for step in range(start, stop):
            mine = velocity(latent, step)
            given = exchange(step, mine)
            if given is None:
                return latent, step
            if given.shape != latent.shape or not np.isfinite(given).all():
                raise ValueError(f"the other half's velocity of step {step} is none")
            negative, prompt = (mine, given) if half == "negative" else (given, mine)
            latent = advanced(latent, negative, prompt, guidance, float(strides[step]))
            if on_step is not None:
                on_step(step + 1, latent)
    return latent, stop
