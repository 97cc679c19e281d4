"""Real processes for tests: `manage.py serve` with its worker, on its own folder and port."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 90  # importing torch on a busy machine
# Between two questions to a site, which needs the cores for what is waited for
ASKING_SECONDS = 0.2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(
    condition: Callable[[], object],
    seconds: float = 30,
    what: str = "it",
    *,
    every: float = 0.02,
):
    """Waits for a true value and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class Site:
    """A running site. `worker_pid` is that of its supervised worker."""

    def __init__(self, data: Path, models: Path, log: Path, *arguments: str, **env: str) -> None:
        self.port = free_port()
        self.data = data
        self.log = log
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.env = {
            **kept,
            "PORT": str(self.port),
            "P2PWEB_DATA_DIR": str(data),
            "P2PWEB_MODELS_DIR": str(models),
            "P2PWEB_DEFAULT_MODEL": "tiny",
            # auto asks wgpu at every start of a worker, a second of the processor's time
            "P2PWEB_BACKEND": "torch",
            "PYTHONUNBUFFERED": "1",
            "LOG_LEVEL": "INFO",
            **env,
        }
        self.started = time.monotonic()
        self.process = self.spawn(sys.executable, "manage.py", "serve", *arguments)

    def spawn(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env={**self.env, **env}, stdout=log, stderr=log
            )

    def listening(self) -> float:
        """Waits until it answers; returns the seconds since its start."""

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            assert self.process.poll() is None, self.log.read_text()
            return False

        until(answers, READY_SECONDS, "listening")
        return time.monotonic() - self.started

    def ready(self) -> "Site":
        self.listening()
        until(
            lambda: self.get("/api/health")["status"] == "ok",
            READY_SECONDS,
            "readiness",
            every=ASKING_SECONDS,
        )
        return self

    def get(self, path: str):
        return self.call("GET", path)

    def call(self, method: str, path: str, body: object = None, token: str = ""):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = answer.read()
            is_json = "json" in (answer.headers["Content-Type"] or "")
            return json.loads(content) if is_json else content

    def submit(self, room: str = "kitchen", **wanted):
        job = {
            "prompt": "a rocket on a blue background", "model": "tiny", "width": 64, "height": 64,
            "steps": 8, "guidance": 4, "seed": 7, **wanted,
        }  # fmt: skip
        return self.call("POST", f"/api/queue/{room}", job)

    def finished(self, job, seconds: float = 60):
        return until(
            lambda: (
                (found := self.get(f"/api/jobs/{job['id']}"))["state"]
                in ("done", "failed", "cancelled")
                and found
            ),
            seconds,
            "the end of the job",
            every=ASKING_SECONDS / 2,
        )

    def rows(self, query: str, *values: object) -> list[tuple]:
        database = sqlite3.connect(f"file:{self.data}/p2pweb.sqlite3?mode=ro", uri=True)
        try:
            return database.execute(query, values).fetchall()
        finally:
            database.close()

    def write(self, statement: str) -> None:
        database = sqlite3.connect(f"{self.data}/p2pweb.sqlite3", timeout=20)
        # Django's own, which a constraint of rooms asks for
        database.create_function("regexp", 2, lambda form, text: re.search(form, text) is not None)
        try:
            database.execute(statement)
            database.commit()
        finally:
            database.close()

    @property
    def worker_pid(self) -> int:
        threads = Path(f"/proc/{self.process.pid}/task")

        def pids() -> list[int]:
            with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
                texts = [thread.read_text() for thread in threads.glob("*/children")]
                return [int(pid) for text in texts for pid in text.split()]
            return []

        return until(pids, 10, "the worker's start")[0]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)


def memory_mb(pid: int) -> float:
    """Peak resident memory of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
