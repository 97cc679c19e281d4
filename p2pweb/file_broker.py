"""Celery's broker in embedded mode: kombu's, a folder with a file for each message, made atomic.

kombu creates a message's file and then writes it, and reads whatever it finds: a worker that polls
every few milliseconds now and then reads an empty file and loses the message. Here a message gets
its name when it is complete, and is taken by renaming, which one process can do.
"""

import contextlib
import json
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem

LOOK_UP_SECONDS = 0.2


class Channel(filesystem.Channel):
    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns()}-{uuid.uuid4().hex}.{queue}"
        draft = folder / f"{name}.draft"
        draft.write_text(json.dumps(payload))
        draft.rename(folder / f"{name}.msg")

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        folder = Path(self.data_folder_in)
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(f".{queue}.msg"))
        for name in names:
            taken = folder / f"{name}.taken"
            with contextlib.suppress(FileNotFoundError):  # another worker was first
                (folder / name).rename(taken)
                message = json.loads(taken.read_text())
                taken.unlink()
                return message
        raise Empty


class Transport(filesystem.Transport):
    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:  # type: ignore[override]
        # Celery looks at its signals between two calls: with its 2 s it would stop late.
        shorter = min(timeout or LOOK_UP_SECONDS, LOOK_UP_SECONDS)
        super().drain_events(connection, timeout=shorter)  # type: ignore[no-untyped-call]
