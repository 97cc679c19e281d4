"""Plans of one operation: the shader on the device and its twin in numpy, on the same numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.plan.builder import PlanBuilder, Recipe, StageBuilder
from diffusion.plan.schema import Role, Type, read_plan, write_plan
from diffusion.plan.twin_runner import TwinRun

Array = np.ndarray[Any, Any]


@dataclass
class Operation:
    """Declares what one call of a kernel reads and writes, each with random numbers in it."""

    matrix_type: Type = "f32"
    seed: int = 0
    inputs: dict[str, Array] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = PlanBuilder({}, self.matrix_type)
        self.stage: StageBuilder = self.plan.stage("only")
        self.stage.segment("only")
        self._random = np.random.default_rng(self.seed)

    def random(self, *shape: int) -> Array:
        return self._random.standard_normal(shape).astype(np.float32)

    def tensor(self, name: str, value: Array, role: Role = "input") -> str:
        """An input or, as a state, what the kernel changes; an output's value is not given."""
        types: dict[str, Type] = {"float32": "f32", "float16": "f16", "uint32": "u32"}
        self.stage.tensor(name, value.shape, role, types[value.dtype.name])
        if role != "output":
            self.inputs[name] = value
        return name

    def output(self, name: str, *shape: int, type: Type = "f32") -> str:  # noqa: A002
        self.stage.tensor(name, shape, "output", type)
        return name

    def weight(self, name: str, value: Array) -> str:
        """A vector, f32 whatever the matrices are."""
        self.weights[name] = value.reshape(-1)
        return self.plan.weight(name, (value.size,), Recipe())

    def matrix(self, name: str, *shape: int) -> str:
        stored = np.float16 if self.matrix_type == "f16" else np.float32
        self.weights[name] = (self.random(*shape) / shape[-1] ** 0.5).astype(stored)
        return self.plan.weight(name, shape, Recipe())

    def both(self, device: Device, *results: str) -> list[tuple[Array, Array]]:
        """(the device's, the twin's) for each tensor named; the plan travels through JSON."""
        self.stage.finish()
        plan = read_plan(write_plan(self.plan.finish({})))
        read = self.weights.__getitem__
        runs: tuple[Any, ...] = (
            DeviceRun(device, plan, Weights(device, plan, read), {}, poison=True),
            TwinRun(plan, read, {}),
        )
        for run in runs:
            for name, value in self.inputs.items():
                run.write("only", name, value)
            run.run("only")
        return [tuple(run.read("only", name) for run in runs) for name in results]


def distance(ours: Array, theirs: Array) -> float:
    """Relative L2; NaN, which no bound accepts, where anything was left unwritten."""
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


Declare = Callable[[Operation], str]
