"""The noise levels of the steps: flow matching with Euler steps.

Gives the same numbers as diffusers' `FlowMatchEulerDiscreteScheduler.set_timesteps`. The shift
applies twice there: to the table of training levels, whose ends bound the steps, and to the steps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diffusion.model_folder import ModelFolderError, read_json

_CLASS: Final = "FlowMatchEulerDiscreteScheduler"
# Options that would change the schedule and that no PRX model uses
_UNUSED: Final = (
    "use_dynamic_shifting",
    "invert_sigmas",
    "shift_terminal",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "stochastic_sampling",
)


@dataclass(frozen=True)
class Schedule:
    """sigmas: f32 [steps + 1], falling from 1 to 0. times: f32 [steps], what the model is told."""

    sigmas: NDArray[np.float32]
    times: NDArray[np.float32]

    @property
    def strides(self) -> NDArray[np.float32]:
        """f32 [steps]: an Euler step k is latent += strides[k] * velocity. Negative."""
        return self.sigmas[1:] - self.sigmas[:-1]


@dataclass(frozen=True)
class ScheduleConfig:
    shift: float = 3.0
    train_steps: int = 1000

    def schedule(self, steps: int) -> Schedule:
        """The levels of a run of `steps` steps (at least 1)."""
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        ends = np.array([self.train_steps, 1], np.float32) / np.float32(self.train_steps)
        highest, lowest = (float(level) for level in _shifted(ends, np.float32(self.shift)))
        levels = np.linspace(highest * self.train_steps, lowest * self.train_steps, steps)
        levels = _shifted(levels / self.train_steps, self.shift).astype(np.float32)
        train_steps = np.float32(self.train_steps)
        return Schedule(
            sigmas=np.append(levels, np.float32(0)),
            times=(levels * train_steps) / train_steps,  # rounded twice, as in diffusers
        )


def read_schedule_config(folder: Path) -> ScheduleConfig:
    """Read scheduler/scheduler_config.json. Raises ModelFolderError for a schedule PRX has not."""
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    if config.get("_class_name") != _CLASS:
        raise ModelFolderError(f"scheduler: {config.get('_class_name')} is not {_CLASS}")
    for option in _UNUSED:
        if config.get(option):
            raise ModelFolderError(f"scheduler: {option} is not supported")
    return ScheduleConfig(
        shift=float(config.get("shift", 1.0)),
        train_steps=int(config.get("num_train_timesteps", 1000)),
    )


def _shifted(level: Any, shift: Any) -> Any:
    return shift * level / (1 + (shift - 1) * level)
