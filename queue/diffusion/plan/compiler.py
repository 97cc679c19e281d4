"""From a model folder to its plan and the weights that go with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from diffusion.model_folder import ModelFolder, ModelFolderError, read_json
from diffusion.packaging.source import COMPONENTS, folder_weights
from diffusion.plan import decoder, text_encoder, transformer
from diffusion.plan.builder import PlanBuilder
from diffusion.plan.schema import Plan, Symbol
from diffusion.plan.weights import NUMPY_TYPES, FolderTensors, PlanWeight, values_of

MatrixType = Literal["f32", "f16"]

_MAX_STEPS: Final = 100
_MAX_TOKENS: Final = 4096
_MAX_SIDE: Final = 2048  # pixels


@dataclass(frozen=True)
class Compiled:
    """A plan and its weights, which are read from the folder when they are asked for."""

    plan: Plan
    weights: Mapping[str, PlanWeight]

    def read_weight(self, name: str) -> NDArray[Any]:
        """The values of one weight, of the plan's shape and type, read now.

        Raises ModelFolderError where the folder's tensors are not what the plan needs.
        """
        return values_of(self.weights[name])

    def read_rows(self, name: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Some rows of a weight that the host keeps, of the plan's type. Raises as read_weight."""
        weight = self.weights[name]
        rows = [weight.rows(number, number + 1) for number in numbers]
        joined = np.concatenate([np.empty((0, *weight.shape[1:]), np.float32), *rows])
        return joined.astype(NUMPY_TYPES[weight.weight.type])


def compile_folder(folder: ModelFolder, matrix_type: MatrixType) -> Compiled:
    """Compile all of a PRX folder; matrix_type: how its matrices are stored.

    Reads configurations and the heads of weight files. Raises ModelFolderError for parts that have
    no compiler.
    """
    tokenizer = read_json(folder.path / "tokenizer" / "tokenizer_config.json")
    tokens = int(tokenizer.get("model_max_length", _MAX_TOKENS + 1))
    if tokens > _MAX_TOKENS:
        raise ModelFolderError("tokenizer/tokenizer_config.json: no model_max_length")
    cell = folder.side_multiple // folder.vae_scale  # the patch
    largest = min(folder.max_side, _MAX_SIDE) // folder.vae_scale
    side = Symbol(smallest=cell, largest=largest // cell * cell, multiple=cell)
    symbols = {
        "B": Symbol(smallest=1, largest=2),
        "T": Symbol(smallest=0, largest=tokens),
        "S": Symbol(smallest=1, largest=_MAX_STEPS),
        "H": side,
        "W": side,
        "L": Symbol(value=f"(H // {cell}) * (W // {cell})"),
    }
    builder = PlanBuilder(symbols, matrix_type)
    stored = folder_weights(folder.path)
    parts: dict[str, FolderTensors] = {
        component: FolderTensors(component, stored) for component in COMPONENTS
    }
    host = {
        name: compiler(folder.path, parts[name], builder).compile()
        for name, compiler in (
            (text_encoder.COMPONENT, text_encoder.TextEncoderCompiler),
            (transformer.COMPONENT, transformer.TransformerCompiler),
            (decoder.COMPONENT, decoder.DecoderCompiler),
        )
    }
    plan = builder.finish(host)
    weights = {}
    for name, recipe in builder.recipes.items():
        sources = tuple(parts[recipe.component][source] for source in recipe.sources)
        weights[name] = PlanWeight(name, plan.weights[name], recipe, sources)
    return Compiled(plan, weights)
