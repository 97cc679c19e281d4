"""A plan of one operation on random numbers: what tests and `/check` hold shaders to."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion.packaging.storage import DType, store
from diffusion.plan.builder import PlanBuilder, Recipe, StageBuilder
from diffusion.plan.schema import Plan, Role, Type, read_plan, write_plan
from diffusion.plan.twin_runner import TwinRun

Array = NDArray[Any]

STAGE = "only"


@dataclass
class Operation:
    """Declares what one call of a kernel reads and writes, each with random numbers in it.

    The plan's only stage and segment are called "only". The same seed gives the same numbers.
    """

    matrix_type: DType = "f32"
    seed: int = 0
    inputs: dict[str, Array] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)  # in the bytes of a package

    def __post_init__(self) -> None:
        self.plan = PlanBuilder({}, self.matrix_type)
        self.stage: StageBuilder = self.plan.stage(STAGE)
        self.stage.segment(STAGE)
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
        self._store(name, value.reshape(1, -1), "f32")
        return self.plan.weight(name, (value.size,), Recipe())

    def matrix(self, name: str, *shape: int, value: Array | None = None) -> str:
        """Of the operation's type; random where no value is given."""
        if value is None:
            value = self.random(*shape) / np.float32(shape[-1] ** 0.5)
        self._store(name, value.reshape(shape[0], -1), self.matrix_type)
        return self.plan.weight(name, shape, Recipe())

    def finish(self) -> Plan:
        """The plan, after a journey through JSON. Once, when all is declared."""
        self.stage.finish()
        return read_plan(write_plan(self.plan.finish({})))

    def twins(self, plan: Plan) -> TwinRun:
        """The twins, done with it."""
        run = TwinRun(plan, self.weights.__getitem__, {})
        for name, value in self.inputs.items():
            run.write(STAGE, name, value)
        run.run(STAGE)
        return run

    def _store(self, name: str, matrix: Array, dtype: DType) -> None:
        self.weights[name] = np.frombuffer(store(matrix, dtype), np.uint8)
