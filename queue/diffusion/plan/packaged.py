"""The plan inside a package with the package's own weights: what a browser runs, for Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion.packaging.package import Package, PackageError
from diffusion.plan.schema import read_plan
from diffusion.plan.shaders import shader_hashes
from diffusion.plan.weights import NUMPY_TYPES


class PackagedPlan:
    """As `compiler.Compiled`, from a package. shaders: the folder static/wgsl.

    Raises PackageError for a package without a plan, with one that its tensors do not fit, or with
    one that was made for other shaders; PlanError for one that nobody should run.
    """

    def __init__(self, package: Package, shaders: Path) -> None:
        manifest = package.manifest
        if manifest.plan is None:
            raise PackageError("there is no plan in it")
        self.plan = read_plan(package.file(manifest.plan))
        self._package = package
        for name, weight in self.plan.weights.items():
            tensor = manifest.tensors.get(_stored_name(name))
            if tensor is None or (tensor.dtype, tensor.shape) != (weight.type, weight.shape):
                raise PackageError(f"its plan and its tensors differ in {name}")
        if shader_hashes(self.plan, shaders) != manifest.wgsl:
            raise PackageError("its plan was made for other shaders")

    def read_weight(self, name: str) -> NDArray[np.uint8]:
        """The bytes of one weight, as they are stored and a device binds them."""
        return np.frombuffer(self._package.stored(_stored_name(name)), np.uint8)

    def read_rows(self, name: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Some rows of a weight that the host keeps, of its `row_type`."""
        rows = self._package.rows(_stored_name(name), numbers)
        return rows.astype(NUMPY_TYPES[self.plan.weights[name].row_type])


def _stored_name(name: str) -> str:
    """A plan's component.name is a package's component/name."""
    return name.replace(".", "/", 1)
