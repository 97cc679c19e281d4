"""Plans of one operation: the shader on the device and its twin in numpy, on the same numbers."""

from typing import Any

import numpy as np

from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.plan import operation
from diffusion.plan.operation import STAGE

Array = np.ndarray[Any, Any]


class Operation(operation.Operation):
    def both(self, device: Device, *results: str) -> list[tuple[Array, Array]]:
        """(the device's, the twin's) for each tensor named; the plan travels through JSON."""
        plan = self.finish()
        weights = Weights(device, plan, self.weights.__getitem__)
        run = DeviceRun(device, plan, weights, {}, poison=True)
        for name, value in self.inputs.items():
            run.write(STAGE, name, value)
        run.run(STAGE)
        twins = self.twins(plan)
        return [(run.read(STAGE, name), twins.read(STAGE, name)) for name in results]


def distance(ours: Array, theirs: Array) -> float:
    """Relative L2; NaN, which no bound accepts, where anything was left unwritten."""
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
