"""The wgpu backend: a plan on Vulkan, Metal or DX12, with the browser's own shaders.

In the process that opens it; `open_backend` opens it in a child process, see child_backend.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffusion.backends import Conditioning, OnStep, VelocityOf
from diffusion.backends.errors import TooLargeError
from diffusion.backends.plan_backend import PlanBackend, Planned, Run
from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_pace import Pace
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.bands import Exchange, Moments, Rows
from diffusion.model_folder import ModelFolder
from diffusion.packaging.package import Package
from diffusion.plan.compiler import compile_folder
from diffusion.plan.packaged import PackagedPlan
from diffusion.plan.schema import Plan, segment_weights
from diffusion.plan.variants import BASELINE

T = TypeVar("T")
_DENOISING: Final = ("prepare", "modulation", "denoise", "advance")


class WgpuBackend(PlanBackend):
    """Weights stay on the device until one lacked room; from then on, only those of the stage at
    hand do. A device does not say how much memory it has.
    """

    def __init__(
        self, folder: ModelFolder, planned: Planned, device: Device, *, poison: bool = False
    ) -> None:
        weights = Weights(device, planned.plan, planned.read_weight)
        pace = Pace()

        def open_run(sizes: Mapping[str, int]) -> Run:
            return DeviceRun(device, planned.plan, weights, sizes, pace=pace, poison=poison)

        super().__init__(folder, planned, open_run, "wgpu", device.description)
        self.kernels = str(device.choice or BASELINE)
        self._wgpu = device
        self._plan = planned.plan
        self._weights = weights
        self._short_of_memory = False

    def encode(self, prompt: str, negative_prompt: str, guidance: float) -> Conditioning:
        compute = partial(super().encode, prompt, negative_prompt, guidance)
        return self._with_room(("encode",), compute)

    def denoise(
        self,
        conditioning: Conditioning,
        latent: NDArray[np.float32],
        *,
        steps: int,
        guidance: float,
        start: int,
        stop: int,
        on_step: OnStep | None = None,
    ) -> NDArray[np.float32]:
        # All room is taken before the first step is done, so that none is told of twice
        compute = partial(
            super().denoise,
            conditioning,
            latent,
            steps=steps,
            guidance=guidance,
            start=start,
            stop=stop,
            on_step=on_step,
        )
        return self._with_room(_DENOISING, compute)

    @contextmanager
    def velocities(
        self, text: NDArray[np.float32], shape: tuple[int, ...], *, steps: int
    ) -> Iterator[VelocityOf]:
        opened: VelocityOf | None = None
        open_ = partial(super().velocities, text, shape, steps=steps)
        with ExitStack() as stack:

            def compute(latent: NDArray[np.float32], step: int) -> NDArray[np.float32]:
                nonlocal opened
                opened = opened or stack.enter_context(open_())
                try:
                    return opened(latent, step)
                except MemoryError:  # a run is of no use after an error
                    stack.close()
                    opened = None
                    raise

            yield lambda latent, step: self._with_room(_DENOISING, partial(compute, latent, step))

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        return self._with_room(("decode",), partial(super().decode, latent))

    def decode_bands(
        self, latent: NDArray[np.float32], bands: Sequence[Rows], exchange: Exchange
    ) -> list[NDArray[np.uint8]] | None:
        known: dict[int, Moments | None] = {}

        def once(norm: int, parts: list[Moments]) -> Moments | None:
            if norm not in known:  # else it is tried again, and the others are further on
                known[norm] = exchange(norm, parts)
            return known[norm]

        return self._with_room(("decode",), partial(super().decode_bands, latent, bands, once))

    def close(self) -> None:
        self._weights.release()

    def _with_room(self, stages: Iterable[str], compute: Callable[[], T]) -> T:
        """What `compute` gives, tried again without other stages' weights if there is no room."""
        needed = _weights_of(self._plan, stages)
        if self._short_of_memory:
            self._release_all_but(needed)
        try:
            return compute()
        except TooLargeError:  # no room would help
            raise
        except MemoryError:
            if self._short_of_memory:
                raise
            self._short_of_memory = True
        self._release_all_but(needed)
        return compute()

    def _release_all_but(self, needed: set[str]) -> None:
        self._weights.release(needed)
        self._wgpu.wait()  # until then the device keeps what it may still use


def open_wgpu(
    folder: ModelFolder,
    device: Device,
    *,
    variant: str = "f32",
    poison: bool = False,
) -> WgpuBackend:
    """`folder` compiled and ready on `device`; weights are read when they are first needed.

    variant: how weights are stored; sums are f32 always. poison: see DeviceRun. Raises
    ModelFolderError for a folder that has no plan.
    """
    return WgpuBackend(folder, compile_folder(folder, variant), device, poison=poison)


def open_wgpu_package(
    package: Package, scratch: Path, device: Device, shaders: Path, *, poison: bool = False
) -> WgpuBackend:
    """The plan of a package ready on `device`, with the package's weights as they are stored.

    scratch: an empty folder, for the model's configurations and its tokenizer. Raises PackageError,
    PlanError, ModelFolderError for a package that is not whole or has no plan for our `shaders`.
    """
    planned = PackagedPlan(package, shaders)
    return WgpuBackend(package.unpack_folder(scratch), planned, device, poison=poison)


def _weights_of(plan: Plan, stages: Iterable[str]) -> set[str]:
    return {
        name
        for stage in stages
        for segment in plan.stages[stage].segments
        for name in segment_weights(plan, segment)
    }
