"""Runs a plan in numpy, dispatch by dispatch, on the shaders' twins: the rules of an executor.

For the tests of the compilers, and to find which dispatch of a device goes astray.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diffusion.packaging.storage import decode
from diffusion.plan.expressions import Names
from diffusion.plan.schema import Binding, Dispatch, Plan, Stage
from diffusion.plan.sizes import (
    dispatch_sizes,
    dispatch_workgroups,
    symbol_values,
    tensor_bytes,
    tensor_shape,
)
from diffusion.plan.twins import TWINS
from diffusion.plan.weights import NUMPY_TYPES

Array = NDArray[Any]
ReadWeight = Callable[[str], NDArray[np.uint8]]  # as a package stores it

_POISON: Final = {np.dtype("f4"): np.nan, np.dtype("f2"): np.nan, np.dtype("u4"): 0xFFFFFFFF}


class TwinRun:
    """A plan at one set of sizes. Buffers start as NaN: what is read must be written first."""

    def __init__(self, plan: Plan, read_weight: ReadWeight, symbols: Names) -> None:
        self._plan = plan
        self._symbols = symbol_values(plan, symbols)
        self._read_weight = read_weight
        self._tensors: dict[str, Array] = {}

    def write(self, stage: str, name: str, value: Array) -> None:
        """Give a tensor its value, of its shape."""
        shape = tensor_shape(self._plan.stages[stage], name, self._symbols)
        if value.shape != shape:
            raise ValueError(f"{name} has the shape {shape}, not {value.shape}")
        self._tensor(self._plan.stages[stage], name)[: value.size] = value.reshape(-1)

    def read(self, stage: str, name: str) -> Array:
        """A copy of a tensor's value."""
        shape = tensor_shape(self._plan.stages[stage], name, self._symbols)
        flat = self._tensor(self._plan.stages[stage], name)
        return flat[: int(np.prod(shape))].reshape(shape).copy()

    def run(self, stage: str, segments: Iterable[str] | None = None) -> None:
        """Run the named segments of a stage in their order, or all."""
        chosen = self._plan.stages[stage]
        wanted = None if segments is None else set(segments)
        for segment in chosen.segments:
            if wanted is None or segment.name in wanted:
                for dispatch in segment.dispatches:
                    self._dispatch(chosen, dispatch)

    def close(self) -> None:
        """Forget all tensors."""
        self._tensors = {}

    def _dispatch(self, stage: Stage, dispatch: Dispatch) -> None:
        sizes = dispatch_sizes(dispatch, self._symbols)
        if 0 in dispatch_workgroups(dispatch, sizes, self._symbols):
            return
        arrays = [self._bound(stage, binding) for binding in dispatch.bindings]
        with np.errstate(all="ignore"):
            TWINS[dispatch.shader](dispatch.constants, sizes, arrays)

    def _bound(self, stage: Stage, binding: Binding | None) -> Array:
        if binding is None:
            return np.zeros(4, np.float32)
        if binding.tensor in stage.tensors:
            return self._tensor(stage, binding.tensor)
        weight = self._plan.weights[binding.tensor]
        stored = self._read_weight(binding.tensor)
        return decode(stored.data, weight.type, weight.shape).reshape(-1)

    def _tensor(self, stage: Stage, name: str) -> Array:
        tensor = stage.tensors[name]
        dtype = np.dtype(NUMPY_TYPES[tensor.type])
        size = tensor_bytes(stage, name, self._symbols) // dtype.itemsize
        if name not in self._tensors:
            self._tensors[name] = np.full(size, _POISON[dtype], dtype)
        return self._tensors[name]
