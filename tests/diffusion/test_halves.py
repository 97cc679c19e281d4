"""Guidance halves on two backends, a velocity exchanged every step: the latents of one backend."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from diffusion.backends import Backend, open_backend
from diffusion.backends.child_backend import ChildBackend
from diffusion.backends.errors import BackendDiedError
from diffusion.backends.plan_backend import PlanBackend
from diffusion.backends.torch_backend import TorchBackend
from diffusion.backends.wgpu_backend import open_wgpu
from diffusion.backends.wgpu_device import Device
from diffusion.halves import Exchange, Half, advanced, denoise_half
from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.noise import initial_noise
from diffusion.plan.compiler import compile_folder
from diffusion.plan.twin_runner import TwinRun
from tests.diffusion.plan.conftest import WGSL, device, kl_folder
from tests.diffusion.plan.single import distance

__all__ = ["device", "kl_folder"]

STEPS, GUIDANCE = 6, 4.0
NOISE = initial_noise(7, (16, 8, 10))
F32, F16 = 1e-4, 2e-2  # what a single f32 or f16 worker is allowed beside torch

Array = np.ndarray[Any, Any]
Open = Callable[[str], Backend]


@pytest.fixture(scope="module")
def folder(kl_folder: Path) -> ModelFolder:
    return read_model_folder(kl_folder)


@pytest.fixture(scope="module")
def opened(folder: ModelFolder, device: Device) -> Iterator[Open]:
    """opened("torch"), "twins", "wgpu f32", "wgpu f16", "child": each a backend of its own."""
    backends: list[Any] = []

    def open_(name: str) -> Any:
        if name == "torch":
            backend: Any = TorchBackend(folder)
        elif name == "twins":
            compiled = compile_folder(folder, "f32")
            backend = PlanBackend(
                folder,
                compiled,
                lambda sizes: TwinRun(compiled.plan, compiled.read_weight, sizes),
                "twins",
                "numpy",
            )
        elif name == "child":
            backend = open_backend("wgpu", folder, "f32", shaders=WGSL)
        else:
            backend = open_wgpu(folder, device, variant=name.removeprefix("wgpu "), poison=True)
        backends.append(backend)
        return backend

    yield open_
    for backend in backends:
        if not isinstance(backend, PlanBackend) or backend.name == "wgpu":
            backend.close()


@pytest.fixture(scope="module")
def texts(folder: ModelFolder) -> dict[str, Array]:
    with closing(TorchBackend(folder)) as backend:
        return backend.encode("a red apple left of a small dog", "blurry, grey", GUIDANCE)


@pytest.fixture(scope="module")
def alone(folder: ModelFolder, texts: dict[str, Array]) -> Array:
    with closing(TorchBackend(folder)) as backend:
        return backend.denoise(texts, NOISE, steps=STEPS, guidance=GUIDANCE, start=0, stop=STEPS)


def run_half(
    backend: Backend, half: Half, texts: dict[str, Array], exchange: Exchange, **changes: Any
) -> tuple[Array, int]:
    wanted = {"steps": STEPS, "guidance": GUIDANCE, "start": 0, "stop": STEPS, **changes}
    latent = wanted.pop("latent", NOISE)
    conditioning = {half: texts[half]}  # that of the other half is not needed
    return denoise_half(backend, conditioning, latent, half=half, exchange=exchange, **wanted)


def together(first: Backend, second: Backend, texts: dict[str, Array]) -> list[Array]:
    """The latents that both have at the end."""
    sent: dict[Half, SimpleQueue[Array]] = {"negative": SimpleQueue(), "prompt": SimpleQueue()}

    def run(half: Half, other: Half, backend: Backend) -> Array:
        def exchange(step: int, velocity: Array) -> Array:
            sent[half].put(velocity)
            return sent[other].get(timeout=60)

        latent, done = run_half(backend, half, texts, exchange)
        assert done == STEPS
        return latent

    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(run, "negative", "prompt", first),
            pool.submit(run, "prompt", "negative", second),
        ]
        return [run.result() for run in runs]


@pytest.mark.parametrize(
    ("first", "second", "close"),
    [
        ("torch", "torch", F32),
        ("torch", "wgpu f32", F32),
        ("wgpu f32", "torch", F32),
        ("torch", "wgpu f16", F16),
        ("wgpu f16", "wgpu f32", F16),
        ("torch", "twins", F32),
        ("child", "torch", F32),
    ],
)
def test_two_backends_make_what_one_makes(
    opened: Open, texts: dict[str, Array], alone: Array, first: str, second: str, close: float
) -> None:
    ours, theirs = together(opened(first), opened(second), texts)
    assert np.array_equal(ours, theirs)  # to the last bit: who takes over goes on from the same
    assert distance(ours, alone) < close
    assert distance(alone, NOISE) > 0.1


def test_a_backend_and_its_halves_make_the_same(opened: Open, texts: dict[str, Array]) -> None:
    """An f16 worker is as near to its own halves as an f32 one: what f16 rounds is the same."""
    backend = opened("wgpu f16")
    whole = backend.denoise(texts, NOISE, steps=STEPS, guidance=GUIDANCE, start=0, stop=STEPS)
    [ours, _] = together(backend, opened("wgpu f16"), texts)
    assert distance(ours, whole) < F32


def test_it_goes_on_alone_from_the_step_at_which_the_other_half_stayed_away(
    opened: Open, texts: dict[str, Array], alone: Array
) -> None:
    backend, other = opened("torch"), opened("torch")
    with other.velocities(texts["negative"], NOISE.shape, steps=STEPS) as velocity:
        latents = [NOISE]

        def exchange(step: int, mine: Array) -> Array | None:
            return velocity(latents[-1], step) if step < 2 else None

        latent, done = run_half(
            backend, "prompt", texts, exchange, on_step=lambda _, latent: latents.append(latent)
        )
    assert done == 2
    assert np.array_equal(latent, latents[-1])
    rest = backend.denoise(texts, latent, steps=STEPS, guidance=GUIDANCE, start=2, stop=STEPS)
    assert distance(rest, alone) < F32


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.full(NOISE.shape, np.nan, np.float32), "step 0 is none"),
        (np.zeros((16, 8, 9), np.float32), "step 0 is none"),
    ],
    ids=["not a number", "another shape"],
)
def test_a_velocity_that_is_none_is_refused(opened, texts, given: Array, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_half(opened("torch"), "prompt", texts, lambda step, mine: given)


@pytest.mark.parametrize("changes", [{"guidance": 1.0}, {"start": 3, "stop": 2}, {"stop": 9}])
def test_what_makes_no_sense_is_refused(opened, texts, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"guidance|cannot do steps"):
        run_half(opened("torch"), "prompt", texts, lambda step, mine: mine, **changes)


def test_a_step_is_rounded_as_the_shader_says() -> None:
    """Every operation by itself to f32, in the order of euler.wgsl."""
    values = np.random.default_rng(3).normal(0, 2, (3, 500)).astype(np.float32)
    latent, negative, prompt = values
    found = advanced(latent, negative, prompt, 4.3, -0.037)
    for index in range(500):
        scale, stride = np.float32(4.3), np.float32(-0.037)
        apart = np.float32(prompt[index] - negative[index])
        towards = np.float32(negative[index] + np.float32(scale * apart))
        assert found[index] == np.float32(latent[index] + np.float32(stride * towards))


def test_a_child_that_dies_in_the_middle_of_a_half_is_said_so_and_the_next_call_works(
    opened: Open, texts: dict[str, Array], alone: Array
) -> None:
    child = opened("child")
    assert isinstance(child, ChildBackend)

    def exchange(step: int, mine: Array) -> Array:
        if step == 1:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
        return mine

    with pytest.raises(BackendDiedError):
        run_half(child, "prompt", texts, exchange)
    again = child.denoise(texts, NOISE, steps=STEPS, guidance=GUIDANCE, start=0, stop=STEPS)
    assert distance(again, alone) < F32
