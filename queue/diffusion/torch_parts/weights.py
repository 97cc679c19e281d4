"""Reads the safetensors files of one part of a model folder."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from diffusion.model_folder import ModelFolderError, weight_files

Weights = dict[str, torch.Tensor]


def load_weights(
    folder: Path,
    stem: str,
    device: torch.device,
    dtype: torch.dtype,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Weights:
    """The tensors of `folder` whose names are `wanted`, as `dtype` on `device`.

    `stem` is "diffusion_pytorch_model" (diffusers) or "model" (transformers); one file or several
    with an index. Tensors are converted one at a time, so no second copy is held. Raises
    ModelFolderError when a file is missing or broken.
    """
    weights: Weights = {}
    for file in weight_files(folder, stem):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (not a dict)
                    if wanted(name):
                        weights[name] = tensors.get_tensor(name).to(device, dtype)
        except (OSError, SafetensorError) as error:
            raise ModelFolderError(f"{folder.name}/{file.name}: {error}") from error
    return weights


class Part:
    """Weights under a common prefix, taken one by one: `part["norm.weight"]`."""

    def __init__(self, weights: Weights, prefix: str = "") -> None:
        self._weights = weights
        self._prefix = prefix

    def __getitem__(self, name: str) -> torch.Tensor:
        try:
            return self._weights[self._prefix + name]
        except KeyError as error:
            raise ModelFolderError(f"the weights lack {self._prefix}{name}") from error

    def get(self, name: str) -> torch.Tensor | None:
        return self._weights.get(self._prefix + name)

    def under(self, prefix: str) -> "Part":
        return Part(self._weights, f"{self._prefix}{prefix}.")
