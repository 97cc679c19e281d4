"""Celery's broker in embedded mode: kombu's, a folder with a file for each message, made atomic.

kombu creates a message's file and then writes it, and reads whatever it finds: a worker that polls
every few milliseconds now and then reads an empty file and loses the message. Here a message gets
its name when it is complete, and is taken by renaming, which one process can do.
"""

import contextlib
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads


class Channel(filesystem.Channel):  # type: ignore[misc]  (kombu has no types)
    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns()}-{uuid.uuid4().hex}.{queue}"
        draft = folder / f"{name}.draft"
        draft.write_text(dumps(payload))
        draft.rename(folder / f"{name}.msg")

    def _get(self, queue: str) -> Any:
        folder = Path(self.data_folder_in)
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(f".{queue}.msg"))
        for name in names:
            taken = folder / f"{name}.taken"
            with contextlib.suppress(FileNotFoundError):  # another worker was first
                (folder / name).rename(taken)
                payload = taken.read_text()
                taken.unlink()
                return loads(payload)
        raise Empty


class Transport(filesystem.Transport):  # type: ignore[misc]
    Channel = Channel
