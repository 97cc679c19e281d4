"""A backend that runs a plan: what a host does besides running dispatches.

It cleans and tokenizes prompts, picks rows of the embedding, makes the schedule, and moves tensors
in and out of runs. On which executor is a matter of `open_run`: wgpu, or the numpy twins.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffusion.backends import Conditioning, OnStep, VelocityOf, check_range, guided_halves
from diffusion.backends.errors import TooLargeError
from diffusion.bands import Exchange, Rows, check_bands, check_moments, even_bands, joined
from diffusion.cleaning import clean_prompt
from diffusion.model_folder import ModelFolder
from diffusion.plan.areas import BAND
from diffusion.plan.schema import Plan
from diffusion.plan.transformer import time_waves
from diffusion.schedule import read_schedule_config
from diffusion.torch_parts.tokenizer import load_tokenizer


class Planned(Protocol):
    """A plan and its weights, from a folder (`plan.compiler`) or a package (`plan.packaged`)."""

    @property
    def plan(self) -> Plan: ...
    def read_weight(self, name: str) -> NDArray[np.uint8]: ...
    def read_rows(self, name: str, numbers: Sequence[int]) -> NDArray[Any]: ...


class Run(Protocol):
    """A plan at one set of sizes, on some executor."""

    def write(self, stage: str, name: str, value: NDArray[Any]) -> None: ...
    def read(self, stage: str, name: str) -> NDArray[Any]: ...
    def run(self, stage: str, segments: Iterable[str] | None = None) -> None: ...
    def close(self) -> None: ...


OpenRun = Callable[[Mapping[str, int]], Run]


class PlanBackend:
    """See `diffusion.backends.Backend`."""

    def __init__(
        self, folder: ModelFolder, planned: Planned, open_run: OpenRun, name: str, device: str
    ) -> None:
        self.folder = folder
        self.name = name
        self.device = device
        self.kernels = ""
        self._planned = planned
        self._open_run = open_run
        self._host = planned.plan.host
        self._schedule_config = read_schedule_config(folder.path)
        self._tokenize = load_tokenizer(folder.path)

    def encode(self, prompt: str, negative_prompt: str, guidance: float) -> Conditioning:
        texts = {"negative": negative_prompt, "prompt": prompt}
        return {half: self._features(clean_prompt(texts[half])) for half in guided_halves(guidance)}

    def denoise(
        self,
        conditioning: Conditioning,
        latent: NDArray[np.float32],
        *,
        steps: int,
        guidance: float,
        start: int,
        stop: int,
        on_step: OnStep | None = None,
    ) -> NDArray[np.float32]:
        check_range(start, stop, steps)
        texts = [conditioning[half] for half in guided_halves(guidance)]
        _, rows, columns = latent.shape
        longest = max(len(text) for text in texts)
        sizes = {"B": len(texts), "T": longest, "S": steps, "H": rows, "W": columns}
        with closing(self._open_run(sizes)) as run:
            strides = self._prepare(run, texts, longest, steps)
            run.write("advance", "strides", strides)
            run.write("advance", "guidance", np.array([guidance], np.float32))
            run.write("denoise", "latent", latent)
            for step in range(start, stop):
                run.write("denoise", "step", np.array([step], np.uint32))
                run.run("denoise")
                run.run("advance")
                if on_step is not None:
                    on_step(step + 1, run.read("advance", "latent"))
            return run.read("advance", "latent")

    @contextmanager
    def velocities(
        self, text: NDArray[np.float32], shape: tuple[int, ...], *, steps: int
    ) -> Iterator[VelocityOf]:
        _, rows, columns = shape
        sizes = {"B": 1, "T": len(text), "S": steps, "H": rows, "W": columns}
        with closing(self._open_run(sizes)) as run:
            self._prepare(run, [text], len(text), steps)

            def velocity(latent: NDArray[np.float32], step: int) -> NDArray[np.float32]:
                run.write("denoise", "latent", latent)
                run.write("denoise", "step", np.array([step], np.uint32))
                run.run("denoise")
                [found] = run.read("denoise", "velocity")
                result: NDArray[np.float32] = found
                return result

            yield velocity

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        """In bands of rows where the device cannot bind the whole picture's tensors."""
        rows = latent.shape[1]
        try:
            return self._decode_whole(latent)
        except TooLargeError:
            if BAND not in self._planned.plan.stages or rows == 1:
                raise
        for count in range(2, rows + 1):
            try:
                return self._decode_in_bands(latent, even_bands(rows, count))
            except TooLargeError:
                if count == rows:
                    raise
        raise AssertionError("there are rows, and the last band raises")

    def decode_bands(
        self, latent: NDArray[np.float32], bands: Sequence[Rows], exchange: Exchange
    ) -> list[NDArray[np.uint8]] | None:
        """Those rows of the picture that come from `bands` of the latent: uint8 [h, W, 3] each.

        exchange: called once a norm; see `diffusion.bands`. Returns None when it did. Raises
        ValueError for bands that are none, for moments of another shape or that are none, and for a
        model whose plan has no bands.
        """
        plan = self._planned.plan
        if BAND not in plan.stages:
            raise ValueError("the plan of this model has no bands")
        _, rows, columns = latent.shape
        check_bands(bands, rows)
        [middle, *segments] = [segment.name for segment in plan.stages[BAND].segments]
        with ExitStack() as stack:
            runs = [
                stack.enter_context(
                    closing(self._open_run({"H": rows, "W": columns, "A": first, "O": count}))
                )
                for first, count in bands
            ]
            runs[0].write(BAND, "latent", latent)
            runs[0].run(BAND, [middle])
            if runs[1:]:
                known = runs[0].read(BAND, "middle")
                for run in runs[1:]:
                    run.write(BAND, "middle", known)
            for number, segment in enumerate(segments):
                for run in runs:
                    run.run(BAND, [segment])
                if number < len(segments) - 1:
                    name = f"moments.{number}"
                    own = [run.read(BAND, name) for run in runs]
                    together = exchange(number, own)
                    if together is None:
                        return None
                    check_moments(together, own[0].shape)
                    for run in runs:
                        run.write(BAND, name, together)
            return [_pixels(run.read(BAND, "band_rgba")) for run in runs]

    def _decode_in_bands(self, latent: NDArray[np.float32], bands: list[Rows]) -> NDArray[np.uint8]:
        rows = [band.rows for band in bands]
        found = self.decode_bands(latent, bands, lambda _, parts: joined(parts, rows))
        assert found is not None, "all of it is computed here"
        return np.concatenate(found)

    def _decode_whole(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        _, rows, columns = latent.shape
        with closing(self._open_run({"H": rows, "W": columns})) as run:
            run.write("decode", "latent", latent)
            run.run("decode")
            return _pixels(run.read("decode", "rgba"))

    def _features(self, text: str) -> NDArray[np.float32]:
        """f32 [tokens, text_dim]"""
        ids = self._tokenize(text)
        embedding = self._host["text_encoder"]["embedding"]
        with closing(self._open_run({"T": len(ids)})) as run:
            run.write("encode", "token_rows", self._planned.read_rows(embedding, ids))
            run.run("encode")
            return run.read("encode", "features")

    def _prepare(
        self,
        run: Run,
        texts: list[NDArray[np.float32]],
        longest: int,
        steps: int,
    ) -> NDArray[np.float32]:
        """What is constant over the steps, of the texts and of the schedule. Its strides."""
        padded = np.zeros((len(texts), longest, self.folder.text_dim), np.float32)
        for place, text in zip(padded, texts, strict=True):
            place[: len(text)] = text
        schedule = self._schedule_config.schedule(steps)
        waves = time_waves(schedule.times, self._host["transformer"]["time"])
        run.write("prepare", "text", padded)
        run.write("modulation", "waves", waves)
        run.run("prepare")
        run.run("modulation")
        lengths = np.array([len(text) for text in texts], np.uint32)
        run.write("denoise", "text_lengths", lengths)
        return schedule.strides.astype(np.float32)


def _pixels(packed: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] of pixels as a screen has them."""
    packed = np.ascontiguousarray(packed)
    pixels: NDArray[np.uint8] = packed.view(np.uint8).reshape(*packed.shape, 4)[..., :3].copy()
    return pixels
