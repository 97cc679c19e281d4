"""Keeps one Celery worker process alive beside the embedded site.

The worker may crash, be killed, or run out of memory: the site goes on, its leases go back at
once, and it is started again, later and later while it keeps failing early.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from uuid import UUID, uuid4

from django.conf import settings
from django.db import close_old_connections, connection

from genqueue import departure, worker

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
SETTLED_AFTER_SECONDS = 60.0  # a worker that lived this long starts again without a long pause
STOP_SECONDS = 8.0


class Supervisor(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="supervisor", daemon=True)
        self.worker_id = _worker_id()
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the worker that runs now."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            try:
                with self._starting:
                    if self._stopped.is_set():
                        break
                    self._process = self._start()
                ending = f"ended ({self._process.wait()})"
                self._tidy_up()
            except OSError as error:  # no memory for another process, or too many of them
                ending = f"could not be started ({error})"
            if self._stopped.is_set():
                break
            if time.monotonic() - started > SETTLED_AFTER_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.warning("the worker %s; it starts again in %.1f s", ending, pause)
            self._stopped.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        connection.close()

    def stop(self) -> None:
        """Ask the worker to stop, then make it. Returns when it is gone."""
        with self._starting:
            self._stopped.set()
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        if self.is_alive():
            self.join(timeout=STOP_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "celery", "--app", "p2pweb", "--quiet", "worker",
            "--pool", "solo", "--hostname", "server", "--loglevel", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        environment = {
            **os.environ,
            worker.WORKER_ID: str(self.worker_id),
            worker.SUPERVISOR_PID: str(os.getpid()),
            # Whole paths: the site may have been started in another folder.
            "P2PWEB_DATA_DIR": str(settings.DATA_DIR),
            "P2PWEB_MODELS_DIR": str(settings.MODELS_DIR or ""),
        }
        # A session of its own: Ctrl-C in the terminal reaches the site, which stops the worker.
        return subprocess.Popen(  # noqa: S603  (our own command)
            command, cwd=settings.BASE_DIR, env=environment, start_new_session=True
        )

    def _tidy_up(self) -> None:
        close_old_connections()
        try:
            departure.worker_is_gone(self.worker_id, crashed=not self._stopped.is_set())
        except Exception:
            log.exception("the leases of the ended worker run out by themselves")


def _worker_id() -> UUID:
    """The same over restarts of the site, so that measured speeds keep their owner.

    A file that holds no id, as a full disk or a power failure leave it, is replaced: a new id costs
    no more than those speeds.
    """
    path = settings.DATA_DIR / "worker-id"
    try:
        return UUID(path.read_text().strip())
    except FileNotFoundError:
        pass
    except ValueError:
        log.warning("%s holds no id: the worker gets a new one", path)
    worker_id = uuid4()
    draft = path.with_name(f".worker-id-{worker_id}")
    with draft.open("w") as file:
        file.write(str(worker_id))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return worker_id
