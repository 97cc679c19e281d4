"""The same seed gives torch's noise; the same steps give diffusers' levels."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from diffusion.noise import initial_noise, noise_without_torch
from diffusion.schedule import ScheduleConfig
from diffusion.settings import image_seed

SHAPES = [(1,), (2,), (15,), (3, 5), (16,), (17,), (31,), (16, 2, 3), (16, 32, 32), (32, 7, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
def test_noise_is_that_of_torchs_cpu_generator(shape: tuple[int, ...], seed: int) -> None:
    theirs = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).numpy()
    assert np.array_equal(initial_noise(seed, shape), theirs)
    ours = noise_without_torch(seed, shape)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6)


def test_seeds_of_a_batch_count_on_and_wrap_around() -> None:
    assert [image_seed(2**32 - 2, index) for index in range(4)] == [2**32 - 2, 2**32 - 1, 0, 1]


@pytest.mark.parametrize("shift", [1.0, 3.0, 2.5])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 28, 100])
def test_the_schedule_is_that_of_diffusers(steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    schedule = ScheduleConfig(shift=shift).schedule(steps)
    assert np.array_equal(schedule.sigmas, scheduler.sigmas.numpy())
    assert np.array_equal(schedule.times, (scheduler.timesteps / 1000).numpy())
    assert np.array_equal(schedule.strides, np.diff(scheduler.sigmas.numpy()))


def test_the_28_steps_of_prx_are_the_known_ones() -> None:
    times = ScheduleConfig(shift=3.0).schedule(28).times * 1000
    np.testing.assert_allclose(times[:3], [1000, 987.381, 974.108], atol=1e-3)
    np.testing.assert_allclose(times[-3:], [199.827, 110.906, 8.929], atol=1e-3)


def test_a_run_has_at_least_one_step() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ScheduleConfig().schedule(0)
