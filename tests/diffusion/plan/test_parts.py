"""A dispatch that is run in parts gives the same bits as one that is run whole."""

from collections.abc import Callable, Sequence

import numpy as np

from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_pace import Pace, Part, Submit, Task
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.plan.kernel_cases import kernel_cases
from diffusion.plan.operation import STAGE, Operation
from tests.diffusion.plan.conftest import WGSL


class WatchedPace(Pace):
    """Remembers how many parts the dispatches went in."""

    parts = 0

    def run(self, tasks: Sequence[Task], submit: Submit, wait: Callable[[], None]) -> None:
        def watched(together: Sequence[Part]) -> None:
            self.parts += len(together)
            submit(together)

        super().run(tasks, watched, wait)


def test_every_kernel_gives_the_same_bits_in_parts(device: Device) -> None:
    split: set[str] = set()
    for number, case in enumerate(kernel_cases()):
        operation = Operation(case.dtype, seed=number)
        results = case.declare(operation)
        plan = operation.finish()
        weights = Weights(device, plan, operation.weights.__getitem__)
        nothing_is_short = WatchedPace(1e-9)
        values = []
        # Whole, then in parts while it is measured, then in single workgroups
        for pace in (WatchedPace(float("inf")), nothing_is_short, nothing_is_short):
            run = DeviceRun(device, plan, weights, {}, pace=pace, poison=True)
            for name, value in operation.inputs.items():
                run.write(STAGE, name, value)
            run.run(STAGE)
            values.append([run.read(STAGE, name) for name in results])
            run.close()
        for whole, *others in zip(*values, strict=True):
            for other in others:
                assert np.array_equal(whole, other, equal_nan=True), case.name
        [segment] = plan.stages[STAGE].segments
        if nothing_is_short.parts > 2 * len(segment.dispatches):
            split |= {dispatch.shader for dispatch in segment.dispatches}
    assert split == {path.stem for path in WGSL.glob("*.wgsl")}
