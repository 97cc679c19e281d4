"""The manifest of a package: what it holds and where. The SHA-256 of its bytes is the package's id.

A manifest may come from anywhere, so `read_manifest` takes nothing for granted: sizes are bounded,
every piece lies inside its shard, every tensor has the bytes that its type and shape need.
docs/packages.md describes the JSON.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from diffusion.packaging.shards import MAX_SHARD_BYTES, Piece, Shard
from diffusion.packaging.source import COMPONENTS, Component
from diffusion.packaging.storage import (
    ALIGNMENT,
    DTYPES,
    GROUP,
    DType,
    Layout,
    as_matrix,
    layout_of,
)

FORMAT: Final = "p2pweb-package"
VERSION: Final = 1
FILE_NAME: Final = "manifest.json"

MAX_MANIFEST_BYTES: Final = 16 * 2**20
_MAX_ENTRIES: Final = 2**16  # tensors, shards (1 TiB), files, pieces of one tensor
_MAX_AXES: Final = 8
_MAX_TENSOR_BYTES: Final = 2**36

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class ManifestError(ValueError):
    """Not a manifest that may be used; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A stored weight: its pieces one after the other are the bytes that `storage` describes."""

    dtype: DType
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def layout(self) -> Layout:
        return layout_of(self.dtype, self.shape)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One package. Tensors are keyed by component/name, files by their path in a model folder."""

    model_id: str
    dtypes: Mapping[Component, DType]
    shards: tuple[Shard, ...]
    tensors: Mapping[str, Tensor]
    files: Mapping[str, tuple[Piece, ...]]
    configs: Mapping[str, Mapping[str, Any]] = field(repr=False)
    about: Mapping[str, Any] = field(repr=False)
    preview: Mapping[str, Any] | None = field(default=None, repr=False)
    plan: str | None = None  # a name in `files`
    wgsl: Mapping[str, str] = field(default_factory=dict)  # file name to SHA-256

    @property
    def variant(self) -> str:
        return variant_name(self.dtypes)

    @property
    def nbytes(self) -> int:
        """Of all different shards: what has to be fetched."""
        return sum(shard.nbytes for shard in set(self.shards))

    def nbytes_of(self, part: Component | Literal["files"]) -> int:
        """Of the shards that hold the weights of a component, or the files: what a worker fetches
        that needs no more than them."""
        if part == "files":
            pieces = [piece for pieces in self.files.values() for piece in pieces]
        else:
            tensors = [t for name, t in self.tensors.items() if name.partition("/")[0] == part]
            pieces = [piece for tensor in tensors for piece in tensor.pieces]
        return sum(shard.nbytes for shard in {self.shards[piece.shard] for piece in pieces})


def variant_name(dtypes: Mapping[Component, DType]) -> str:
    """Such as `int8`, or `int4-f16-f16` for text encoder, transformer and VAE."""
    all_of_them = [dtypes[component] for component in COMPONENTS]
    return all_of_them[0] if len(set(all_of_them)) == 1 else "-".join(all_of_them)


def dtypes_of(variant: str) -> dict[Component, DType]:
    """The opposite of `variant_name`. Raises ManifestError for anything else."""
    parts = variant.split("-")
    if len(parts) == 1:
        parts = parts * len(COMPONENTS)
    dtypes = cast(dict[Component, DType], dict(zip(COMPONENTS, parts, strict=False)))
    known = len(parts) == len(COMPONENTS) and all(part in DTYPES for part in parts)
    if not known or variant_name(dtypes) != variant:
        raise ManifestError(f"there is no variant {variant!r}")
    return dtypes


def package_id(manifest: bytes) -> str:
    """Names a package and, through the hashes inside, every byte of it."""
    return hashlib.sha256(manifest).hexdigest()


def write_manifest(manifest: Manifest) -> bytes:
    """The JSON, the same bytes for the same manifest."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "model_id": manifest.model_id,
        "variant": manifest.variant,
        "dtypes": dict(manifest.dtypes),
        "about": manifest.about,
        "configs": manifest.configs,
        "preview": manifest.preview,
        "plan": manifest.plan,
        "wgsl": dict(manifest.wgsl),
        "files": {
            name: {"bytes": sum(p.nbytes for p in pieces), "pieces": _pieces_json(pieces)}
            for name, pieces in manifest.files.items()
        },
        "tensors": {name: _tensor_json(tensor) for name, tensor in manifest.tensors.items()},
        "shards": [{"sha256": shard.sha256, "bytes": shard.nbytes} for shard in manifest.shards],
    }
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode() + b"\n"


def read_manifest(data: bytes) -> Manifest:
    """Raises ManifestError unless `data` is a whole and consistent manifest of this version."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{len(data)} bytes, at most {MAX_MANIFEST_BYTES} are read")
    try:
        document = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON ({error})") from error
    top = _object(document, "the manifest")
    if top.get("format") != FORMAT or _whole(top.get("version"), "version") != VERSION:
        raise ManifestError(f"not {FORMAT} version {VERSION}")
    dtypes = dtypes_of(_text(top.get("variant"), "variant"))
    if top.get("dtypes") != dtypes:
        raise ManifestError("dtypes and variant differ")
    shards = tuple(
        _shard(entry, f"shard {number}")
        for number, entry in enumerate(_list(top.get("shards"), "shards"))
    )
    files = {
        name: _pieces(_object(entry, name), name, shards)
        for name, entry in _table(top.get("files"), "files").items()
    }
    tensors = {
        name: _tensor(_object(entry, name), name, shards)
        for name, entry in _table(top.get("tensors"), "tensors").items()
    }
    if any(name.partition("/")[0] not in COMPONENTS for name in tensors):
        raise ManifestError(f"a tensor of none of {', '.join(COMPONENTS)}")
    plan = top.get("plan")
    if plan is not None and _text(plan, "plan") not in files:
        raise ManifestError("the plan is not among the files")
    preview = top.get("preview")
    wgsl = _table(top.get("wgsl"), "wgsl")
    return Manifest(
        model_id=_hash(top.get("model_id"), "model_id"),
        dtypes=dtypes,
        shards=shards,
        tensors=tensors,
        files=files,
        configs={
            name: _object(config, name)
            for name, config in _table(top.get("configs"), "configs").items()
        },
        about=_object(top.get("about"), "about"),
        preview=None if preview is None else _object(preview, "preview"),
        plan=plan,
        wgsl={name: _hash(value, name) for name, value in wgsl.items()},
    )


def _tensor_json(tensor: Tensor) -> dict[str, Any]:
    layout = tensor.layout
    grouped = {} if layout.scales is None else {"group": GROUP, "scales": layout.scales}
    return {
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "bytes": layout.nbytes,
        **grouped,
        "pieces": _pieces_json(tensor.pieces),
    }


def _pieces_json(pieces: tuple[Piece, ...]) -> list[list[int]]:
    return [[piece.shard, piece.offset, piece.nbytes] for piece in pieces]


def _shard(entry: object, where: str) -> Shard:
    fields = _object(entry, where)
    shard = Shard(_hash(fields.get("sha256"), where), _whole(fields.get("bytes"), where))
    if not 0 < shard.nbytes <= MAX_SHARD_BYTES:
        raise ManifestError(f"{where} has {shard.nbytes} bytes")
    return shard


def _tensor(fields: dict[str, Any], where: str, shards: tuple[Shard, ...]) -> Tensor:
    dtype = fields.get("dtype")
    if dtype not in DTYPES:
        raise ManifestError(f"{where} has the type {dtype!r}")
    shape = tuple(_whole(side, where) for side in _list(fields.get("shape"), where))
    if len(shape) > _MAX_AXES or min(shape, default=1) < 1:
        raise ManifestError(f"{where} has the shape {list(shape)}")
    tensor = Tensor(dtype, shape, _pieces(fields, where, shards))
    layout = tensor.layout
    if layout.nbytes > _MAX_TENSOR_BYTES or fields.get("bytes") != layout.nbytes:
        raise ManifestError(f"{where} does not have the bytes of {as_matrix(shape)} in {dtype}")
    if layout.scales is not None and (fields.get("group"), fields.get("scales")) != (
        GROUP,
        layout.scales,
    ):
        raise ManifestError(f"{where} has other groups or scales than version {VERSION} puts")
    if any(piece.offset % ALIGNMENT for piece in tensor.pieces):
        raise ManifestError(f"{where} does not start at a multiple of {ALIGNMENT}")
    return tensor


def _pieces(fields: dict[str, Any], where: str, shards: tuple[Shard, ...]) -> tuple[Piece, ...]:
    pieces = []
    for entry in _list(fields.get("pieces"), where):
        numbers = [_whole(number, where) for number in _list(entry, where)]
        if len(numbers) != 3:
            raise ManifestError(f"{where}: a piece is shard, offset, bytes")
        piece = Piece(*numbers)
        if (
            not piece.nbytes
            or piece.shard >= len(shards)
            or piece.offset + piece.nbytes > shards[piece.shard].nbytes
        ):
            raise ManifestError(f"{where}: a piece lies outside of its shard")
        pieces.append(piece)
    if fields.get("bytes") != sum(piece.nbytes for piece in pieces):
        raise ManifestError(f"{where}: its pieces do not have its bytes")
    return tuple(pieces)


def _table(value: object, where: str) -> dict[str, Any]:
    table = _object(value, where)
    if len(table) > _MAX_ENTRIES:
        raise ManifestError(f"{where} has {len(table)} entries")
    for name in table:
        if len(name) > 200 or not _NAME.fullmatch(name):
            raise ManifestError(f"{where}: {name[:200]!r} is no name")
    return table


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{where} is no object")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
        raise ManifestError(f"{where} is no list, or too long a one")
    return value


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ManifestError(f"{where}: {value!r} is no whole number")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ManifestError(f"{where} is no text")
    return value


def _hash(value: object, where: str) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ManifestError(f"{where}: {value!r} is no SHA-256")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
