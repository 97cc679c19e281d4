"""Reads a package in a folder: tensors, files, every shard checked before its use."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.packaging.manifest import FILE_NAME, ManifestError, package_id, read_manifest
from diffusion.packaging.shards import Piece
from diffusion.packaging.storage import Floats, decode, join, layout_of

_KEPT_SHARDS: Final = 4  # in memory


class PackageError(ValueError):
    """A package that is not whole; the message says which file is to blame."""


class Package:
    """One package. Raises PackageError, here or later, for files that are missing or differ."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            data = (path / FILE_NAME).read_bytes()
            self.manifest = read_manifest(data)
        except (OSError, ManifestError) as error:
            raise PackageError(f"{FILE_NAME}: {error}") from error
        self.package_id = package_id(data)
        self._shards: OrderedDict[int, bytes] = OrderedDict()

    def tensor(self, name: str) -> Floats:
        """The weight component/name as f32, in its own shape. Raises KeyError for no such name."""
        tensor = self.manifest.tensors[name]
        return decode(self.stored(name), tensor.dtype, tensor.shape)

    def stored(self, name: str) -> bytes:
        """The same weight as it lies in the package. Raises KeyError for no such name."""
        return self._join(self.manifest.tensors[name].pieces)

    def rows(self, name: str, numbers: Sequence[int]) -> Floats:
        """f32 [n, columns]: some rows of that weight, read from where they lie.

        Raises KeyError for no such name, IndexError for no such row.
        """
        tensor = self.manifest.tensors[name]
        layout = tensor.layout
        if not all(0 <= number < layout.rows for number in numbers):
            raise IndexError(f"{name} has {layout.rows} rows")
        one = layout_of(tensor.dtype, (1, layout.columns))
        found: dict[int, Floats] = {}
        for number in sorted(set(numbers)):  # each shard once
            values = self._part(tensor.pieces, number * layout.row_bytes, layout.row_bytes)
            scales = b""
            if layout.scales is not None:
                first = layout.scales + 2 * layout.groups * number
                scales = self._part(tensor.pieces, first, 2 * layout.groups)
            found[number] = decode(join(one, values, scales), tensor.dtype, (1, layout.columns))
        nothing = np.empty((0, layout.columns), np.float32)
        return np.concatenate([nothing, *(found[number] for number in numbers)])

    def file(self, name: str) -> bytes:
        """Such as `tokenizer/tokenizer.json`. Raises KeyError for no such name."""
        return self._join(self.manifest.files[name])

    def unpack_folder(self, folder: Path) -> ModelFolder:
        """Write configurations, tokenizer and what the model says of itself as a model folder.

        It has no weights. Raises ModelFolderError where they are none of a PRX pipeline.
        """
        notes = {"p2pweb.json": self.manifest.about, "preview.json": self.manifest.preview}
        texts = {name: json.dumps(value).encode() for name, value in notes.items() if value}
        texts |= {name: json.dumps(value).encode() for name, value in self.manifest.configs.items()}
        texts |= {name: self.file(name) for name in self.manifest.files}
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text)
        return read_model_folder(folder)

    def _part(self, pieces: tuple[Piece, ...], start: int, count: int) -> bytes:
        """`count` bytes of what the pieces make, from `start` on."""
        parts = []
        place = 0
        for piece in pieces:
            low, high = max(start, place), min(start + count, place + piece.nbytes)
            if low < high:
                shard = memoryview(self._shard(piece.shard))
                parts.append(shard[piece.offset + low - place : piece.offset + high - place])
            place += piece.nbytes
        return b"".join(parts)

    def _join(self, pieces: tuple[Piece, ...]) -> bytes:
        return b"".join(
            memoryview(self._shard(piece.shard))[piece.offset : piece.offset + piece.nbytes]
            for piece in pieces
        )

    def _shard(self, number: int) -> bytes:
        if number not in self._shards:
            shard = self.manifest.shards[number]
            try:
                data = (self.path / shard.file_name).read_bytes()
            except OSError as error:
                raise PackageError(f"{shard.file_name}: {error.strerror}") from error
            if hashlib.sha256(data).hexdigest() != shard.sha256:
                raise PackageError(f"{shard.file_name} is damaged")
            self._shards[number] = data
            if len(self._shards) > _KEPT_SHARDS:
                self._shards.popitem(last=False)
        return self._shards[number]
