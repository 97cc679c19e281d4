"""What every segment of a model's plan should give: a small run, written down for `/check`.

- Computed by the twins from the f32 plan of the folder, so it is the model that is judged and not a
  packing of it: whoever holds int8 sees how far int8 is off.
- Imports no torch: a site makes them.
- As small as a plan allows: a few tokens, a picture that is not square, the second of three steps.
- Segment by segment: who compares starts each from the reference before it, and errors do not add
  up. Token ids stand for the rows of the embedding, which are the packing's own.
- Not of the stage `band`: it is the kernels and weights of `decode` once more.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from diffusion.model_folder import ModelFolder
from diffusion.plan.compiler import Compiled, compile_folder
from diffusion.plan.schema import Segment, Stage
from diffusion.plan.transformer import time_waves
from diffusion.plan.twin_runner import TwinRun
from diffusion.schedule import read_schedule_config

FORMAT: Final = "p2pweb-references"

TOKENS: Final = 12  # spread over the vocabulary: any will do
STEPS: Final = 3
STEP: Final = 1
GUIDANCE: Final = 4.0
SEED: Final = 7

Array = NDArray[Any]


def references(folder: ModelFolder, model_id: str, notes: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file for the model in `folder`, f32 but for the token ids, which are u32.

    Tensors are `ids`; `STAGE/in/TENSOR` for what a host writes; `STAGE/SEGMENT/TENSOR` for states
    and outputs after that segment. What another stage gives, such as text_kv.0, stands there
    only. The metadata hold `format`, `model_id`, `symbols` (JSON: one set of sizes for all
    stages) and the notes.

    Raises ModelFolderError for a model that has no compiler.
    """
    compiled = compile_folder(folder, "f32")
    host = compiled.plan.host
    embedding = host["text_encoder"]["embedding"]
    last = compiled.plan.weights[embedding].shape[0] - 1
    ids = [last * number // TOKENS for number in range(TOKENS)]
    patch = folder.side_multiple // folder.vae_scale
    symbols = {"B": 2, "T": len(ids), "S": STEPS, "H": 2 * patch, "W": 3 * patch}
    shape = (folder.latent_channels, symbols["H"], symbols["W"])
    latent = np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)
    schedule = read_schedule_config(folder.path).schedule(STEPS)
    step = np.array([STEP], np.uint32)
    recording = _Recording(compiled, symbols)
    recording.tensors["ids"] = np.asarray(ids, np.uint32)

    rows = compiled.read_rows(embedding, ids)
    features = recording.run("encode", {"token_rows": rows})["features"]
    # As a host batches them: the negative text, which is empty here, then the prompt's
    text = np.zeros((2, *features.shape), np.float32)
    text[1] = features
    known = recording.run("prepare", {"text": text})
    waves = time_waves(schedule.times, host["transformer"]["time"])
    known |= recording.run("modulation", {"waves": waves})
    lengths = np.array([0, len(ids)], np.uint32)
    inputs = {"latent": latent, "step": step, "text_lengths": lengths}
    known |= recording.run("denoise", inputs, known)
    inputs = {
        "latent": latent,
        "strides": schedule.strides.astype(np.float32),
        "guidance": np.array([GUIDANCE], np.float32),
        "step": step,
    }
    recording.run("advance", inputs, known)
    recording.run("decode", {"latent": latent})
    metadata = {"format": FORMAT, "model_id": model_id, "symbols": json.dumps(symbols)}
    return save(recording.tensors, metadata | dict(notes or {}))


def written_by(stage: Stage, segment: Segment) -> Iterator[str]:
    """The states and outputs that a segment writes, numbers only: no packed pixels."""
    written = {
        binding.tensor
        for dispatch in segment.dispatches
        for binding in dispatch.bindings
        if binding is not None and binding.access == "write"
    }
    for name, tensor in stage.tensors.items():
        if name in written and tensor.role in ("state", "output") and tensor.type == "f32":
            yield name


class _Recording:
    """Runs stages on the twins and keeps what goes in and comes out."""

    def __init__(self, compiled: Compiled, symbols: Mapping[str, int]) -> None:
        self._compiled = compiled
        self._symbols = symbols
        self.tensors: dict[str, Array] = {}

    def run(
        self, name: str, inputs: Mapping[str, Array], known: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """What the stage's states and outputs hold at its end. known: from stages before."""
        plan = self._compiled.plan
        stage = plan.stages[name]
        results: dict[str, Array] = {}
        with closing(TwinRun(plan, self._compiled.read_weight, self._symbols)) as run:
            for tensor, described in stage.tensors.items():
                if tensor in inputs:
                    run.write(name, tensor, inputs[tensor])
                    if tensor != "token_rows":
                        self.tensors[f"{name}/in/{tensor}"] = inputs[tensor]
                elif described.role == "input":
                    run.write(name, tensor, (known or {})[tensor])
            for segment in stage.segments:
                run.run(name, [segment.name])
                for tensor in written_by(stage, segment):
                    results[tensor] = run.read(name, tensor)
                    self.tensors[f"{name}/{segment.name}/{tensor}"] = results[tensor]
        return results
