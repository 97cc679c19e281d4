"""The weights of a plan, made from the tensors of a model folder a few rows at a time.

A `PlanWeight` is what `packaging.pack.pack_model` stores. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diffusion.model_folder import ModelFolderError
from diffusion.packaging.source import COMPONENTS, Component, FileWeight
from diffusion.packaging.storage import Floats, StorageError, as_matrix, encode, layout_of
from diffusion.plan.builder import Recipe
from diffusion.plan.schema import Type, Weight

NUMPY_TYPES: Final[Mapping[Type, type[Any]]] = {
    "f32": np.float32,
    "f16": np.float16,
    "u32": np.uint32,
}
_BLOCK_WEIGHTS: Final = 2**20  # encoded at a time: some 40 MB of scratch


class FolderTensors:
    """The tensors of one component of a folder, by name."""

    def __init__(self, component: Component, weights: Sequence[FileWeight]) -> None:
        self._component = component
        self._weights = {weight.name: weight for weight in weights if weight.component == component}

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def __getitem__(self, name: str) -> FileWeight:
        try:
            return self._weights[name]
        except KeyError as error:
            raise ModelFolderError(f"{self._component} lacks {name}") from error

    def shape(self, name: str) -> tuple[int, ...]:
        return self[name].shape


@dataclass(frozen=True, slots=True)
class PlanWeight:
    """One weight of a plan and where its rows come from. See `packaging.source.Weight`.

    plan_name: component, dot, name.
    """

    plan_name: str
    weight: Weight
    recipe: Recipe
    sources: tuple[FileWeight, ...]

    @property
    def component(self) -> Component:
        prefix = self.plan_name.partition(".")[0]
        [component] = [component for component in COMPONENTS if component == prefix]
        return component

    @property
    def name(self) -> str:
        return self.plan_name.partition(".")[2]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    def rows(self, start: int, stop: int) -> Floats:
        """f32 [stop - start, columns] of the weight seen as a matrix; a vector is one row.

        Raises ModelFolderError when the folder's tensors do not make a weight of this shape.
        """
        if len(self.shape) == 1:
            return self._vector()[None][start:stop]
        columns = as_matrix(self.shape)[1]
        result = np.zeros((stop - start, columns), np.float32)
        for source, first, last, target in self._runs(start, stop):
            read = self.sources[source].rows(first, last)
            if read.shape[1] != columns:
                raise self._misfit()
            if self.recipe.taps_last:
                _, inputs, *taps = self.sources[source].shape
                read = read.reshape(-1, inputs, *taps).transpose(0, 2, 3, 1).reshape(read.shape)
            result[target : target + last - first] = read
        return result

    def _vector(self) -> Floats:
        if self.recipe.computed is not None:
            values = self.recipe.computed.reshape(-1)
        elif self.recipe.depthwise:
            [source] = self.sources
            values = source.rows(0, source.shape[0]).T.reshape(-1)
        else:
            values = np.concatenate([source.rows(0, 1)[0] for source in self.sources])
        missing = self.shape[0] - len(values)
        if missing < 0 or (missing and not self.recipe.rows):
            raise self._misfit()
        return np.pad(values, (0, missing))

    def _runs(self, start: int, stop: int) -> list[tuple[int, int, int, int]]:
        """(source, its first row, its last exclusive, row of the result) that cover the rows.

        Rows beyond all sources are left out: they are zeros.
        """
        lengths = [source.shape[0] for source in self.sources]
        if self.recipe.interleave:
            turn, count = self.recipe.interleave, len(lengths)
            pieces = [
                (number % count, number // count * turn, turn)
                for number in range(sum(lengths) // turn)
            ]
        else:
            pieces = [(number, 0, length) for number, length in enumerate(lengths)]
        rows = self.shape[0]
        total = sum(lengths)
        if total > rows or (total < rows and not self.recipe.rows):
            raise self._misfit()
        runs = []
        place = 0
        for source, first, length in pieces:
            low, high = max(place, start), min(place + length, stop)
            if low < high:
                runs.append((source, first + low - place, first + high - place, low - start))
            place += length
        return runs

    def _misfit(self) -> ModelFolderError:
        shapes = ", ".join(f"{source.name} {list(source.shape)}" for source in self.sources)
        return ModelFolderError(f"{shapes} make no {self.plan_name} {list(self.shape)}")


def stored_bytes(weight: PlanWeight) -> NDArray[np.uint8]:
    """A weight as a package stores it and a device binds it: values, or codes and scales.

    Raises ModelFolderError, also for numbers that the type cannot hold.
    """
    dtype = weight.weight.type
    layout = layout_of(dtype, weight.shape)
    data = np.zeros(layout.nbytes, np.uint8)
    step = max(1, _BLOCK_WEIGHTS // layout.columns)
    for start in range(0, layout.rows, step):
        try:
            block = encode(weight.rows(start, min(start + step, layout.rows)), dtype)
        except StorageError as error:
            raise ModelFolderError(f"{weight.plan_name}: {error}") from error
        places = (start * layout.row_bytes, (layout.scales or 0) + 2 * layout.groups * start)
        for place, part in zip(places, block, strict=True):
            data[place : place + len(part)] = np.frombuffer(part, np.uint8)
    return data
