"""The browser's noise is torch's, for any seed and size."""

import base64
import os
import random
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from playwright.sync_api import Error

from diffusion.settings import image_seed

TOLERANCE = 3e-6
SOME = random.Random(1)
SEEDS = [0, 1, 7, 2**31 - 1, 2**31, 2**32 - 1, *(SOME.randrange(2**32) for _ in range(34))]
SIZES = [*range(1, 36), 48, 63, 100, 624, 625, 1000, 4096, 16 * 17 * 23, 32 * 7 * 5]

# The noise of many runs, each several draws from one generator, end to end
DRAW = """
const [runs] = args;
const drawn = runs.flatMap(([seed, sizes]) => {
  const generator = new m.TorchGenerator(seed);
  return sizes.map((size) => generator.randn(size));
});
const all = new Float32Array(drawn.reduce((sum, { length }) => sum + length, 0));
let at = 0;
for (const one of drawn) { all.set(one, at); at += one.length; }
return base64(all);
"""

Runs = list[tuple[int, list[int]]]


def largest_error(engine, runs: Runs) -> float:
    ours = np.frombuffer(base64.b64decode(engine("noise", DRAW, runs)), "<f4")
    theirs = np.concatenate(
        [
            torch.randn(size, generator=generator).numpy()
            for seed, sizes in runs
            for generator in [torch.Generator("cpu").manual_seed(seed)]
            for size in sizes
        ]
    )
    assert ours.shape == theirs.shape
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def test_any_seed_gives_torchs_noise_at_any_size(engine) -> None:
    runs: Runs = [(seed, [size]) for seed, size in product(SEEDS, SIZES)]
    assert largest_error(engine, runs) <= TOLERANCE


def test_draws_below_16_are_torchs_to_the_last_bit(engine) -> None:
    runs: Runs = [(seed, [size]) for seed, size in product(SEEDS, range(1, 16))]
    assert largest_error(engine, runs) == 0


def test_several_draws_in_a_row_go_on_where_the_last_one_stopped(engine) -> None:
    """Short draws keep half a pair for the next short one, whatever longer ones come between."""
    runs: Runs = [
        (seed, [SOME.choice([1, 2, 3, 5, 15, 16, 17, 31, 100, 640]) for _ in range(12)])
        for seed in SEEDS
    ]
    runs.append((3, [1, 1, 16, 1, 17, 3, 1, 0, 1]))
    assert largest_error(engine, runs) <= TOLERANCE


def test_a_million_values_are_torchs(engine) -> None:
    assert largest_error(engine, [(2**32 - 5, [2**20 + 5])]) <= TOLERANCE


def test_the_other_kernel_of_torch_is_as_near(engine) -> None:
    """Processors without AVX2 take another one, which gives other last digits."""
    program = (
        "import sys, torch; generator = torch.Generator('cpu').manual_seed(11);"
        "sys.stdout.buffer.write(torch.randn(400_000, generator=generator).numpy().tobytes())"
    )
    theirs = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        check=True,
    ).stdout
    ours = base64.b64decode(engine("noise", DRAW, [(11, [400_000])]))
    difference = np.frombuffer(ours, "<f4").astype(np.float64) - np.frombuffer(theirs, "<f4")
    assert np.abs(difference).max() <= TOLERANCE


def test_images_of_a_job_count_on_from_its_seed_and_wrap_around(engine) -> None:
    pairs = [(2**32 - 2, index) for index in range(4)] + [(0, 15), (7, 0)]
    found = engine(
        "noise", "return args[0].map(([seed, index]) => m.imageSeed(seed, index));", pairs
    )
    assert found == [image_seed(seed, index) for seed, index in pairs]
    first = [float(x) for x in torch.randn(9, generator=torch.Generator("cpu").manual_seed(5))]
    assert engine("noise", "return [...m.initialNoise(5, 9)];") == first


@pytest.mark.parametrize(
    "call",
    ["new m.TorchGenerator(2 ** 32)", "new m.TorchGenerator(-1)", "new m.TorchGenerator(0.5)",
     "m.initialNoise(1, -1)", "m.initialNoise(1, 1.5)"],
)  # fmt: skip
def test_what_is_no_seed_or_no_count_is_refused(engine, call: str) -> None:
    with pytest.raises(Error, match="RangeError"):
        engine("noise", call)
