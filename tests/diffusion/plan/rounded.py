"""A model folder whose weights are what comes back out of a package: torch's side of a comparison
that leaves out what rounding costs, and so may be strict.
"""

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.source import COMPONENTS, STEMS, FileWeight, folder_weights
from diffusion.packaging.storage import DType, Floats, decode, store, stored_as


def write_rounded_model(folder: Path, target: Path, variant: str) -> Path:
    """Write the folder at `target` and return it. Its VAE can decode only."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors*"))
    dtypes = dtypes_of(variant)
    weights = folder_weights(folder)
    for component in COMPONENTS:
        tensors = {
            weight.name: _rounded(weight, stored_as(weight.name, weight.shape, dtypes[component]))
            for weight in weights
            if weight.component == component
        }
        save_file(tensors, target / component / f"{STEMS[component]}.safetensors")
    return target


def _rounded(weight: FileWeight, dtype: DType) -> Floats:
    """Convolutions in groups of a plan's columns: y, x, input."""
    if len(weight.shape) == 1:
        return weight.rows(0, 1)[0]
    whole = weight.rows(0, weight.shape[0]).reshape(weight.shape)
    if whole.ndim == 4:
        whole = whole.transpose(0, 2, 3, 1)
    matrix = np.ascontiguousarray(whole).reshape(len(whole), -1)
    found = decode(store(matrix, dtype), dtype, whole.shape)
    return np.ascontiguousarray(found.transpose(0, 3, 1, 2) if whole.ndim == 4 else found)
