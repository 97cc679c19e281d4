"""The weights of a diffusers folder, read a few rows at a time, and the name of what they are.

- `folder_weights`: what making a picture needs, in the order of a package: no VAE encoder, no
  decoder of the text model
- `model_id`: SHA-256 of those weights and of whatever else decides on the picture

Reads the safetensors format itself: the library maps whole files, whose pages then count as this
process's memory, and knows no bfloat16 without torch.
"""

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

import numpy as np

from diffusion.model_folder import ModelFolderError, read_json, weight_files
from diffusion.packaging.storage import Floats, as_matrix

Component = Literal["text_encoder", "transformer", "vae"]
COMPONENTS: Final[tuple[Component, ...]] = get_args(Component)
STEMS: Final[Mapping[Component, str]] = {
    "text_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
CONFIGS: Final = (
    "model_index.json",
    "text_encoder/config.json",
    "transformer/config.json",
    "vae/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
)
TOKENIZER: Final = "tokenizer/tokenizer.json"

_ITEM_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}
_LONGEST_HEADER: Final = 100 * 2**20  # as the safetensors library
_READ_BYTES: Final = 4 * 2**20

Report = Callable[[int], None]  # bytes read since the last call


class Weight(Protocol):
    """A tensor that a package shall hold. Rows may be read from several threads."""

    @property
    def component(self) -> Component: ...
    @property
    def name(self) -> str:
        """Unique in its component."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def rows(self, start: int, stop: int) -> Floats:
        """[stop - start, columns] of the tensor seen as a matrix (`storage.as_matrix`)."""


@dataclass(frozen=True, slots=True)
class FileWeight:
    """A tensor in a safetensors file, which is open only while rows are read."""

    component: Component
    name: str
    shape: tuple[int, ...]
    kind: str  # "F32", "F16" or "BF16"
    path: Path
    offset: int  # from the start of the file

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES[self.kind]

    def rows(self, start: int, stop: int) -> Floats:
        """Raises ModelFolderError when the file cannot be read (any more)."""
        row = as_matrix(self.shape)[1] * _ITEM_BYTES[self.kind]
        data = self._read(start * row, (stop - start) * row)
        return _as_f32(data, self.kind).reshape(stop - start, -1)

    def raw(self) -> Iterator[bytes]:
        """The bytes as they lie in the file, in pieces of a few MB."""
        for start in range(0, self.nbytes, _READ_BYTES):
            yield self._read(start, min(_READ_BYTES, self.nbytes - start))

    def _read(self, start: int, count: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                data = os.pread(file.fileno(), count, self.offset + start)
        except OSError as error:
            raise ModelFolderError(f"{_where(self.path)}: {error.strerror}") from error
        if len(data) != count:
            raise ModelFolderError(f"{_where(self.path)} has become shorter")
        return data


def folder_weights(folder: Path) -> list[FileWeight]:
    """Text encoder, transformer and VAE decoder, each by name with numbers in their order.

    Raises ModelFolderError for weights that are missing, broken, or of a type other than f32, f16
    and bf16.
    """
    return [weight for component in COMPONENTS for weight in _component(folder, component)]


def model_id(folder: Path, report: Report = lambda count: None) -> str:
    """64 hex digits naming whatever decides on the pictures of this folder.

    The same for every packing, and however the folder cuts its weights into files. Notes of the
    libraries in the configs (keys that start with "_" other than the class) do not count.
    """
    digest = hashlib.sha256()
    for name in CONFIGS:
        config = {
            key: value
            for key, value in read_json(folder / name).items()
            if key == "_class_name" or not key.startswith("_")
        }
        digest.update(_line(name, config))
    tokenizer = read_bytes(folder / TOKENIZER)
    digest.update(_line(TOKENIZER, hashlib.sha256(tokenizer).hexdigest()))
    for weight in folder_weights(folder):
        digest.update(_line(f"{weight.component}/{weight.name}", [weight.kind, *weight.shape]))
        for piece in weight.raw():
            digest.update(piece)
            report(len(piece))
    return digest.hexdigest()


def read_bytes(path: Path) -> bytes:
    """The whole file. Raises ModelFolderError, naming it from its folder on."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFolderError(f"{_where(path)}: {error.strerror}") from error


def _component(folder: Path, component: Component) -> list[FileWeight]:
    files = weight_files(folder / component, STEMS[component])
    found = [weight for path in files for weight in _weights(path, component)]
    match component:
        case "vae":
            kept = [w for w in found if w.name.startswith(("decoder.", "post_quant_conv."))]
        case "text_encoder":
            # Saved alone, names start at the encoder; with a decoder, below "model.encoder."
            whole = any(w.name.startswith("model.encoder.") for w in found)
            prefix = "model.encoder." if whole else ""
            kept = [
                replace(w, name=w.name.removeprefix(prefix))
                for w in found
                if w.name.startswith(prefix) and "decoder." not in w.name
            ]
        case "transformer":
            kept = found
    if not kept:
        raise ModelFolderError(f"{component} has no weights")
    for weight in kept:
        if weight.kind not in _ITEM_BYTES:
            raise ModelFolderError(f"{component}: {weight.name} has the type {weight.kind}")
    if len({weight.name for weight in kept}) < len(kept):
        raise ModelFolderError(f"{component}: two files hold the same weight")
    return sorted(kept, key=lambda weight: _by_number(weight.name))


def _weights(path: Path, component: Component) -> list[FileWeight]:
    """All tensors of one safetensors file. Their bytes lie inside the file and fit their shape."""
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            if length > _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
            size = os.fstat(file.fileno()).st_size
        header.pop("__metadata__", None)
        return [
            _weight(name, entry, component, path, 8 + length, size)
            for name, entry in header.items()
        ]
    except OSError as error:
        raise ModelFolderError(f"{_where(path)}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
        raise ModelFolderError(f"{_where(path)}: no whole safetensors file ({error})") from error


def _weight(
    name: str, entry: Any, component: Component, path: Path, base: int, size: int
) -> FileWeight:
    shape = tuple(int(side) for side in entry["shape"])
    start, end = (base + int(offset) for offset in entry["data_offsets"])
    weight = FileWeight(component, name, shape, str(entry["dtype"]), path, start)
    fits = weight.kind not in _ITEM_BYTES or end - start == weight.nbytes
    if not fits or min(shape, default=1) < 1 or not base <= start <= end <= size:
        raise ValueError(f"{name} {list(shape)} does not fit its bytes or the file")
    return weight


def _as_f32(data: bytes, kind: str) -> Floats:
    match kind:
        case "F32":
            return np.frombuffer(data, "<f4").astype(np.float32)
        case "F16":
            return np.frombuffer(data, "<f2").astype(np.float32)
        case _:  # BF16: the upper half of an f32
            return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts blocks.2 before blocks.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _line(name: str, value: object) -> bytes:
    text = json.dumps([name, value], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def _where(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
