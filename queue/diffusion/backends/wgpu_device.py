"""One WebGPU device of wgpu-native: shaders to pipelines, bytes to buffers and back.

- A shader's text is its constants, its imports and its file, joined; nothing else is ever compiled.
- Limits are WebGPU's defaults except for the sizes of buffers, of which the adapter's are asked,
  and for what variants of kernels need where the adapter has it.
- wgpu-native ends the process on some errors: callers who must not end with it use a child process.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final

import wgpu
from wgpu.backends.wgpu_native.extras import set_instance_extras

from diffusion.backends.errors import NoAdapterError
from diffusion.plan.schema import Access, Dispatch
from diffusion.plan.shaders import module_text, read_shader
from diffusion.plan.variants import Choice, Variants, dashed

# The limits of every WebGPU; the shaders of a plan need no more
DEFAULT_LIMITS: Final[Mapping[str, int]] = {
    "max-storage-buffers-per-shader-stage": 8,
    "max-uniform-buffers-per-shader-stage": 12,
    "max-uniform-buffer-binding-size": 65536,
    "max-compute-workgroup-storage-size": 16384,
    "max-compute-invocations-per-workgroup": 256,
    "max-compute-workgroup-size-x": 256,
    "max-compute-workgroup-size-y": 256,
    "max-compute-workgroup-size-z": 64,
    "max-compute-workgroups-per-dimension": 65535,
    "max-bind-groups": 4,
    "max-bindings-per-bind-group": 1000,
}
_BUFFER_LIMITS: Final = ("max-buffer-size", "max-storage-buffer-binding-size")
UNIFORM_STRIDE: Final = 256  # least alignment of a uniform's offset
_MOST_AT_ONCE: Final = 16  # pipelines being made
_BEST_FIRST: Final = ("DiscreteGPU", "IntegratedGPU", "Unknown", "CPU")


class Device:
    """shaders: the folder static/wgsl. memory_limit: bytes of buffers at most, None for no limit.
    variants: those that may be chosen; without, no limit is higher for their sake.

    Raises NoAdapterError.
    """

    def __init__(
        self,
        shaders: Path,
        *,
        memory_limit: int | None = None,
        variants: Variants | None = None,
    ) -> None:
        adapter = _best_adapter()
        self.description = f"{adapter.info['backend_type']} {adapter.info['device']}"
        self.software = adapter.info["adapter_type"] == "CPU"
        self.memory_limit = memory_limit
        self.bytes = 0  # of all buffers that `buffer` made and `free` did not take
        self.identity = json.dumps(dict(adapter.info), sort_keys=True, default=str)
        limits = dict(DEFAULT_LIMITS) | {name: adapter.limits[name] for name in _BUFFER_LIMITS}
        features: set[str] = set()
        for variant in variants.variants.values() if variants else ():
            if variant.runs_with(adapter.features, adapter.limits):
                features |= set(variant.features)
                for name, least in variant.limits.items():
                    limits[dashed(name)] = max(limits[dashed(name)], least)
        self.gpu = adapter.request_device_sync(
            required_limits=limits, required_features=sorted(features)
        )
        self.choice: Choice | None = None  # of variants; None: plans run as they are
        self.largest_binding: int = self.gpu.limits["max-storage-buffer-binding-size"]
        # naga and Tint want it before everything else, and refuse it where the feature is not
        self.directives = "enable f16;\n" if "shader-f16" in features else ""
        self._shaders = shaders
        self._texts: dict[str, str] = {}
        self._pipelines: dict[str, tuple[Any, Any]] = {}
        self.nothing = self._new_buffer(16)

    def buffer(self, size: int) -> Any:
        """A buffer of `size` bytes that shaders and copies may use, zeros. Raises MemoryError."""
        if self.memory_limit is not None and self.bytes + size > self.memory_limit:
            raise MemoryError(
                f"{size} bytes more than the {self.bytes} that are taken"
                f" exceed the limit of {self.memory_limit}"
            )
        buffer = self._new_buffer(size)
        self.bytes += size
        return buffer

    def free(self, buffer: Any) -> None:
        """Let go of a buffer that `buffer` made; work that was submitted may still use it."""
        self.bytes -= buffer.size
        buffer.destroy()

    def wait(self) -> None:
        """Returns when all that was submitted is done."""
        # wgpu-py 0.32's on_submitted_work_done raises; what is read comes after what was submitted
        self.gpu.queue.read_buffer(self.nothing, 0, 4)

    def fitted(self, dispatch: Dispatch, sizes: Mapping[str, int]) -> Dispatch:
        """A dispatch with the constants of the variant that was chosen. sizes: its own."""
        return dispatch if self.choice is None else self.choice.fitted(dispatch, sizes)

    def pipelines(self, dispatches: Sequence[Dispatch]) -> list[tuple[Any, Any]]:
        """Pipeline and bind group layout of each, made once for each text and layout; what is not
        there yet at the same time: a driver takes up to a second for one."""
        described = [(dispatch.shader, *self._described(dispatch)) for dispatch in dispatches]
        new = {
            key: (shader, text, accesses)
            for shader, key, text, accesses in described
            if key not in self._pipelines
        }
        with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
            made = threads.map(lambda one: self._make_pipeline(*one), new.values())
            self._pipelines.update(zip(new, made, strict=True))
        return [self._pipelines[key] for _, key, *_ in described]

    def _described(self, dispatch: Dispatch) -> tuple[str, str, list[Access]]:
        """Key, text of the module, and how each binding is accessed."""
        text = self.directives + module_text(self._read, dispatch)
        accesses: list[Access] = [
            binding.access if binding else "read" for binding in dispatch.bindings
        ]
        return hashlib.sha256(f"{accesses}{text}".encode()).hexdigest(), text, accesses

    def _make_pipeline(self, label: str, text: str, accesses: Sequence[Access]) -> tuple[Any, Any]:
        entries: list[dict[str, Any]] = [{"binding": 0, "buffer": {"type": "uniform"}}]
        for number, access in enumerate(accesses, 1):
            kind = "storage" if access == "write" else "read-only-storage"
            entries.append({"binding": number, "buffer": {"type": kind}})
        for entry in entries:
            entry["visibility"] = wgpu.ShaderStage.COMPUTE
        layout = self.gpu.create_bind_group_layout(entries=entries)
        pipeline = self.gpu.create_compute_pipeline(
            label=label,
            layout=self.gpu.create_pipeline_layout(bind_group_layouts=[layout]),
            compute={
                "module": self.gpu.create_shader_module(label=label, code=text),
                "entry_point": "main",
            },
        )
        return pipeline, layout

    def _new_buffer(self, size: int) -> Any:
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
        return self.gpu.create_buffer(size=size, usage=usage)

    def _read(self, name: str) -> str:
        if name not in self._texts:
            self._texts[name] = read_shader(self._shaders, name)
        return self._texts[name]


@cache
def adapters() -> Sequence[Any]:
    """Those of Vulkan, Metal and DX12. Never OpenGL's: its shaders are not WebGPU's."""
    # Before anything of wgpu is used: merely looking for OpenGL takes 0.7 s without a display
    set_instance_extras(backends=["Primary"])
    found: Sequence[Any] = wgpu.gpu.enumerate_adapters_sync()
    return found


def _best_adapter() -> Any:
    """A real GPU, or else a software adapter."""
    if not adapters():
        raise NoAdapterError("wgpu finds neither Vulkan nor Metal nor DX12 on this machine")
    return min(adapters(), key=lambda adapter: _rank(adapter.info["adapter_type"]))


def _rank(kind: str) -> int:
    return _BEST_FIRST.index(kind if kind in _BEST_FIRST else "Unknown")
