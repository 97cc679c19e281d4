"""A zip of pictures, sent while it is written: one picture is in memory at a time."""

import zipfile
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from io import RawIOBase

from asgiref.sync import sync_to_async

from genqueue import files
from genqueue.models import Image
from rooms.slots import file_stem


class _Sink(RawIOBase):
    """What zipfile writes to; it cannot be sought in, so sizes follow each file."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        chunk = bytes(data)  # type: ignore[call-overload]
        self._written += chunk
        return len(chunk)

    def taken(self) -> bytes:
        chunk = bytes(self._written)
        self._written.clear()
        return chunk


async def zip_of(images: Iterable[Image]) -> AsyncIterator[bytes]:
    """PNGs are compressed already and stored as they are. A picture removed meanwhile is left
    out. images: with their jobs."""
    sink = _Sink()
    taken: set[str] = set()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for image in images:
            try:
                png = await sync_to_async(files.read)(image.picture)
            except FileNotFoundError:
                continue
            name = _free_name(image, taken)
            made = image.finished_at or datetime(1980, 1, 1)
            archive.writestr(zipfile.ZipInfo(name, made.timetuple()[:6]), png)
            yield sink.taken()
    yield sink.taken()


def _free_name(image: Image, taken: set[str]) -> str:
    stem = f"{file_stem(image.job.prompt)}-{image.seed}"
    name, count = f"{stem}.png", 2
    while name in taken:
        name, count = f"{stem}-{count}.png", count + 1
    taken.add(name)
    return name
