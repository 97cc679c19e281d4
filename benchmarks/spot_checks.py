"""How well spot checks tell liars from honest workers: detection and false refusals.

python benchmarks/spot_checks.py [--model models/prx-emoji] [--side 64] [--steps 8] [--jobs 6]

Honest workers store weights in f32 or in f16, and each checks the other. A random model
(`--model random`) has weights in f32, so that f16 costs something. `--wgpu`: also workers on the
GPU that wgpu finds, checked by torch, and torch by them.
Ranges are cut at random, as speeds cut them. n is ranges checked.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "queue")]

from diffusion import likeness  # noqa: E402
from diffusion.backends import Backend, open_backend  # noqa: E402
from diffusion.backends.torch_backend import TorchBackend  # noqa: E402
from diffusion.model_folder import read_model_folder  # noqa: E402
from diffusion.noise import initial_noise  # noqa: E402
from diffusion.random_model import write_random_model  # noqa: E402
from tests.diffusion.plan.rounded import write_rounded_model  # noqa: E402
from tests.liars import LIES, Liar  # noqa: E402

PROMPTS = (
    "a red apple", "a rocket above a full moon on a black background", "a snowman and a crown",
    "a slice of pizza left of a cat on a blue background",
)  # fmt: skip
GUIDANCE = 3.0
WGSL = ROOT / "static" / "wgsl"


def ranges(steps: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    start = 0
    while start < steps:
        stop = min(steps, start + int(rng.integers(1, 5)))
        yield start, stop
        start = stop


def trajectory(worker: Any, job: tuple[Any, Any], steps: int, cuts: list[tuple[int, int]]) -> Any:
    """(given, asked, claimed) of each range, each from the claim of the one before."""
    texts, latent = job
    for start, stop in cuts:
        asked = {"steps": steps, "guidance": GUIDANCE, "start": start, "stop": stop}
        claimed = worker.denoise(texts, latent, **asked)
        yield latent, asked, claimed
        latent = claimed


def distances(worker: Any, checker: Backend, jobs: list[Any], steps: int) -> list[float]:
    rng = np.random.default_rng(0)
    found = []
    for texts, noise in jobs:
        cuts = list(ranges(steps, rng))
        if isinstance(worker, Liar):
            worker.last_given = None
        for given, asked, claimed in trajectory(worker, (texts, noise), steps, cuts):
            if asked["start"] == 0 and getattr(worker, "lie", None) is LIES["a stale latent"]:
                continue  # there is nothing older than the noise
            computed = checker.denoise(texts, given, **asked)
            found.append(likeness.distance_of_steps(given, claimed, computed))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(ROOT / "models" / "prx-emoji"))
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--wgpu", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(options.model)
        if options.model == "random":
            folder = write_random_model(Path(place) / "random", dtype=torch.float32)
        measure(folder, Path(place), options.side, options.steps, options.jobs, options.wgpu)


def measure(folder: Path, place: Path, side: int, steps: int, number: int, wgpu: bool) -> None:
    def opened(variant: str) -> Backend:
        if variant in ("f32", "bf16"):
            return TorchBackend(read_model_folder(folder), precision=variant)  # type: ignore
        rounded = write_rounded_model(folder, place / variant, variant)
        return TorchBackend(read_model_folder(rounded))  # type: ignore[return-value]

    workers = {variant: opened(variant) for variant in ("f32", "f16", "bf16", "int8", "int4")}
    exact = workers["f32"]
    shape = exact.folder.latent_shape(side, side)
    jobs = [
        (exact.encode(PROMPTS[seed % len(PROMPTS)], "", GUIDANCE), initial_noise(seed, shape))
        for seed in range(number)
    ]
    print(f"{folder.name}, {side} x {side}, {steps} steps, {number} jobs")
    limit = likeness.limit("denoise", "f32", "f16")
    refused = of = 0
    for one, other in itertools.permutations(("f32", "f16"), 2):
        found = distances(workers[one], workers[other], jobs, steps)
        refused, of = refused + sum(d > limit for d in found), of + len(found)
        print(f"| honest {one}, checked by {other} | {spread(found)} | limit {limit:g} |")
    print(f"| false refusals, f32 and f16 | {refused} of {of} |")
    if wgpu:
        across_devices(folder, workers, jobs, steps)
    for coarse in ("bf16", "int8", "int4"):
        found = distances(workers[coarse], exact, jobs, steps)
        theirs = likeness.limit("denoise", coarse, "f32")
        refusals = f"{sum(d > theirs for d in found)} of {len(found)}"
        print(f"| honest {coarse}, and says so | {spread(found)} | limit {theirs:g}: {refusals} |")
    for lie in LIES:
        found = []
        for one, other in itertools.product(("f32", "f16"), repeat=2):
            liar = Liar(lie, workers[one], workers["int8"])
            found += distances(liar, workers[other], jobs, steps)
        caught = f"{sum(d > limit for d in found)} of {len(found)}"
        print(f"| {lie} | {spread(found)} | caught: {caught} |")


def across_devices(
    folder: Path, torch_workers: dict[str, Backend], jobs: list[Any], steps: int
) -> None:
    """Honest workers of wgpu, with the kernels that their trial chooses, beside torch's, each
    checking the other."""
    for variant in ("f32", "f16"):
        worker = open_backend("wgpu", read_model_folder(folder), variant, shaders=WGSL)
        for other in ("f32", "f16"):
            both = distances(worker, torch_workers[other], jobs, steps)
            both += distances(torch_workers[other], worker, jobs, steps)
            ours = likeness.precision(worker.precision, worker.kernels)
            limit = likeness.limit("denoise", ours, other)
            name = f"wgpu {variant} ({worker.device}, {worker.kernels or 'its usual tiles'})"
            refusals = f"{sum(d > limit for d in both)} of {len(both)}"
            row = f"{name} and torch {other} | {spread(both)} | limit {limit:g}: {refusals}"
            print(f"| honest {row} |")
        worker.close()


def spread(found: list[float]) -> str:
    return f"{min(found):.2g} to {max(found):.2g}, median {np.median(found):.2g}"


if __name__ == "__main__":
    main()
