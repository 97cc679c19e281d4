"""How fast is GET /api/stats? Prints JSON. Loopback only; ends what it starts.

    python benchmarks/api_stats.py              # starts a server of its own in a temporary folder
    python benchmarks/api_stats.py --url http://127.0.0.1:8000

- `idle`: requests a second that 8 clients get, each on one connection, one request after another.
- `generating`: 20 requests a second, sent on time whatever the answers do, while the server makes
  pictures (left out with --seconds-generating 0). A latency counts from the moment when the
  request was due, so a stalled server cannot hide behind requests that were sent late.

The client runs on the same cores as the server, and takes its share of them.
"""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
PATH = "/api/stats"
START_TIMEOUT_SECONDS = 60
PICTURE_TIMEOUT_SECONDS = 180


class Connection:
    """One kept-alive HTTP/1.1 connection that asks for one address."""

    def __init__(self, host, port, path=PATH):
        self.socket = socket.create_connection((host, port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        self.rest = b""

    def get(self):
        """The body of the answer. Raises RuntimeError unless it is 200."""
        self.socket.sendall(self.request)
        head = self._until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(head.decode(errors="replace").splitlines()[0])
        lengths = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        while len(self.rest) < lengths[0]:
            self._more()
        body, self.rest = self.rest[: lengths[0]], self.rest[lengths[0] :]
        return body

    def _until(self, mark):
        while mark not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(mark)
        return head

    def _more(self):
        received = self.socket.recv(65536)
        if not received:
            raise RuntimeError("the server closed the connection")
        self.rest += received

    def close(self):
        self.socket.close()


def spread(seconds):
    """Milliseconds, from a list of seconds."""
    ordered = sorted(seconds)

    def at(share):
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2)

    return {"median_ms": at(0.5), "p99_ms": at(0.99), "max_ms": round(ordered[-1] * 1000, 2)}


def as_fast_as_possible(host, port, clients, seconds):
    connections = [Connection(host, port) for _ in range(clients)]
    for connection in connections:
        connection.get()
    end = time.perf_counter() + seconds

    def client(connection):
        latencies = []
        while (began := time.perf_counter()) < end:
            connection.get()
            latencies.append(time.perf_counter() - began)
        connection.close()
        return latencies

    with ThreadPoolExecutor(clients) as threads:
        latencies = [latency for mine in threads.map(client, connections) for latency in mine]
    return {
        "clients": clients,
        "requests": len(latencies),
        "requests_per_second": round(len(latencies) / seconds, 1),
        **spread(latencies),
    }


def on_time(host, port, rate, seconds):
    """`rate` requests a second, shared by enough connections that none waits for another."""
    connections = [Connection(host, port) for _ in range(10)]
    for connection in connections:
        connection.get()
    began = time.perf_counter() + 0.1

    def client(number):
        latencies = []
        for turn in range(number, int(rate * seconds), len(connections)):
            due = began + turn / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            connections[number].get()
            latencies.append(time.perf_counter() - due)
        connections[number].close()
        return latencies

    with ThreadPoolExecutor(len(connections)) as threads:
        numbers = range(len(connections))
        latencies = [latency for mine in threads.map(client, numbers) for latency in mine]
    return {"requests": len(latencies), "requests_per_second": rate, **spread(latencies)}


class Room:
    """Keeps a server busy: adds a job whenever fewer than two wait."""

    def __init__(self, url):
        self.url = f"{url}/api/queue/benchmark-{os.getpid()}"
        self.cookie = ""
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._keep_busy)

    def call(self, method="GET", body=None):
        request = urllib.request.Request(self.url, body, method=method)
        request.add_header("Content-Type", "application/json")
        request.add_header("Cookie", self.cookie)
        with urllib.request.urlopen(request, timeout=30) as answer:
            self.cookie = (answer.headers["Set-Cookie"] or self.cookie).partition(";")[0]
            return json.load(answer)

    def jobs(self, *states):
        return [job for job in self.call()["jobs"] if job["state"] in states]

    def _keep_busy(self):
        while not self.ended.wait(0.5):
            while len(self.jobs("queued", "running")) < 2:
                self.call("POST", json.dumps({"prompt": "a rocket above a full moon"}).encode())

    def wait_for_a_picture(self):
        end = time.monotonic() + PICTURE_TIMEOUT_SECONDS
        while not self.jobs("done"):
            if self.jobs("failed") or time.monotonic() > end:
                raise RuntimeError("the server makes no pictures")
            time.sleep(0.2)


def while_generating(url, host, port, rate, seconds):
    room = Room(url)
    room.thread.start()
    try:
        room.wait_for_a_picture()
        before = len(room.jobs("done"))
        measured = on_time(host, port, rate, seconds)
        measured["pictures_made_meanwhile"] = len(room.jobs("done")) - before
    finally:
        room.ended.set()
        room.thread.join()
    return measured


@contextmanager
def own_server():
    """A new `manage.py serve` on a free port: its URL, data folder and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, ROOT / "manage.py", "serve", "--port", str(port)],
            env={**os.environ, "P2PWEB_DATA_DIR": folder},
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until_listening(server, port)
            yield f"http://127.0.0.1:{port}", Path(folder), server
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


def wait_until_listening(server, port):
    end = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server does not listen")


def wait_until_quiet(url):
    """Until the worker has loaded its model: before, it takes a core."""
    end = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < end:
        with urllib.request.urlopen(f"{url}/api/health", timeout=10) as answer:
            if json.load(answer)["worker"]["status"] == "ok":
                return
        time.sleep(0.5)


def measure(url, options):
    address = urlsplit(url)
    wait_until_quiet(url)
    result = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "idle": as_fast_as_possible(
            address.hostname, address.port, options.clients, options.seconds
        ),
    }
    if options.seconds_generating:
        result["generating"] = while_generating(
            url, address.hostname, address.port, options.rate, options.seconds_generating
        )
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="of a server on this machine; without: start one")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=20, help="requests a second")
    parser.add_argument("--seconds-generating", type=float, default=20)
    options = parser.parse_args()
    if options.url:
        if urlsplit(options.url).hostname not in ("127.0.0.1", "localhost"):
            parser.error("this is for servers on this machine only")
        result = measure(options.url.rstrip("/"), options)
    else:
        with own_server() as (url, _folder, _process):
            result = measure(url, options)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
