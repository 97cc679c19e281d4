"""Programs for a GPU as data, so that wgpu-native and Dawn run and time the very same ones.

A file of programs is {"modules": {id: WGSL}, "programs": [Program as JSON]}. Buffers begin with
numbers from `fill.wgsl`'s hash, which `random_values` repeats: results can be checked without
moving gigabytes.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diffusion.plan.schema import Dispatch, Plan
from diffusion.plan.shaders import module_text, read_shader
from diffusion.plan.sizes import (
    aligned,
    dispatch_sizes,
    dispatch_workgroups,
    pool_bytes,
    symbol_values,
    tensor_bytes,
)
from diffusion.plan.variants import Choice

Fill = Literal["f32", "f16", "u32"]


@dataclass
class Buffer:
    """values: f32 or f16 in -scale..scale, or the number `scale` in every u32."""

    bytes: int
    values: Fill = "f32"
    scale: float = 1.0


@dataclass
class Step:
    """One dispatch. buffers[i] is @binding(i + 1), -1 for nothing; writes: those written to."""

    shader: str
    operations: float
    module: str
    sizes: list[int]
    buffers: list[int]
    writes: list[int]
    workgroups: tuple[int, int, int]


@dataclass
class Program:
    """read: (buffer, first byte, bytes) of what is handed back after one run from the start."""

    name: str
    operations: float  # of floating point, in one run
    buffers: list[Buffer] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    read: list[tuple[int, int, int]] = field(default_factory=list)


class Programs:
    """Collects programs and the texts of their modules. edit: changes a module's text.

    choice: the variants of the device that is to run them; by default every dispatch is as planned.
    """

    def __init__(self, shaders: Path, choice: Choice | None = None) -> None:
        self._shaders = shaders
        self._choice = choice
        self.modules: dict[str, str] = {}
        self.programs: list[Program] = []
        self.places: dict[str, int] = {}  # of the tensors of the program added last

    def module(self, dispatch: Dispatch, edit: Callable[[str], str] | None = None) -> str:
        text = module_text(lambda name: read_shader(self._shaders, name), dispatch)
        text = edit(text) if edit else text
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.modules[key] = text
        return key

    def add_stage(
        self,
        name: str,
        plan: Plan,
        stage_name: str,
        given: Mapping[str, int],
        *,
        values: Mapping[str, tuple[Fill, float]],
        edit: Callable[[str], str] | None = None,
        segments: set[str] | None = None,
    ) -> Program:
        """A stage of a plan, buffers shared as executors share them.

        values: what tensors and weights begin with, by name, where it is not f32 or f16 around 1.
        """
        symbols = symbol_values(plan, given)
        stage = plan.stages[stage_name]
        program = Program(name, 0.0)
        places: dict[str, int] = {}
        for number, size in pool_bytes(stage, symbols).items():
            places[f"pool {number}"] = len(program.buffers)
            program.buffers.append(Buffer(size))
        for segment in stage.segments:
            if segments is not None and segment.name not in segments:
                continue
            for dispatch in segment.dispatches:
                sizes = dispatch_sizes(dispatch, symbols)
                if self._choice is not None:
                    dispatch = self._choice.fitted(dispatch, sizes)
                workgroups = dispatch_workgroups(dispatch, sizes, symbols)
                if 0 in workgroups:
                    continue
                buffers: list[int] = []
                writes: list[int] = []
                for number, binding in enumerate(dispatch.bindings):
                    if binding is None:
                        buffers.append(-1)
                        continue
                    tensor = stage.tensors.get(binding.tensor)
                    key = binding.tensor
                    if tensor is not None and tensor.buffer is not None:
                        key = f"pool {tensor.buffer}"
                    if key not in places:
                        places[key] = len(program.buffers)
                        kind: Fill = "f32"
                        if tensor is None:
                            kind = plan.weights[key].type  # type: ignore[assignment]
                            size = aligned(plan.weights[key].bytes)
                        else:
                            kind = tensor.type
                            size = tensor_bytes(stage, key, symbols)
                        program.buffers.append(Buffer(size, *values.get(key, (kind, 1.0))))
                    buffers.append(places[key])
                    if binding.access == "write":
                        writes.append(number)
                count = operations(dispatch, sizes, workgroups[2])
                module = self.module(dispatch, edit)
                numbers = [0, 0, 0, *sizes.values()]  # first the first workgroup
                program.steps.append(
                    Step(dispatch.shader, count, module, numbers, buffers, writes, workgroups)
                )
                program.operations += count
        self.programs.append(program)
        self.places = places
        return program

    def write(self, path: Path) -> None:
        document = {"modules": self.modules, "programs": [asdict(one) for one in self.programs]}
        path.write_text(json.dumps(document))


def operations(dispatch: Dispatch, sizes: Mapping[str, int], batch: int) -> float:
    """Floating-point operations that the mathematics of a dispatch needs; 0 for what is little.

    batch: the third of the counts of workgroups, which is what it is for attention.
    """
    if dispatch.shader == "matmul":
        return 2.0 * sizes["rows"] * sizes["columns"] * sizes["inner"]
    if dispatch.shader == "conv2d":
        kernel, twice = int(dispatch.constants["KERNEL"]), int(dispatch.constants["UPSAMPLE"])
        pixels = sizes["rows"] * sizes["columns"] * twice**2
        return 2.0 * pixels * kernel**2 * sizes["channels_in"] * sizes["channels_out"]
    if dispatch.shader.startswith("attention"):
        pairs = sizes["length"] * (sizes["length"] + sizes["text"])
        return 4.0 * batch * sizes["heads"] * pairs * int(dispatch.constants["HEAD_DIM"])
    return 0.0


def random_values(torch: Any, first: int, count: int, buffer: Buffer, number: int) -> Any:
    """What fill.wgsl writes: values `first` to `first + count` of a program's buffer `number`.

    A torch tensor on CUDA, or on the processor without one.
    """
    where = "cuda" if torch.cuda.is_available() else "cpu"
    index = torch.arange(first, first + count, dtype=torch.int64, device=where)
    state = (index * 747796405 + 2891336453 + number * 277803737) & 0xFFFFFFFF
    word = (((state >> ((state >> 28) + 4)) ^ state) * 277803737) & 0xFFFFFFFF
    mixed = ((word >> 22) ^ word) >> 8
    values = (mixed.to(torch.float32) / 8388608 - 1) * np.float32(buffer.scale)
    return values.to(torch.float16).to(torch.float32) if buffer.values == "f16" else values
