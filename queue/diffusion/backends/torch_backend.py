"""The torch backend: CUDA, MPS or CPU.

f32 everywhere unless asked for bf16 (for large models on CUDA: several times faster, and no longer
within 1e-5 of diffusers). The latent itself and the steps on it are f32 always.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion.backends import (
    Conditioning,
    OnStep,
    Precision,
    VelocityOf,
    check_range,
    guided_halves,
)
from diffusion.cleaning import clean_prompt
from diffusion.model_folder import ModelFolder
from diffusion.schedule import Schedule, read_schedule_config
from diffusion.torch_parts.decoder import load_decoder
from diffusion.torch_parts.text_encoder import TextEncoder
from diffusion.torch_parts.tokenizer import load_tokenizer
from diffusion.torch_parts.transformer import Modulation, TextKV, Transformer

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
_SCHEDULES_KEPT = 8


class TorchBackend:
    """One model folder loaded onto one device. See `diffusion.backends.Backend`."""

    name = "torch"
    kernels = ""

    def __init__(self, folder: ModelFolder, precision: Precision = "f32") -> None:
        if precision not in _DTYPES:
            raise ValueError(f"the torch backend has no {precision}, but {' and '.join(_DTYPES)}")
        self.folder = folder
        self.precision = precision
        self._device = _best_device()
        self.device = _describe(self._device)
        dtype = _DTYPES[precision]
        self._schedule_config = read_schedule_config(folder.path)
        self._tokenize = load_tokenizer(folder.path)
        self._text_encoder = TextEncoder(folder.path, self._device, dtype)
        self._transformer = Transformer(folder.path, self._device, dtype)
        self._decoder = load_decoder(folder.path, self._device, dtype)
        self._plan = lru_cache(_SCHEDULES_KEPT)(self._make_plan)
        self._pool = _pool_for_halves() if self._device.type == "cpu" else None

    @torch.inference_mode()
    def encode(self, prompt: str, negative_prompt: str, guidance: float) -> Conditioning:
        texts = {"negative": negative_prompt, "prompt": prompt}
        return {half: self._features(clean_prompt(texts[half])) for half in guided_halves(guidance)}

    @torch.inference_mode()
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
        halves = guided_halves(guidance)
        texts = [self._transformer.text_kv(torch.from_numpy(conditioning[half])) for half in halves]
        schedule, modulation = self._plan(steps)
        rotation = self._rotation(latent.shape)
        x = torch.tensor(latent, dtype=torch.float32, device=self._device)
        for step in range(start, stop):
            velocities = self._velocities(x, texts, modulation, step, rotation)
            if len(velocities) == 2:
                without, given = velocities
                velocity = without + guidance * (given - without)
            else:
                velocity = velocities[0]
            x = x + float(schedule.strides[step]) * velocity
            if on_step is not None:
                on_step(step + 1, x.cpu().numpy())
        result: NDArray[np.float32] = x.cpu().numpy()
        return result

    @contextmanager
    def velocities(
        self, text: NDArray[np.float32], shape: tuple[int, ...], *, steps: int
    ) -> Iterator[VelocityOf]:
        with torch.inference_mode():
            texts = [self._transformer.text_kv(torch.from_numpy(text))]
            _, modulation = self._plan(steps)
            rotation = self._rotation(shape)

        def velocity(latent: NDArray[np.float32], step: int) -> NDArray[np.float32]:
            with torch.inference_mode():
                x = torch.tensor(latent, dtype=torch.float32, device=self._device)
                [found] = self._velocities(x, texts, modulation, step, rotation)
                result: NDArray[np.float32] = found.cpu().numpy()
            return result

        yield velocity

    @torch.inference_mode()
    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        x = torch.tensor(latent, dtype=torch.float32, device=self._device)
        rgb = (self._decoder.decode(x) / 2 + 0.5).clamp(0, 1)  # [3, H, W]
        # Scaled and rounded by numpy, which rounds halves as diffusers' image processor does
        pixels = rgb.permute(1, 2, 0).cpu().numpy()
        result: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)
        return result

    def close(self) -> None:
        """Its memory goes with the last reference to it; its threads now."""
        if self._pool is not None:
            self._pool.shutdown()
        del self._plan  # which holds this backend: it would wait for the garbage collector

    def _features(self, text: str) -> NDArray[np.float32]:
        """f32 [tokens, text_dim]"""
        features: NDArray[np.float32] = (
            self._text_encoder.encode(self._tokenize(text)).float().cpu().numpy()
        )
        return features

    def _rotation(self, shape: Sequence[int]) -> torch.Tensor:
        """Of latents of this shape."""
        patch = self._transformer.patch
        return self._transformer.rotation(shape[1] // patch, shape[2] // patch)

    def _velocities(
        self,
        x: torch.Tensor,
        texts: Sequence[TextKV],
        modulation: Modulation,
        step: int,
        rotation: torch.Tensor,
    ) -> Sequence[torch.Tensor]:
        """One velocity [C, h, w] per text: side by side on CPU cores, in one batch elsewhere."""
        if self._pool is None or len(texts) == 1:
            return self._transformer.velocity(x, texts, modulation, step, rotation).unbind()

        def one(text: TextKV) -> torch.Tensor:
            with torch.inference_mode():  # a setting of each thread
                return self._transformer.velocity(x, [text], modulation, step, rotation)[0]

        return list(self._pool.map(one, texts))

    def _make_plan(self, steps: int) -> tuple[Schedule, Modulation]:
        schedule = self._schedule_config.schedule(steps)
        return schedule, self._transformer.modulation(torch.from_numpy(schedule.times))


def _pool_for_halves() -> ThreadPoolExecutor | None:
    """Two threads, for the halves of guidance, that share torch's threads; None on one core.

    The halves wait for each other once a step, where the threads of one operation wait for each
    other dozens of times a block: a fifth faster on two idle cores, more on busy ones.
    """
    threads = torch.get_num_threads()
    if threads < 2:
        return None
    return ThreadPoolExecutor(
        2, "half", initializer=torch.set_num_threads, initargs=(threads // 2,)
    )


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return device.type
