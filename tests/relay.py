"""Relays for tests: real processes, each on a port that it keeps when it is started again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.genqueue.processes import READY_SECONDS, free_port, until

ROOT = Path(__file__).resolve().parent.parent


class RelayProcess:
    """url: ws://127.0.0.1:port/..., whether it runs or not. Subclasses say which command."""

    path = "/"

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.arguments = arguments
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}{self.path}"
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'queue'}",
            "DJANGO_SETTINGS_MODULE": "p2pweb.settings",  # not the tests' own
            **environment,
        }

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Returns when it listens."""
        self.start_soon()
        self.listening()

    def start_soon(self) -> None:
        assert self.process is None, "it runs already"
        self.process = subprocess.Popen(
            [sys.executable, *self.command()], cwd=ROOT, env=self._environment
        )

    def listening(self) -> None:
        until(self._listens, READY_SECONDS, "listening of the relay")

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the relay did not start"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Its exit status. SIGTERM closes connections with 1001, SIGKILL without a word."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        process.send_signal(how)
        return process.wait(20)

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Meanwhile connections stay open and nothing is read or answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class BareRelay(RelayProcess):
    def command(self) -> list[str]:
        return ["-m", "rooms.relay", "--port", str(self.port), *self.arguments]


class SiteRelay(RelayProcess):
    """The site's, in Daphne as deployed. environment: REDIS_URL and others, for the settings."""

    path = "/relay/"

    def command(self) -> list[str]:
        return [
            "-m",
            "daphne",
            "-v",
            "0",
            "-p",
            str(self.port),
            "tests.rooms.relay.site:application",
        ]


@pytest.fixture
def bare_relay() -> Iterator[BareRelay]:
    relay = BareRelay()
    relay.start()
    yield relay
    relay.stop()
