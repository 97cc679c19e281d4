"""One WebGPU device of wgpu-native: shaders to pipelines, bytes to buffers and back.

- A shader's text is its constants, its imports and its file, joined; nothing else is ever compiled.
- Limits are WebGPU's defaults except for the sizes of buffers, of which the adapter's are asked.
- wgpu-native ends the process on some errors: callers who must not end with it use a child process.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import wgpu

from diffusion.plan.schema import Access, Dispatch
from diffusion.plan.shaders import module_text, read_shader

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


class NoAdapterError(RuntimeError):
    """There is no Vulkan, Metal or DX12 here that wgpu could use."""


class Device:
    """shaders: the folder static/wgsl. Raises NoAdapterError."""

    def __init__(self, shaders: Path) -> None:
        adapter = _adapter()
        self.description = f"{adapter.info['backend_type']} {adapter.info['device']}"
        self.software = adapter.info["adapter_type"] == "CPU"
        limits = dict(DEFAULT_LIMITS) | {name: adapter.limits[name] for name in _BUFFER_LIMITS}
        self.gpu = adapter.request_device_sync(required_limits=limits)
        self.largest_binding: int = self.gpu.limits["max-storage-buffer-binding-size"]
        self._shaders = shaders
        self._texts: dict[str, str] = {}
        self._pipelines: dict[str, tuple[Any, Any]] = {}
        self.nothing = self.gpu.create_buffer(size=16, usage=wgpu.BufferUsage.STORAGE)

    def buffer(self, size: int) -> Any:
        """A buffer of `size` bytes that shaders and copies may use, zeros."""
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
        return self.gpu.create_buffer(size=size, usage=usage)

    def pipeline(self, dispatch: Dispatch) -> tuple[Any, Any]:
        """Pipeline and bind group layout of a dispatch, made once for each text and layout."""
        text = module_text(self._read, dispatch)
        accesses: list[Access] = [
            binding.access if binding else "read" for binding in dispatch.bindings
        ]
        key = hashlib.sha256(f"{accesses}{text}".encode()).hexdigest()
        if key not in self._pipelines:
            self._pipelines[key] = self._make_pipeline(dispatch.shader, text, accesses)
        return self._pipelines[key]

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

    def _read(self, name: str) -> str:
        if name not in self._texts:
            self._texts[name] = read_shader(self._shaders, name)
        return self._texts[name]


def _adapter() -> Any:
    """A real GPU, or else a software adapter. Never OpenGL: its shaders are not WebGPU's."""
    found = [
        adapter
        for adapter in wgpu.gpu.enumerate_adapters_sync()
        if adapter.info["backend_type"] in ("Vulkan", "Metal", "D3D12")
    ]
    if not found:
        raise NoAdapterError("wgpu finds neither Vulkan nor Metal nor DX12")
    return min(found, key=lambda adapter: adapter.info["adapter_type"] == "CPU")
