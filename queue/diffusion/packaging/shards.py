"""Bytes into files of at most 16 MiB, each named by the SHA-256 of what it holds.

What is written lies in one or more pieces; a piece begins where the one before ended, or at the
start of the next shard. The first piece starts at a multiple of 256, and shards are cut at one, so
a piece can be a binding of its own on a GPU.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from diffusion.packaging.storage import ALIGNMENT, round_up

MAX_SHARD_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Shard:
    sha256: str
    nbytes: int

    @property
    def file_name(self) -> str:
        return f"{self.sha256}.bin"


@dataclass(frozen=True, slots=True)
class Piece:
    shard: int  # its number in the manifest
    offset: int
    nbytes: int


class ShardWriter:
    """Fills a folder with shards. `close` writes the last one."""

    def __init__(self, folder: Path, max_bytes: int = MAX_SHARD_BYTES) -> None:
        if not 0 < max_bytes <= MAX_SHARD_BYTES or max_bytes % ALIGNMENT:
            raise ValueError(f"shards have up to {MAX_SHARD_BYTES} bytes, a multiple of 256")
        self.shards: list[Shard] = []
        self._folder = folder
        self._max_bytes = max_bytes
        self._open = bytearray()
        self._pieces: list[Piece] = []

    def start(self) -> None:
        """The next bytes begin something new, at a multiple of 256."""
        self._open.extend(bytes(round_up(len(self._open), ALIGNMENT) - len(self._open)))
        self._pieces = []

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if len(self._open) == self._max_bytes:
                self.cut()
            taken = rest[: self._max_bytes - len(self._open)]
            self._note(len(taken))
            self._open += taken
            rest = rest[len(taken) :]

    def finish(self) -> tuple[Piece, ...]:
        """Where all lies that was written since `start`."""
        return tuple(self._pieces)

    def cut(self) -> None:
        """What follows goes into another shard, so that this one does not depend on it."""
        if not self._open:
            return
        shard = Shard(hashlib.sha256(self._open).hexdigest(), len(self._open))
        (self._folder / shard.file_name).write_bytes(self._open)
        self.shards.append(shard)
        self._open = bytearray()

    close = cut

    def _note(self, nbytes: int) -> None:
        number, offset = len(self.shards), len(self._open)
        last = self._pieces[-1] if self._pieces else None
        if last is not None and last.shard == number:
            self._pieces[-1] = Piece(number, last.offset, last.nbytes + nbytes)
        else:
            self._pieces.append(Piece(number, offset, nbytes))
