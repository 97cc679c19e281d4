"""A model folder of a PRX's exact shapes with random weights, for machines without diffusers.

`describe` needs diffusers: configurations, and names and shapes of all weights, as JSON.
`write_folder` makes the folder of it with torch alone, a few MB at a time: on a GPU where there is
one. Its tokenizer has as many tokens as the model has embeddings, at random places among them.
"""

import json
import math
import random
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer

from diffusion import byte_bpe
from diffusion.packaging.source import STEMS
from diffusion.random_model import EMOJI_SHAPE, Shape, write_random_model

KINDS: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHAPES: Final = {"tiny": Shape(), "prx-emoji": EMOJI_SHAPE}
MODELS: Final = ("prx-1024", *SHAPES)
TEXTS: Final = (
    "a red apple on a white background",
    "a big cat left of a small dog on a green background under a full moon",
    "an oil painting of an old harbour with fishing boats in the morning mist",
)
_LEARNED: Final = 600  # tokens, besides the bytes, that come from TEXTS
_LONG: Final = 12  # letters of a token that grows no further
_BLOCK: Final = 2**26  # numbers made at a time


def describe(model: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / model
        if model in SHAPES:
            write_random_model(folder, SHAPES[model])
        else:
            from tests.diffusion.plan.hollow import write_hollow_prx

            write_hollow_prx(folder)
        files = {
            str(path.relative_to(folder)): json.loads(path.read_text())
            for path in sorted(folder.rglob("*.json"))
            if path.name != "tokenizer.json" and "safetensors" not in path.name
        }
        weights = {component: _shapes(folder / component) for component in STEMS}
    # A class that adds nothing to tokenizer.json
    files["tokenizer/tokenizer_config.json"] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": files["tokenizer/tokenizer_config.json"]["model_max_length"],
    }
    return {"model": model, "files": files, "weights": weights}


def write_folder(path: Path, description: Mapping[str, Any], kind: str, seed: int = 0) -> int:
    """Write the folder at `path`; how many bytes its weights have. kind: of KINDS."""
    for name, value in description["files"].items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    [[rows, _]] = [
        shape
        for name, shape in description["weights"]["text_encoder"].items()
        if name.endswith("embed_tokens.weight")
    ]
    tokenizer(rows, seed).save(str(path / "tokenizer" / "tokenizer.json"))
    generator = torch.Generator("cuda" if torch.cuda.is_available() else "cpu").manual_seed(seed)
    written = 0
    for component, stem in STEMS.items():
        shapes = description["weights"][component]
        file = path / component / f"{stem}.safetensors"
        written += _write(file, component, shapes, kind, generator)
    return written


def tokenizer(vocabulary: int, seed: int) -> Tokenizer:
    """Words of TEXTS, and merges of what there is until there are so many tokens."""
    learned = byte_bpe.train(TEXTS, min(vocabulary, 260 + _LEARNED))
    document = json.loads(learned.to_str())
    vocab, merges = document["model"]["vocab"], document["model"]["merges"]
    dice = random.Random(seed)
    ends = [token for token in vocab if not token.startswith("<") and byte_bpe.SPACE not in token]
    starts = list(ends)
    while len(vocab) < vocabulary:
        pair = [dice.choice(starts), dice.choice(ends)]
        joined = "".join(pair)
        if joined not in vocab:
            vocab[joined] = len(vocab)
            merges.append(pair)
            if len(joined) < _LONG:
                starts.append(joined)
    first = 260  # what is special, and the bytes, stay where they are
    places = list(range(first, len(vocab)))
    dice.shuffle(places)
    for token, number in vocab.items():
        if number >= first:
            vocab[token] = places[number - first]
    return Tokenizer.from_str(json.dumps(document))


def _shapes(folder: Path) -> dict[str, list[int]]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        header.pop("__metadata__", None)
        found |= {name: entry["shape"] for name, entry in header.items()}
    return found


def _write(
    path: Path,
    component: str,
    shapes: Mapping[str, Sequence[int]],
    kind: str,
    generator: torch.Generator,
) -> int:
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * KINDS[kind].itemsize
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            centre, spread = _spread(component, name, shape)
            for block in _normal(math.prod(shape), generator):
                stored = (centre + spread * block).to(KINDS[kind]).cpu()
                file.write(stored.view(torch.uint8).numpy().data)
    return end


def _normal(count: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        yield torch.randn(size, generator=generator, device=generator.device)


def _spread(component: str, name: str, shape: Sequence[int]) -> tuple[float, float]:
    """Mean and deviation, by which numbers stay near 1 on their way. No modulation is zero."""
    if len(shape) > 1:
        return 0.0, math.prod(shape[1:]) ** -0.5
    if component == "transformer":
        around_one = name.endswith(("norm_q.weight", "norm_k.weight", "added_k.weight"))
        return float(around_one), 0.3 if "modulation" in name else 0.1
    around_one = component == "vae" and "norm" in name and name.endswith("weight")
    return float(around_one), 0.1
