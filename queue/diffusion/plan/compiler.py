"""From a model folder to its plan and the weights that go with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diffusion.model_folder import (
    ModelFolder,
    ModelFolderError,
    read_json,
    read_vae_config,
)
from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.source import COMPONENTS, Component, folder_weights
from diffusion.packaging.storage import decode, store
from diffusion.plan import dcae, decoder, text_encoder, transformer
from diffusion.plan.builder import PlanBuilder
from diffusion.plan.schema import Plan, Symbol
from diffusion.plan.weights import NUMPY_TYPES, FolderTensors, PlanWeight, stored_bytes

_Decoder = type[decoder.DecoderCompiler] | type[dcae.DeepCompressionCompiler]
_DECODERS: Final[Mapping[str, _Decoder]] = {
    "AutoencoderKL": decoder.DecoderCompiler,
    "AutoencoderDC": dcae.DeepCompressionCompiler,
}
_MAX_STEPS: Final = 100
_MAX_TOKENS: Final = 4096
_MAX_SIDE: Final = 2048  # pixels


@dataclass(frozen=True)
class Compiled:
    """A plan and its weights, which are read from the folder when they are asked for."""

    plan: Plan
    weights: Mapping[str, PlanWeight]

    def read_weight(self, name: str) -> NDArray[np.uint8]:
        """The bytes of one weight, as a package stores them and a device binds them, read now.

        Raises ModelFolderError where the folder's tensors are not what the plan needs.
        """
        return stored_bytes(self.weights[name])

    def read_rows(self, name: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Some rows of a weight that the host keeps, of its `row_type`. Raises as read_weight."""
        weight = self.weights[name]
        rows = [weight.rows(number, number + 1) for number in numbers]
        joined = np.concatenate([np.empty((0, *weight.shape[1:]), np.float32), *rows])
        dtype = weight.weight.type
        kept = decode(store(joined, dtype), dtype, joined.shape)
        return kept.astype(NUMPY_TYPES[weight.weight.row_type])


def compile_folder(folder: ModelFolder, variant: str) -> Compiled:
    """Compile all of a PRX folder; variant: how weights are stored, such as `int4-f16-f16`.

    Reads configurations and the heads of weight files. Raises ModelFolderError for parts that have
    no compiler, ManifestError for an unknown variant.
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
    vae = read_vae_config(folder.path)["_class_name"]
    dtypes = dtypes_of(variant)
    builder = PlanBuilder(symbols, "f32")
    stored = folder_weights(folder.path)
    parts: dict[str, FolderTensors] = {
        component: FolderTensors(component, stored) for component in COMPONENTS
    }
    host: dict[str, Any] = {}
    component: Component
    for component, compiler in (
        (text_encoder.COMPONENT, text_encoder.TextEncoderCompiler),
        (transformer.COMPONENT, transformer.TransformerCompiler),
        (decoder.COMPONENT, _DECODERS[vae]),
    ):
        builder.matrix_type = dtypes[component]
        host[component] = compiler(folder.path, parts[component], builder).compile()
    plan = builder.finish(host)
    weights = {}
    for name, recipe in builder.recipes.items():
        sources = tuple(parts[recipe.component][source] for source in recipe.sources)
        weights[name] = PlanWeight(name, plan.weights[name], recipe, sources)
    return Compiled(plan, weights)
