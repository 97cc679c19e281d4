"""A Redis and a PostgreSQL of the test's own, on free ports, gone with the test."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import redis

from tests.genqueue.processes import free_port, until


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Yields its URL. Raises FileNotFoundError when redis-server is not installed."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port)

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return bool(client.ping())
            return False

        until(answers, 20, "an answer of redis-server")
        client.close()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


@contextlib.contextmanager
def hanging(url: str) -> Iterator[None]:
    """Meanwhile Redis takes connections and commands, and answers none."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        pid = client.info()["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def postgres_program(name: str) -> str | None:
    """Debian keeps PostgreSQL's programs off the PATH."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, homes)])
    return shutil.which(name, path=path)


def has_postgres() -> bool:
    return postgres_program("initdb") is not None and postgres_program("postgres") is not None


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Yields the URL of an empty database. PostgreSQL refuses to run as root: then as nobody."""
    port = free_port()
    data = folder / "postgres"
    data.mkdir()
    user: int | None = None
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = nobody.pw_uid
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        for parent in [folder, *folder.parents]:
            with contextlib.suppress(PermissionError):
                if parent.stat().st_uid == 0 and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o011)
    subprocess.run(
        [postgres_program("initdb") or "initdb", "--pgdata", data, "--username", "p2pweb",
         "--auth", "trust", "--no-sync"],
        check=True, user=user, stdout=subprocess.DEVNULL, cwd=data,
    )  # fmt: skip
    with (folder / "postgres.log").open("wb") as log:
        server = subprocess.Popen(
            [postgres_program("postgres") or "postgres", "-D", data, "-p", str(port), "-k", "",
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
            user=user, stdout=log, stderr=log, cwd=data,
        )  # fmt: skip
    try:
        address = f"postgresql://p2pweb@127.0.0.1:{port}/"

        def answers() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(f"{address}postgres").close()
                return True
            return False

        until(answers, 30, "an answer of postgres")
        with psycopg.connect(f"{address}postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE p2pweb")
        yield f"{address}p2pweb"
    finally:
        server.terminate()
        server.wait(20)
