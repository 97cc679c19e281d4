"""The tensors of a model folder, one at a time, as a plan wants them. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from diffusion.model_folder import ModelFolderError, weight_files
from diffusion.plan.builder import Recipe
from diffusion.plan.schema import Type, Weight

Array = NDArray[Any]
NUMPY_TYPES: Final[Mapping[Type, type[Any]]] = {
    "f32": np.float32,
    "f16": np.float16,
    "u32": np.uint32,
}


class FolderTensors:
    """Names, shapes and values of the tensors of one part of a folder; reads one when asked."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._places: dict[str, tuple[Path, tuple[int, ...]]] = {}
        for file in weight_files(folder, stem):
            try:
                with safe_open(file, framework="numpy") as tensors:
                    for name in tensors.keys():  # noqa: SIM118  (not a dict)
                        shape = tuple(tensors.get_slice(name).get_shape())
                        self._places[name] = file, shape
            except (OSError, SafetensorError) as error:
                raise ModelFolderError(f"{folder.name}/{file.name}: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def starts(self, prefix: str) -> bool:
        """Whether any name begins with `prefix`."""
        return any(name.startswith(prefix) for name in self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._place(name)[1]

    def read(self, name: str) -> NDArray[np.float32]:
        """The values as f32. Raises ModelFolderError for a missing tensor or an unknown type."""
        file, _ = self._place(name)
        try:
            with safe_open(file, framework="numpy") as tensors:
                values: Array = tensors.get_tensor(name)
        except (OSError, SafetensorError, TypeError) as error:
            raise ModelFolderError(f"{self._folder.name}/{file.name}, {name}: {error}") from error
        return values.astype(np.float32)

    def rows(self, name: str, numbers: Sequence[int]) -> NDArray[np.float32]:
        """Some rows of a tensor, as f32; reads no others. Raises as `read` does."""
        file, shape = self._place(name)
        picked = np.empty((len(numbers), *shape[1:]), np.float32)
        try:
            with safe_open(file, framework="numpy") as tensors:
                whole = tensors.get_slice(name)
                for place, number in enumerate(numbers):
                    picked[place] = whole[number : number + 1][0]
        except (OSError, SafetensorError, TypeError, IndexError) as error:
            raise ModelFolderError(f"{self._folder.name}/{file.name}, {name}: {error}") from error
        return picked

    def _place(self, name: str) -> tuple[Path, tuple[int, ...]]:
        try:
            return self._places[name]
        except KeyError as error:
            raise ModelFolderError(f"{self._folder.name} lacks {name}") from error


def make_weight(weight: Weight, recipe: Recipe, parts: Mapping[str, FolderTensors]) -> Array:
    """A weight's values, of the shape and the type that the plan says.

    parts: by the names that recipes call them. Raises ModelFolderError where the folder differs.
    """
    if recipe.computed is not None:
        values: Array = recipe.computed
    else:
        source = parts[recipe.component]
        values = _joined([source.read(name) for name in recipe.sources], recipe.interleave)
    if recipe.taps_last:
        values = values.transpose(0, 2, 3, 1)
    if recipe.rows:
        missing = recipe.rows - len(values)
        values = np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
    if values.size != np.prod(weight.shape):
        sources = ", ".join(recipe.sources)
        raise ModelFolderError(f"{sources}: shape {values.shape}, expected {weight.shape}")
    return np.ascontiguousarray(values.reshape(weight.shape).astype(NUMPY_TYPES[weight.type]))


def _joined(values: list[NDArray[np.float32]], interleave: int) -> NDArray[np.float32]:
    if not interleave:
        return np.concatenate(values)
    rows, *rest = values[0].shape
    turns = [value.reshape(rows // interleave, interleave, *rest) for value in values]
    return np.stack(turns, axis=1).reshape(rows * len(values), *rest)
