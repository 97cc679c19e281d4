"""Collects tensors, weights and dispatches; gives inner tensors their buffers at the end."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diffusion.packaging.storage import DType, stored_as
from diffusion.plan.expressions import evaluate
from diffusion.plan.memory import assign, lifetimes
from diffusion.plan.schema import (
    TYPE_BYTES,
    Access,
    Binding,
    Constant,
    Dispatch,
    Plan,
    Role,
    Segment,
    Size,
    Stage,
    Symbol,
    Tensor,
    Type,
    Use,
    Weight,
    check_plan,
)
from diffusion.plan.sizes import symbol_values

# The sizes at which memory is weighed against memory; any give a right plan, these a small one
_TYPICAL: Final = {"B": 2, "T": 64, "S": 28, "A": 0, "O": 1}


@dataclass(frozen=True)
class Recipe:
    """How a weight of the plan is made: from tensors of a part of the folder, or computed.

    sources: joined along their first axis; interleave: by turns, so many rows of each at a time.
    rows: zero rows are added up to this number. taps_last: a convolution's [out, in, y, x] becomes
    [out, y, x, in]. depthwise: a depthwise one's [channels, 1, y, x] becomes the vector of
    [y, x, channels].
    """

    component: str = ""
    sources: tuple[str, ...] = ()
    interleave: int = 0
    rows: int = 0
    taps_last: bool = False
    depthwise: bool = False
    computed: NDArray[np.float32] | None = None


@dataclass
class PlanBuilder:
    """symbols: of the plan; matrix_type: how matrices are stored that are declared from now on."""

    symbols: dict[str, Symbol]
    matrix_type: DType
    weights: dict[str, Weight] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)

    def weight(self, name: str, shape: tuple[int, ...], recipe: Recipe, use: Use = "device") -> str:
        """Declare a weight, component.name, and return its name.

        A vector is f32, a matrix of any axes of the type that a package gives it too.
        """
        if name in self.weights:
            raise ValueError(f"{name} is declared twice")
        stored = stored_as(name.partition(".")[2], shape, self.matrix_type)
        self.weights[name] = Weight(shape, stored, use)
        self.recipes[name] = recipe
        return name

    def stage(self, name: str) -> "StageBuilder":
        return StageBuilder(self, name)

    def finish(self, host: Mapping[str, Any]) -> Plan:
        """The plan. Raises PlanError when a compiler made a binding that no executor may make."""
        plan = Plan(dict(self.symbols), self.weights, self.stages, host)
        check_plan(plan)
        return plan


@dataclass
class StageBuilder:
    """One stage being written: `tensor`, `segment` and `dispatch` in order, then `finish`."""

    plan: PlanBuilder
    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    segments: list[tuple[str, list[Dispatch]]] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[Size],
        role: Role = "inner",
        type: Type = "f32",  # noqa: A002  (the word of the format)
    ) -> str:
        """Declare a tensor and return its name; an inner one is given a name of its own."""
        if role == "inner":
            name = f"{name}.{len(self.tensors)}"
        if name in self.tensors:
            raise ValueError(f"{self.name}: {name} is declared twice")
        self.tensors[name] = Tensor(tuple(shape), type, role, 0 if role == "inner" else None)
        return name

    def segment(self, name: str) -> None:
        """What follows belongs to the segment `name`."""
        self.segments.append((name, []))

    def dispatch(
        self,
        shader: str,
        *,
        bindings: Sequence[tuple[str, Access] | None],
        workgroups: tuple[Size, Size, Size],
        sizes: Mapping[str, Size],
        constants: Mapping[str, Constant],
        imports: Sequence[str] = (),
    ) -> None:
        self.segments[-1][1].append(
            Dispatch(
                shader,
                tuple(imports),
                dict(constants),
                dict(sizes),
                tuple(Binding(*binding) if binding else None for binding in bindings),
                workgroups,
            )
        )

    def finish(self) -> None:
        """Hand the stage to the plan, its inner tensors laid into buffers."""
        dispatches = [dispatch for _, part in self.segments for dispatch in part]
        symbols = symbol_values(self.plan_so_far(), self._typical())
        sizes = {
            name: math.prod(evaluate(axis, symbols) for axis in tensor.shape)
            * TYPE_BYTES[tensor.type]
            for name, tensor in self.tensors.items()
            if tensor.role == "inner"
        }
        numbers = assign(lifetimes(dispatches), sizes)
        self.plan.stages[self.name] = Stage(
            {
                name: replace(tensor, buffer=numbers.get(name))
                for name, tensor in self.tensors.items()
            },
            tuple(Segment(name, tuple(part)) for name, part in self.segments),
        )

    def plan_so_far(self) -> Plan:
        return Plan(self.plan.symbols, self.plan.weights, {})

    def _typical(self) -> dict[str, int]:
        values = {}
        for name, symbol in self.plan.symbols.items():
            if symbol.value is None:
                wanted = _TYPICAL.get(name, symbol.largest // 4)
                wanted = min(max(wanted, symbol.smallest), symbol.largest)
                values[name] = wanted // symbol.multiple * symbol.multiple
        return values
