"""The browser's schedule is Python's and diffusers', to the last bit."""

import base64
from itertools import product

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from playwright.sync_api import Error

from diffusion.schedule import ScheduleConfig

CLASS = "FlowMatchEulerDiscreteScheduler"
SHIFTS = [0.3, 1.0, 1.15, 2.5, 3.0, 4.2, 7.77, 12.0]
MAKE = """
return args[0].map(([shift, trainSteps, steps]) => {
  const { sigmas, times, strides } = m.makeSchedule({ shift, trainSteps }, steps);
  return [sigmas, times, strides].map(base64);
});
"""

Case = tuple[float, int, int]


def schedules(engine, cases: list[Case]) -> list[list[np.ndarray]]:
    made = engine("schedule", MAKE, cases)
    return [[np.frombuffer(base64.b64decode(part), "<f4") for part in parts] for parts in made]


def test_every_schedule_is_pythons_to_the_last_bit(engine) -> None:
    cases: list[Case] = list(product(SHIFTS, [1000], range(1, 101)))
    cases += product([3.0], [1, 7, 250], [1, 2, 28])
    for (shift, train_steps, steps), found in zip(cases, schedules(engine, cases), strict=True):
        schedule = ScheduleConfig(shift, train_steps).schedule(steps)
        expected = [schedule.sigmas, schedule.times, schedule.strides]
        assert all(map(np.array_equal, found, expected)), (shift, train_steps, steps)


def test_every_schedule_is_that_of_diffusers(engine) -> None:
    cases: list[Case] = list(product(SHIFTS, [1000], [1, 2, 3, 8, 20, 28, 50, 100]))
    for (shift, _, steps), found in zip(cases, schedules(engine, cases), strict=True):
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(steps)
        assert np.array_equal(found[0], scheduler.sigmas.numpy()), (shift, steps)
        assert np.array_equal(found[1], (scheduler.timesteps / 1000).numpy()), (shift, steps)


def test_the_models_file_says_which_schedule(engine) -> None:
    theirs = dict(FlowMatchEulerDiscreteScheduler(shift=2.5).config)
    config = {**theirs, "_class_name": CLASS}
    read = "return m.readScheduleConfig(args[0]);"
    assert engine("schedule", read, config) == {"shift": 2.5, "trainSteps": 1000}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("m.makeSchedule({ shift: 3, trainSteps: 1000 }, 0)", "steps must be"),
        ("m.makeSchedule({ shift: 3, trainSteps: 1000 }, 1.5)", "steps must be"),
        ("m.readScheduleConfig({ ...ok, _class_name: 'DDIM' })", "DDIM is not"),
        ("m.readScheduleConfig({ ...ok, use_karras_sigmas: true })", "use_karras_sigmas"),
        ("m.readScheduleConfig({ ...ok, shift: 'much' })", "shift must be"),
        ("m.readScheduleConfig({ ...ok, num_train_timesteps: 0 })", "num_train_timesteps must be"),
    ],
)
def test_what_is_no_schedule_of_prx_is_refused(engine, body: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        engine("schedule", f"const ok = {{ _class_name: '{CLASS}' }}; {body}")
