"""A plan at given sizes: every expression evaluated, every bound checked, all memory counted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from diffusion.plan.expressions import MAX_VALUE, Names, PlanError, evaluate
from diffusion.plan.schema import TYPE_BYTES, Dispatch, Plan, Stage, segment_weights

MAX_WORKGROUPS: Final = 65535  # a dimension, in every WebGPU
MAX_TENSOR_BYTES: Final = 2**34
_ALIGNMENT: Final = 16  # of buffers: a vec4f


@dataclass(frozen=True)
class Memory:
    """Bytes of one stage. binding: the largest that one binding spans, weights included."""

    weights: int
    pool: int  # inner tensors, which share buffers
    shared: int  # inputs, outputs and states
    binding: int

    @property
    def total(self) -> int:
        return self.weights + self.pool + self.shared


def symbol_values(plan: Plan, given: Names) -> dict[str, int]:
    """The given symbols and those computed from them. Raises PlanError for one out of range."""
    values: dict[str, int] = {}
    for name, value in given.items():
        symbol = plan.symbols.get(name)
        if symbol is None or symbol.value is not None:
            raise PlanError(f"{name} is no symbol to be given")
        if not symbol.smallest <= value <= symbol.largest or value % symbol.multiple:
            raise PlanError(
                f"{name} is {value}, not a multiple of {symbol.multiple}"
                f" in {symbol.smallest}..{symbol.largest}"
            )
        values[name] = value
    for name, symbol in plan.symbols.items():
        if symbol.value is not None and all(
            other in values or symbol.value.find(other) < 0 for other in plan.symbols
        ):
            values[name] = evaluate(symbol.value, values)
    return values


def tensor_shape(stage: Stage, name: str, symbols: Names) -> tuple[int, ...]:
    return tuple(evaluate(axis, symbols) for axis in stage.tensors[name].shape)


def tensor_bytes(stage: Stage, name: str, symbols: Names) -> int:
    """Bytes that a binding of the tensor spans: never none, and whole vec4s.

    Raises PlanError over 16 GiB.
    """
    shape = tensor_shape(stage, name, symbols)
    size = max(math.prod(shape), 1) * TYPE_BYTES[stage.tensors[name].type]
    if size > MAX_TENSOR_BYTES:
        raise PlanError(f"{name} of shape {shape} is too large")
    return aligned(size)


def aligned(size: int) -> int:
    """`size` bytes rounded up to whole vec4s."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def pool_bytes(stage: Stage, symbols: Names) -> dict[int, int]:
    """The size of each pool buffer: that of the largest tensor that ever lies in it."""
    sizes: dict[int, int] = {}
    for name, tensor in stage.tensors.items():
        if tensor.buffer is not None:
            needed = tensor_bytes(stage, name, symbols)
            sizes[tensor.buffer] = max(sizes.get(tensor.buffer, 0), needed)
    return sizes


def dispatch_sizes(dispatch: Dispatch, symbols: Names) -> dict[str, int]:
    """The values of the shader's sizes, each a u32. Raises PlanError for one that is not."""
    names = {**symbols, **_whole_constants(dispatch)}
    values = {name: evaluate(size, names) for name, size in dispatch.sizes.items()}
    for name, value in values.items():
        if value >= 2**32:
            raise PlanError(f"{dispatch.shader}: {name} is {value}")
    return values


def dispatch_workgroups(
    dispatch: Dispatch, sizes: Mapping[str, int], symbols: Names
) -> tuple[int, int, int]:
    """Workgroup counts. Raises PlanError above 65,535 in a dimension."""
    names = {**symbols, **_whole_constants(dispatch), **sizes}
    x, y, z = (evaluate(count, names) for count in dispatch.workgroups)
    if max(x, y, z) > MAX_WORKGROUPS:
        raise PlanError(f"{dispatch.shader}: {x} x {y} x {z} workgroups")
    return x, y, z


def memory(plan: Plan, stage_name: str, symbols: Names) -> Memory:
    """What a stage takes on a device, all its segments loaded; exactly what is allocated."""
    stage = plan.stages[stage_name]
    names = {
        name: aligned(plan.weights[name].bytes)
        for segment in stage.segments
        for name in segment_weights(plan, segment)
    }
    pool = pool_bytes(stage, symbols)
    shared = {
        name: tensor_bytes(stage, name, symbols)
        for name, tensor in stage.tensors.items()
        if tensor.buffer is None
    }
    inner = [
        tensor_bytes(stage, name, symbols)
        for name, tensor in stage.tensors.items()
        if tensor.buffer is not None
    ]
    return Memory(
        weights=sum(names.values()),
        pool=sum(pool.values()),
        shared=sum(shared.values()),
        binding=max([*names.values(), *shared.values(), *inner]),
    )


def _whole_constants(dispatch: Dispatch) -> dict[str, int]:
    return {
        name: value
        for name, value in dispatch.constants.items()
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_VALUE
    }
