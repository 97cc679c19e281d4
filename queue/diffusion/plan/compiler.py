"""From a model folder to its plan and the weights that go with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from numpy.typing import NDArray

from diffusion.model_folder import ModelFolder, ModelFolderError, read_json
from diffusion.plan import decoder, text_encoder, transformer
from diffusion.plan.builder import PlanBuilder, Recipe
from diffusion.plan.schema import Plan, Symbol
from diffusion.plan.weights import NUMPY_TYPES, FolderTensors, make_weight

MatrixType = Literal["f32", "f16"]

_MAX_STEPS: Final = 100
_MAX_TOKENS: Final = 4096
_MAX_SIDE: Final = 2048  # pixels


@dataclass(frozen=True)
class Compiled:
    """A plan, how each of its weights is made, and the tensors to make them from."""

    plan: Plan
    recipes: Mapping[str, Recipe]
    parts: Mapping[str, FolderTensors]

    def read_weight(self, name: str) -> NDArray[Any]:
        """The values of one weight, of the plan's shape and type, read now.

        Raises ModelFolderError where the folder's tensors are not what the plan needs.
        """
        return make_weight(self.plan.weights[name], self.recipes[name], self.parts)

    def read_rows(self, name: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Some rows of a weight that the host keeps, of the plan's type. Raises as read_weight."""
        recipe = self.recipes[name]
        rows = self.parts[recipe.component].rows(recipe.sources[0], numbers)
        return rows.astype(NUMPY_TYPES[self.plan.weights[name].type])


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
    parts = {
        text_encoder.COMPONENT: FolderTensors(folder.path / "text_encoder", "model"),
        transformer.COMPONENT: FolderTensors(
            folder.path / "transformer", "diffusion_pytorch_model"
        ),
        decoder.COMPONENT: FolderTensors(folder.path / "vae", "diffusion_pytorch_model"),
    }
    host = {
        name: compiler(folder.path, parts[name], builder).compile()
        for name, compiler in (
            (text_encoder.COMPONENT, text_encoder.TextEncoderCompiler),
            (transformer.COMPONENT, transformer.TransformerCompiler),
            (decoder.COMPONENT, decoder.DecoderCompiler),
        )
    }
    return Compiled(builder.finish(host), builder.recipes, parts)
