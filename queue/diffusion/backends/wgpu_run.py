"""Runs a plan on a wgpu device: the executor that docs/plan.md describes.

`Weights` holds what segments need and can let go of it; `DeviceRun` is a plan at one set of sizes.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import wgpu
from numpy.typing import NDArray

from diffusion.backends.wgpu_device import UNIFORM_STRIDE, Device
from diffusion.plan.expressions import Names, PlanError
from diffusion.plan.schema import Binding, Plan, Stage
from diffusion.plan.sizes import (
    aligned,
    dispatch_sizes,
    dispatch_workgroups,
    pool_bytes,
    symbol_values,
    tensor_bytes,
    tensor_shape,
)
from diffusion.plan.weights import NUMPY_TYPES

Array = NDArray[Any]
ReadWeight = Callable[[str], Array]
_NAN: Final = 0x7FC00000


class Weights:
    """Weights on the device, read when first bound. read_weight: values as the plan's type."""

    def __init__(self, device: Device, plan: Plan, read_weight: ReadWeight) -> None:
        self._device = device
        self._plan = plan
        self._read_weight = read_weight
        self._buffers: dict[str, Any] = {}

    def buffer(self, name: str) -> Any:
        """Raises PlanError when the values do not have the size that the plan says."""
        if name not in self._buffers:
            weight = self._plan.weights[name]
            if weight.bytes > self._device.largest_binding:
                raise PlanError(
                    f"{name} takes {weight.bytes} bytes;"
                    f" this device binds {self._device.largest_binding}"
                )
            values = np.ascontiguousarray(self._read_weight(name))
            if values.nbytes != weight.bytes:
                raise PlanError(f"{name} has {values.nbytes} bytes, not {weight.bytes}")
            buffer = self._device.buffer(aligned(weight.bytes))
            padding = bytes(-values.nbytes % 4)
            self._device.gpu.queue.write_buffer(buffer, 0, values.tobytes() + padding)
            self._buffers[name] = buffer
        return self._buffers[name]

    def release(self, keep: Iterable[str] = ()) -> None:
        """Let go of all weights but `keep`."""
        kept = set(keep)
        for name in [name for name in self._buffers if name not in kept]:
            self._buffers.pop(name).destroy()

    @property
    def bytes(self) -> int:
        return sum(buffer.size for buffer in self._buffers.values())


class DeviceRun:
    """A plan at one set of sizes. poison: buffers begin as NaN and not as zeros, for tests."""

    def __init__(
        self,
        device: Device,
        plan: Plan,
        weights: Weights,
        symbols: Names,
        *,
        poison: bool = False,
    ) -> None:
        self._device = device
        self._plan = plan
        self._weights = weights
        self._symbols = symbol_values(plan, symbols)
        self._poison = poison
        self._shared: dict[str, Any] = {}
        self._admitted: set[str] = set()
        self._pools: dict[str, dict[int, Any]] = {}
        self._ready: dict[tuple[str, str], list[tuple[Any, Any, tuple[int, int, int]]]] = {}

    def write(self, stage: str, name: str, value: Array) -> None:
        """Give a tensor its value, of its shape and type."""
        tensor = self._plan.stages[stage].tensors[name]
        shape = tensor_shape(self._plan.stages[stage], name, self._symbols)
        if value.shape != shape or value.dtype != NUMPY_TYPES[tensor.type]:
            raise ValueError(f"{name} is {tensor.type} {shape}, not {value.dtype} {value.shape}")
        if value.size:
            data = np.ascontiguousarray(value).tobytes()
            data += bytes(-len(data) % 4)
            self._device.gpu.queue.write_buffer(self._tensor(stage, name)[0], 0, data)

    def read(self, stage: str, name: str) -> Array:
        """The value of a tensor; waits for the device."""
        shape = tensor_shape(self._plan.stages[stage], name, self._symbols)
        dtype = np.dtype(NUMPY_TYPES[self._plan.stages[stage].tensors[name].type])
        count = int(np.prod(shape))
        if count == 0:
            return np.zeros(shape, dtype)
        buffer, _ = self._tensor(stage, name)
        size = -(-count * dtype.itemsize // 4) * 4
        data = self._device.gpu.queue.read_buffer(buffer, 0, size)
        return np.frombuffer(data, dtype)[:count].reshape(shape).copy()

    def run(self, stage: str, segments: Iterable[str] | None = None) -> None:
        """Submit the named segments of a stage in their order, or all. Does not wait."""
        wanted = None if segments is None else set(segments)
        encoder = self._device.gpu.create_command_encoder()
        compute = encoder.begin_compute_pass()
        for segment in self._plan.stages[stage].segments:
            if wanted is None or segment.name in wanted:
                for pipeline, group, workgroups in self._prepared(stage, segment.name):
                    compute.set_pipeline(pipeline)
                    compute.set_bind_group(0, group)
                    compute.dispatch_workgroups(*workgroups)
        compute.end()
        self._device.gpu.queue.submit([encoder.finish()])

    def close(self) -> None:
        """Let go of all buffers but the weights'. The run is over."""
        for buffer in self._shared.values():
            buffer.destroy()
        for pool in self._pools.values():
            for buffer in pool.values():
                buffer.destroy()
        self._shared, self._pools, self._ready = {}, {}, {}

    @property
    def bytes(self) -> int:
        """Of all buffers that are allocated now, without weights."""
        pools = [buffer for pool in self._pools.values() for buffer in pool.values()]
        return sum(buffer.size for buffer in [*pools, *self._shared.values()])

    def _prepared(self, stage: str, segment: str) -> list[tuple[Any, Any, tuple[int, int, int]]]:
        if (stage, segment) not in self._ready:
            self._ready[stage, segment] = self._prepare(stage, segment)
        return self._ready[stage, segment]

    def _prepare(self, stage: str, name: str) -> list[tuple[Any, Any, tuple[int, int, int]]]:
        """Pipelines and bind groups of a segment; dispatches without a workgroup are left out."""
        [segment] = [part for part in self._plan.stages[stage].segments if part.name == name]
        work = []
        for dispatch in segment.dispatches:
            sizes = dispatch_sizes(dispatch, self._symbols)
            workgroups = dispatch_workgroups(dispatch, sizes, self._symbols)
            if 0 not in workgroups:
                work.append((dispatch, tuple(sizes.values()), workgroups))
        places = {sizes: number for number, sizes in enumerate(dict.fromkeys(w[1] for w in work))}
        uniforms = self._uniforms(list(places))
        prepared = []
        for dispatch, sizes_of_it, workgroups in work:
            pipeline, layout = self._device.pipeline(dispatch)
            place = {"buffer": uniforms, "offset": places[sizes_of_it] * UNIFORM_STRIDE}
            entries = [{"binding": 0, "resource": place | {"size": UNIFORM_STRIDE}}]
            for number, binding in enumerate(dispatch.bindings, 1):
                buffer, size = self._bound(stage, binding)
                resource = {"buffer": buffer, "offset": 0, "size": size}
                entries.append({"binding": number, "resource": resource})
            group = self._device.gpu.create_bind_group(layout=layout, entries=entries)
            prepared.append((pipeline, group, workgroups))
        return prepared

    def _uniforms(self, each: list[tuple[int, ...]]) -> Any:
        data = np.zeros((len(each), UNIFORM_STRIDE // 4), np.uint32)
        for number, sizes in enumerate(each):
            data[number, : len(sizes)] = sizes
        return self._device.gpu.create_buffer_with_data(
            data=data.tobytes() or bytes(UNIFORM_STRIDE), usage=wgpu.BufferUsage.UNIFORM
        )

    def _bound(self, stage: str, binding: Binding | None) -> tuple[Any, int]:
        if binding is None:
            return self._device.nothing, 16
        if binding.tensor in self._plan.stages[stage].tensors:
            return self._tensor(stage, binding.tensor)
        buffer = self._weights.buffer(binding.tensor)
        return buffer, buffer.size

    def _tensor(self, stage: str, name: str) -> tuple[Any, int]:
        """The buffer that a tensor lies in, and its bytes from the buffer's start on."""
        described = self._plan.stages[stage]
        self._admit(stage, described)
        size = tensor_bytes(described, name, self._symbols)
        number = described.tensors[name].buffer
        if number is not None:
            return self._pool(stage, described)[number], size
        if name not in self._shared:
            self._shared[name] = self._new_buffer(size)
        return self._shared[name], size

    def _admit(self, stage: str, described: Stage) -> None:
        """Raise PlanError, before allocating anything, for a stage that the device cannot bind."""
        if stage in self._admitted:
            return
        for name in described.tensors:
            size = tensor_bytes(described, name, self._symbols)
            if size > self._device.largest_binding:
                raise PlanError(
                    f"{name} takes {size} bytes; this device binds {self._device.largest_binding}"
                )
        self._admitted.add(stage)

    def _pool(self, stage: str, described: Stage) -> dict[int, Any]:
        if stage not in self._pools:
            sizes = pool_bytes(described, self._symbols)
            self._pools[stage] = {number: self._new_buffer(size) for number, size in sizes.items()}
        return self._pools[stage]

    def _new_buffer(self, size: int) -> Any:
        buffer = self._device.buffer(size)
        if self._poison:
            self._device.gpu.queue.write_buffer(buffer, 0, np.full(size // 4, _NAN, np.uint32))
        return buffer
