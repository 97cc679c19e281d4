"""Reads a package in a folder: tensors back in f32, files, every shard checked before its use."""

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Final

from diffusion.packaging.manifest import FILE_NAME, ManifestError, package_id, read_manifest
from diffusion.packaging.shards import Piece
from diffusion.packaging.storage import Floats, decode

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
        return decode(self._join(tensor.pieces), tensor.dtype, tensor.shape)

    def file(self, name: str) -> bytes:
        """Such as `tokenizer/tokenizer.json`. Raises KeyError for no such name."""
        return self._join(self.manifest.files[name])

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
