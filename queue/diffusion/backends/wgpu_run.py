"""Runs a plan on a wgpu device: the executor that docs/plan.md describes.

`Weights` holds what segments need and can let go of it; `DeviceRun` is a plan at one set of sizes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import wgpu
from numpy.typing import NDArray

from diffusion.backends.errors import TooLargeError
from diffusion.backends.wgpu_device import UNIFORM_STRIDE, Device
from diffusion.backends.wgpu_pace import Groups, Pace, Part, Task
from diffusion.plan.expressions import Names, PlanError
from diffusion.plan.schema import Binding, Dispatch, Plan, Segment, Stage
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
ReadWeight = Callable[[str], NDArray[np.uint8]]  # as a package stores it
_NAN: Final = 0x7FFF7FFF  # as an f32, and as two f16
_MOST_UNSUBMITTED_BYTES: Final = 64 * 2**20


class Weights:
    """Weights on the device, read when first bound, in the bytes of a package."""

    def __init__(self, device: Device, plan: Plan, read_weight: ReadWeight) -> None:
        self._device = device
        self._plan = plan
        self._read_weight = read_weight
        self._buffers: dict[str, Any] = {}
        self._unsubmitted = 0  # bytes

    def buffer(self, name: str) -> Any:
        """Raises PlanError when there are not as many bytes as the plan says, TooLargeError when
        the device cannot bind them, MemoryError when there is no room."""
        if name not in self._buffers:
            weight = self._plan.weights[name]
            if weight.bytes > self._device.largest_binding:
                raise TooLargeError(
                    f"{name} takes {weight.bytes} bytes;"
                    f" this device binds {self._device.largest_binding}"
                )
            stored = self._read_weight(name)
            if stored.nbytes != weight.bytes:
                raise PlanError(f"{name} has {stored.nbytes} bytes, not {weight.bytes}")
            buffer = self._device.buffer(aligned(weight.bytes))
            try:
                self._device.gpu.queue.write_buffer(buffer, 0, stored)
            except MemoryError:  # copying takes memory too
                self._device.free(buffer)
                raise
            self._buffers[name] = buffer
            # What is written lies in memory of the host until something is submitted
            self._unsubmitted += weight.bytes
            if self._unsubmitted > _MOST_UNSUBMITTED_BYTES:
                self._device.wait()
                self._unsubmitted = 0
        return self._buffers[name]

    def release(self, keep: Iterable[str] = ()) -> None:
        """Let go of all weights but `keep`."""
        kept = set(keep)
        for name in [name for name in self._buffers if name not in kept]:
            self._device.free(self._buffers.pop(name))

    @property
    def bytes(self) -> int:
        return sum(buffer.size for buffer in self._buffers.values())


class _Fitted(NamedTuple):
    """A dispatch as this device runs it at these sizes."""

    dispatch: Dispatch
    sizes: tuple[int, ...]
    workgroups: Groups


class _Bound:
    """A dispatch that is ready to run, whole or in parts; bind: makes its bind group for parts that
    begin at a workgroup."""

    def __init__(self, pipeline: Any, task: Task, bind: Callable[[Groups], Any]) -> None:
        self.task = task
        self._pipeline = pipeline
        self._bind = bind
        self._groups: dict[Groups, Any] = {(0, 0, 0): bind((0, 0, 0))}

    def encode(self, compute: Any, part: Part) -> None:
        if part.first not in self._groups:
            self._groups[part.first] = self._bind(part.first)
        compute.set_pipeline(self._pipeline)
        compute.set_bind_group(0, self._groups[part.first])
        compute.dispatch_workgroups(*part.groups)


class DeviceRun:
    """A plan at one set of sizes. It is of no use any more after an error.

    pace: what earlier runs of this plan on this device have measured. poison: buffers begin as NaN
    and not as zeros, for tests.
    """

    def __init__(
        self,
        device: Device,
        plan: Plan,
        weights: Weights,
        symbols: Names,
        *,
        pace: Pace | None = None,
        poison: bool = False,
    ) -> None:
        self._device = device
        self._plan = plan
        self._weights = weights
        self._symbols = symbol_values(plan, symbols)
        self._pace = pace or Pace()
        self._poison = poison
        self._shared: dict[str, Any] = {}
        self._admitted: set[str] = set()
        self._pools: dict[str, dict[int, Any]] = {}
        self._ready: dict[tuple[str, str], list[_Bound]] = {}

    def write(self, stage: str, name: str, value: Array) -> None:
        """Give a tensor its value, of its shape and type."""
        tensor = self._plan.stages[stage].tensors[name]
        shape = tensor_shape(self._plan.stages[stage], name, self._symbols)
        if value.shape != shape or value.dtype != NUMPY_TYPES[tensor.type]:
            raise ValueError(f"{name} is {tensor.type} {shape}, not {value.dtype} {value.shape}")
        if value.size:
            data = _whole_words(np.ascontiguousarray(value))
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

    def run(self, stage: str, segments: Iterable[str] | None = None, *, times: int = 1) -> None:
        """Submit the named segments of a stage in their order, or all, `times` over. Does not wait,
        except for kinds of dispatches that were not measured yet, see wgpu_pace.py."""
        wanted = None if segments is None else frozenset(segments)
        chosen = [
            segment
            for segment in self._plan.stages[stage].segments
            if wanted is None or segment.name in wanted
        ]
        self._prepare(stage, chosen)
        work = [bound for part in chosen for bound in self._ready[stage, part.name]] * times

        def submit(parts: Sequence[Part]) -> None:
            encoder = self._device.gpu.create_command_encoder()
            compute = encoder.begin_compute_pass()
            for part in parts:
                work[part.number].encode(compute, part)
            compute.end()
            self._device.gpu.queue.submit([encoder.finish()])

        self._pace.run([bound.task for bound in work], submit, self._device.wait)

    def close(self) -> None:
        """Let go of all buffers but the weights'. The run is over."""
        for buffer in self._shared.values():
            self._device.free(buffer)
        for pool in self._pools.values():
            for buffer in pool.values():
                self._device.free(buffer)
        self._shared, self._pools, self._ready = {}, {}, {}

    @property
    def bytes(self) -> int:
        """Of all buffers that are allocated now, without weights."""
        pools = [buffer for pool in self._pools.values() for buffer in pool.values()]
        return sum(buffer.size for buffer in [*pools, *self._shared.values()])

    def _prepare(self, stage: str, segments: Iterable[Segment]) -> None:
        """Make what is not there yet: the pipelines of all segments together, then bind groups."""
        new = {
            segment.name: self._fitted(segment)
            for segment in segments
            if (stage, segment.name) not in self._ready
        }
        every = [one.dispatch for work in new.values() for one in work]
        pipelines = iter(self._device.pipelines(every))
        for name, work in new.items():
            self._ready[stage, name] = self._bind(stage, work, pipelines)

    def _fitted(self, segment: Segment) -> list[_Fitted]:
        """Its dispatches but those without a workgroup."""
        work = []
        for planned in segment.dispatches:
            sizes = dispatch_sizes(planned, self._symbols)
            dispatch = self._device.fitted(planned, sizes)
            workgroups = dispatch_workgroups(dispatch, sizes, self._symbols)
            if 0 not in workgroups:
                work.append(_Fitted(dispatch, tuple(sizes.values()), workgroups))
        return work

    def _bind(
        self, stage: str, work: Sequence[_Fitted], pipelines: Iterator[tuple[Any, Any]]
    ) -> list[_Bound]:
        """pipelines: begins with those of `work`."""
        places = {
            sizes: number for number, sizes in enumerate(dict.fromkeys(one.sizes for one in work))
        }
        uniforms = self._uniforms([((0, 0, 0), sizes) for sizes in places])
        prepared = []
        for dispatch, sizes, workgroups in work:
            pipeline, layout = next(pipelines)
            entries = []
            for number, binding in enumerate(dispatch.bindings, 1):
                buffer, size = self._bound(stage, binding)
                resource = {"buffer": buffer, "offset": 0, "size": size}
                entries.append({"binding": number, "resource": resource})
            place = (uniforms, places[sizes] * UNIFORM_STRIDE)
            task = Task((id(pipeline), sizes, workgroups), workgroups)
            prepared.append(_Bound(pipeline, task, self._binder(layout, entries, sizes, place)))
        return prepared

    def _binder(
        self, layout: Any, entries: list[Any], sizes: tuple[int, ...], place: tuple[Any, int]
    ) -> Callable[[Groups], Any]:
        """place: the buffer and the offset of the sizes of the whole dispatch."""

        def bind(first: Groups) -> Any:
            buffer, offset = place if not any(first) else (self._uniforms([(first, sizes)]), 0)
            uniform = {"buffer": buffer, "offset": offset, "size": UNIFORM_STRIDE}
            return self._device.gpu.create_bind_group(
                layout=layout, entries=[{"binding": 0, "resource": uniform}, *entries]
            )

        return bind

    def _uniforms(self, each: Sequence[tuple[Groups, tuple[int, ...]]]) -> Any:
        """A buffer with the first workgroup and the sizes of each."""
        data = np.zeros((len(each), UNIFORM_STRIDE // 4), np.uint32)
        for number, (first, sizes) in enumerate(each):
            data[number, : 3 + len(sizes)] = (*first, *sizes)
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
        """Raise TooLargeError, before allocating anything, for a stage that cannot be bound."""
        if stage in self._admitted:
            return
        for name in described.tensors:
            size = tensor_bytes(described, name, self._symbols)
            if size > self._device.largest_binding:
                raise TooLargeError(
                    f"{name} takes {size} bytes; this device binds {self._device.largest_binding}"
                )
        self._admitted.add(stage)

    def _pool(self, stage: str, described: Stage) -> dict[int, Any]:
        if stage not in self._pools:
            self._pools[stage] = pool = {}  # at once, for `close` after a lack of memory
            for number, size in pool_bytes(described, self._symbols).items():
                pool[number] = self._new_buffer(size)
        return self._pools[stage]

    def _new_buffer(self, size: int) -> Any:
        buffer = self._device.buffer(size)
        if self._poison:
            self._device.gpu.queue.write_buffer(buffer, 0, np.full(size // 4, _NAN, np.uint32))
        return buffer


def _whole_words(values: Array) -> Array:
    """The bytes of an array that has any, and zeros up to a whole u32; copied only to add them."""
    flat = values.reshape(-1).view(np.uint8)
    return np.pad(flat, (0, -flat.nbytes % 4)) if flat.nbytes % 4 else flat
