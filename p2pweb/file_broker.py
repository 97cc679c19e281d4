"""Celery's broker in embedded mode: kombu's, a folder with a file for each message, made atomic.

kombu creates a message's file and then writes it, and reads whatever it finds: a worker that polls
every few milliseconds now and then reads an empty file and loses the message. Here a message gets
its name when it is complete, and belongs to whoever removes its file, which one process can do.

A process may be killed anywhere. It leaves at most a draft, which the next one to open the folder
removes when it is old, together with messages that nobody took: they say "there is work", and the
sweeper says that again.
"""

import contextlib
import json
import logging
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem

log = logging.getLogger(__name__)

LOOK_UP_SECONDS = 0.2
ABANDONED_SECONDS = 3600.0
OURS = (".msg", ".draft", ".taken")  # .taken: as earlier versions left them


class Channel(filesystem.Channel):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        _remove_abandoned(Path(self.data_folder_in))

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
            try:
                message = (folder / name).read_bytes()
                (folder / name).unlink()
            except FileNotFoundError:
                continue  # another worker was first
            try:
                return json.loads(message)
            except ValueError:
                log.warning("a message was cut off, as by a power failure, and is lost: %s", name)
        raise Empty

    def _queue_bind(self, *_: Any) -> None:
        """Celery addresses each message to its queue, so nobody asks for a table of bindings.
        kombu's is a file too: half written by a killed process, it would stop every later one."""


class Transport(filesystem.Transport):
    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:  # type: ignore[override]
        # Celery looks at its signals between two calls: with its 2 s it would stop late.
        shorter = min(timeout or LOOK_UP_SECONDS, LOOK_UP_SECONDS)
        super().drain_events(connection, timeout=shorter)  # type: ignore[no-untyped-call]


def _remove_abandoned(folder: Path) -> None:
    long_ago = time.time() - ABANDONED_SECONDS
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # taken, or removed by another process
                if entry.name.endswith(OURS) and entry.stat().st_mtime < long_ago:
                    os.unlink(entry.path)
