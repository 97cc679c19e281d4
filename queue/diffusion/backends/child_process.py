"""A Python process of our own at the other end of two pipes, which may die without us.

- What it writes to stderr is kept: its last words are the message of BackendDiedError.
- It ends when its stdin does: on `close`, when this object is collected, and when this process ends
  in whatever way.
- It is in a session of its own, so that Ctrl-C in a terminal reaches us alone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import BinaryIO, Final

from diffusion.backends.errors import BackendDiedError
from diffusion.backends.frames import FrameError, Message, receive, send

_SOURCES: Final = Path(__file__).resolve().parents[2]
_LAST_LINES: Final = 40
_LONGEST_LINE: Final = 500  # characters of a line that are kept
_ENDING_SECONDS: Final = 5.0


def command(module: str, *arguments: str) -> list[str]:
    """Runs a module of ours in this Python. -P: the current folder's files hide no module."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Ours, and this very copy of `diffusion`."""
    paths = [str(_SOURCES), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


class ChildProcess:
    """`python -m module`, running. Raises OSError where there is no room for another process."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603  (our own command)
            command(module),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._to: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._listener = threading.Thread(
            target=_listen,  # knows the pipe and not this object, which may be collected
            args=(self._process.stderr, self._last_lines),
            name="stderr of a backend",
            daemon=True,
        )
        self._listener.start()
        self._end = weakref.finalize(self, _end, self._process, self._to, self._from)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: Message) -> None:
        """Raises BackendDiedError."""
        try:
            send(self._to, message)
        except OSError as error:
            raise self._obituary() from error

    def receive(self) -> Message:
        """Waits for the next message. Raises BackendDiedError."""
        try:
            message = receive(self._from)
        except FrameError as error:
            raise self._obituary() from error
        if message is None:
            raise self._obituary()
        return message

    def close(self) -> None:
        """End it, gently if it is idle. Returns when it is gone."""
        self._end()

    def kill(self) -> None:
        """End it whatever it is doing."""
        self._process.kill()
        self._end()

    def _obituary(self) -> BackendDiedError:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its pipe ends before it does
            self._process.wait(_ENDING_SECONDS)
        broken = self._process.poll() is None
        self.kill()
        self._listener.join(_ENDING_SECONDS)
        code = self._process.returncode
        if broken:
            how = "answered with something else than a message"
        elif code < 0:
            how = f"was ended by {_signal_name(-code)}"
        else:
            how = f"ended with status {code}"
        lines = list(self._last_lines)
        had_words = lines and code != -signal.SIGKILL
        last = f": {lines[-1].strip()}" if had_words else ""
        error = BackendDiedError(f"The process that computes {how}{last}")
        if len(lines) > 1:
            error.add_note("Its last words:\n" + "\n".join(lines))
        return error


def _listen(stream: BinaryIO, last_lines: deque[str]) -> None:
    """Reads stderr until it ends, so that the child never waits for a reader."""
    with stream:
        for line in iter(lambda: stream.readline(64 * 1024), b""):
            text = line.decode(errors="replace").rstrip()
            if text:
                last_lines.append(text[:_LONGEST_LINE])


def _end(process: "subprocess.Popen[bytes]", to: BinaryIO, from_: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # what could not be sent
        to.close()
    try:
        process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    from_.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
