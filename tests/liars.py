"""Backends that compute something else than they are asked to, as a worker might that wants to save
work or do harm. Each lie is one that spot checks have to find.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion.backends import Backend

Array = np.ndarray
Steps = dict[str, Any]  # what `Backend.denoise` is called with, by name


class Liar:
    """`honest`, but for its steps after so many ranges of them. coarse: the same model with weights
    in int8."""

    def __init__(
        self, lie: str, honest: Backend, coarse: Backend | None = None, honest_ranges: int = 0
    ) -> None:
        self.lie = LIES[lie]
        self.honest_ranges = honest_ranges
        self.honest, self.coarse = honest, coarse
        self.last_given: Array | None = None
        self.rng = np.random.default_rng(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.honest, name)

    def denoise(self, conditioning, latent, *, on_step=None, **steps):
        asked = {"conditioning": conditioning, "latent": latent, **steps}
        self.honest_ranges -= 1
        told = self.honest.denoise(**asked) if self.honest_ranges >= 0 else self.lie(self, asked)
        self.last_given = latent
        if on_step is not None:
            for step in range(asked["start"] + 1, asked["stop"] + 1):
                on_step(step, told)
        return told

    def noise_like(self, latent: Array) -> Array:
        """Of the latent's own strength."""
        strength = np.sqrt(np.mean(latent**2))
        return strength * self.rng.standard_normal(latent.shape).astype(np.float32)


def noise(liar: Liar, asked: Steps) -> Array:
    return liar.noise_like(asked["latent"])


def skipped_step(liar: Liar, asked: Steps) -> Array:
    """All but the first of the range."""
    rest = {**asked, "start": asked["start"] + 1}
    return liar.honest.denoise(**rest) if rest["start"] < rest["stop"] else asked["latent"]


def skipped_last_step(liar: Liar, asked: Steps) -> Array:
    """The one of a run that changes least, where the range has it; else the last of the range."""
    return liar.honest.denoise(**{**asked, "stop": asked["stop"] - 1})


def stale_latent(liar: Liar, asked: Steps) -> Array:
    """From where the range before it began; the first one of a size or picture is honest."""
    old = liar.last_given
    if old is None or not asked["start"] or old.shape != asked["latent"].shape:
        old = asked["latent"]
    return liar.honest.denoise(**{**asked, "latent": old})


def no_guidance(liar: Liar, asked: Steps) -> Array:
    """Half the work."""
    return liar.honest.denoise(**{**asked, "guidance": 1.0})


def nine_tenths_of_the_guidance(liar: Liar, asked: Steps) -> Array:
    return liar.honest.denoise(**{**asked, "guidance": 0.9 * asked["guidance"]})


def another_prompt(liar: Liar, asked: Steps) -> Array:
    other = liar.honest.encode("a big cactus on an orange background", "", asked["guidance"])
    return liar.honest.denoise(**{**asked, "conditioning": other})


def int8(liar: Liar, asked: Steps) -> Array:
    assert liar.coarse is not None
    return liar.coarse.denoise(**asked)


def three_percent(liar: Liar, asked: Steps) -> Array:
    right = liar.honest.denoise(**asked)
    return right + np.float32(0.03) * liar.noise_like(right)


LIES: dict[str, Callable[[Liar, Steps], Array]] = {
    "noise": noise,
    "a skipped step": skipped_step,
    "a skipped last step": skipped_last_step,
    "a stale latent": stale_latent,
    "no guidance": no_guidance,
    "guidance x 0.9": nine_tenths_of_the_guidance,
    "another prompt": another_prompt,
    "int8 claiming f16": int8,
    "3 % added noise": three_percent,
}
