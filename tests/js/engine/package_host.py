"""A host of packages, with the faults one meets on the way to one.

- /: an empty page under the site's content security policy, which lets it fetch from any host here
- /static/...: the site's modules
- /<name>/...: the package of that name, a folder or what a function gives

`faults` holds, by file name, what happens to its next answers, one after the other.
"""

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from rooms.policy import policy

ROOT = Path(__file__).parents[3]
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json"}

Read = Callable[[str], bytes | None]  # a file of a package by its name


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one answer."""

    damaged: bool = False  # its last byte is another one
    cut: int | None = None  # the connection ends after so many bytes of the body
    status: int | None = None
    hangs: bool = False  # as many bytes as `cut` says, then silence, until the host is closed
    longer: int = 0  # so many bytes more than there are
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    name: str
    range: str | None


class PackageHost:
    """Use as a context manager. asked: every request for a file of a package."""

    def __init__(self, packages: Mapping[str, Path | Read]) -> None:
        self.packages = dict(packages)
        self.faults: dict[str, list[Fault]] = {}
        self.ignores_ranges = False
        self.allows_others = True  # CORS
        self.refuses_preflights = False
        self.seconds_an_answer = 0.0
        self.asked: list[Asked] = []
        self.at_once = self.most_at_once = 0
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.other_url = f"http://localhost:{self._server.server_port}/"  # another origin

    def __enter__(self) -> "PackageHost":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def file(self, path: str) -> bytes | None:
        package, _, name = path.partition("/")
        source = self.packages.get(package)
        if source is None or not re.fullmatch(r"[\w.]+", name):
            return None
        if isinstance(source, Path):
            found = source / name
            return found.read_bytes() if found.is_file() else None
        return source(name)

    def fault(self, name: str) -> Fault:
        waiting = self.faults.get(name)
        return waiting.pop(0) if waiting else Fault()

    def names(self, ending: str = ".bin") -> list[str]:
        """What was asked for, in order, as often as it was."""
        return [asked.name for asked in self.asked if asked.name.endswith(ending)]


def _handler(host: PackageHost) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 2**16

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/":
                page = b'<!doctype html><link rel="icon" href="/static/icon.svg">'
                allowed = {"Content-Security-Policy": policy("'nonce-none'", ["http:"])}
                self.answer(200, page, {"Content-Type": "text/html", **allowed})
            elif path.startswith("/static/"):
                file = ROOT / path[1:]
                headers = {"Content-Type": TYPES.get(file.suffix, "image/svg+xml")}
                self.answer(200, file.read_bytes(), headers) if file.is_file() else self.answer(404)
            else:
                self.package_file(path[1:])

        def do_OPTIONS(self) -> None:
            if host.refuses_preflights:
                self.answer(405)
            else:
                self.answer(204, headers={"Access-Control-Allow-Headers": "range"})

        def package_file(self, path: str) -> None:
            name = path.rpartition("/")[2]
            with host.lock:
                host.asked.append(Asked(name, self.headers.get("Range")))
                host.at_once += 1
                host.most_at_once = max(host.most_at_once, host.at_once)
                fault = host.fault(name)
            try:
                time.sleep(host.seconds_an_answer)
                self.faulty(host.file(path), fault)
            finally:
                with host.lock:
                    host.at_once -= 1

        def faulty(self, data: bytes | None, fault: Fault) -> None:
            if data is None or fault.status:
                headers = (
                    {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after}"}
                )
                self.answer(fault.status or 404, headers=headers)
                return
            if fault.damaged:
                data = data[:-1] + bytes([data[-1] ^ 1])
            data += bytes(fault.longer)
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if found is None or host.ignores_ranges:
                self.answer(200, data, fault=fault)
            elif int(found[1]) >= len(data):
                self.answer(416, headers={"Content-Range": f"bytes */{len(data)}"})
            else:
                start = int(found[1])
                headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                self.answer(206, data[start:], headers, fault)

        def answer(
            self,
            status: int,
            body: bytes = b"",
            headers: Mapping[str, str] | None = None,
            fault: Fault = Fault(),
        ) -> None:
            self.send_response(status)
            if host.allows_others:
                self.send_header("Access-Control-Allow-Origin", "*")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if fault.cut is None else body[: fault.cut])
            self.wfile.flush()
            if fault.hangs:
                host.closing.wait()
            elif fault.cut:
                time.sleep(0.1)  # a browser forgets what arrives together with the end
            self.close_connection = fault.cut is not None

        def log_message(self, *_: object) -> None:
            """pytest shows what failed."""

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the browser gave a download up
                super().handle()

        def finish(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().finish()

    return Handler


SHARD = 16 * 2**20
ROWS_A_SHARD = 1024


def noise_package(path: Path, shards: int) -> Read:
    """The package at `path` with shards of 16 MiB of noise instead of its own, made when asked for:
    transformer/noise.<n> is one of them, text_encoder/table [rows, columns] all."""
    noise = np.random.default_rng(3).integers(0, 256, SHARD, np.uint8).tobytes()

    def shard(number: int) -> bytes:
        return number.to_bytes(4, "little") + noise[4:]

    numbers = {hashlib.sha256(shard(number)).hexdigest(): number for number in range(shards)}
    pieces = [[number, 0, SHARD] for number in range(shards)]
    document = json.loads((path / "manifest.json").read_bytes())
    document |= {"files": {}, "plan": None, "wgsl": {}}
    document["shards"] = [{"sha256": sha256, "bytes": SHARD} for sha256 in numbers]
    document["tensors"] = {
        f"transformer/noise.{number}": noise_tensor([SHARD // 2], pieces[number : number + 1])
        for number in range(shards)
    }
    table = [shards * ROWS_A_SHARD, SHARD // 2 // ROWS_A_SHARD]
    document["tensors"]["text_encoder/table"] = noise_tensor(table, pieces)
    manifest = json.dumps(document).encode()

    def read(name: str) -> bytes | None:
        number = numbers.get(name.removesuffix(".bin"))
        return manifest if name == "manifest.json" else None if number is None else shard(number)

    return read


def noise_tensor(shape: list[int], pieces: list[list[int]]) -> dict[str, object]:
    nbytes = sum(piece[2] for piece in pieces)
    return {"dtype": "f16", "shape": shape, "bytes": nbytes, "pieces": pieces}
