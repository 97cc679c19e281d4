"""The wgpu backend: a plan on Vulkan, Metal or DX12, with the browser's own shaders."""

from collections.abc import Mapping

from diffusion.backends.plan_backend import PlanBackend, Run
from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.model_folder import ModelFolder
from diffusion.plan.compiler import MatrixType, compile_folder


def open_wgpu(
    folder: ModelFolder,
    device: Device,
    *,
    matrix_type: MatrixType = "f32",
    poison: bool = False,
) -> PlanBackend:
    """`folder` compiled and ready on `device`; weights are read when they are first needed.

    matrix_type: how matrices are stored; sums are f32 always. poison: see DeviceRun. Raises
    ModelFolderError for a folder that has no plan.
    """
    compiled = compile_folder(folder, matrix_type)
    weights = Weights(device, compiled.plan, compiled.read_weight)

    def open_run(sizes: Mapping[str, int]) -> Run:
        return DeviceRun(device, compiled.plan, weights, sizes, poison=poison)

    return PlanBackend(folder, compiled, open_run, "wgpu", device.description)
