"""The API behind a real Daphne, spoken to in raw bytes: what no test client would send."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.api.conftest import MODEL_FILES
from tests.studio import write_model

ROOT = Path(__file__).resolve().parents[2]


class Server:
    def __init__(self, folder: Path):
        write_model(folder / "models", files=MODEL_FILES)
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "p2pweb.settings",
            "P2PWEB_DATA_DIR": str(folder / "data"),
            "P2PWEB_MODELS_DIR": str(folder / "models"),
            "P2PWEB_DEFAULT_MODEL": "tiny",
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "daphne.log"

    def start(self):
        migrate = [sys.executable, str(ROOT / "manage.py"), "migrate", "-v0"]
        subprocess.run(migrate, env=self.environment, check=True)
        listen = ["-b", "127.0.0.1", "-p", str(self.port), "p2pweb.asgi:application"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daphne", *listen],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(self.log.read_text())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)

    def say(self, request: bytes, patience_seconds=10.0) -> bytes:
        """All that comes back until the server closes the connection, or is silent for long."""
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, timeout=patience_seconds) as connection:
            received = b""
            try:
                connection.sendall(request)
                while data := connection.recv(65536):
                    received += data
            except (TimeoutError, ConnectionError):
                pass
            return received


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("daphne"))
    server.start()
    yield server
    server.stop()


def request(line, *headers, body=b"", host=b"Host: localhost"):
    lines = [line + b" HTTP/1.1", host, *headers, b"Connection: close", b"", body]
    return b"\r\n".join(lines)


def chunked(*chunks):
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def answer(received):
    """(status, headers, body) of the first response."""
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"


def test_a_job_in_chunks_is_a_job(server):
    body = chunked(b'{"prompt": ', b'"a rocket"}')
    status, headers, body = answer(
        server.say(request(b"POST /api/queue/kitchen", JSON, CHUNKED, body=body))
    )
    assert status == 201
    assert headers["location"] == f"/api/jobs/{json.loads(body)['id']}"
    assert "httponly" in headers["set-cookie"]


def test_too_large_a_body_in_chunks_is_too_large(server):
    body = chunked(*[b" " * 65536] * 8)
    status, headers, body = answer(
        server.say(request(b"POST /api/queue/kitchen", JSON, CHUNKED, body=body))
    )
    assert status == 413
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["code"] == "body-too-large"


@pytest.mark.parametrize("address", [b"/api/stats", b"/api/health", b"/api/models"])
def test_head_has_the_headers_of_get_and_no_body(server, address):
    status, headers, body = answer(server.say(request(b"HEAD " + address)))
    assert status == 200
    assert int(headers["content-length"]) > 10
    assert body == b""


def test_requests_leave_no_connection_to_the_database_open(server):
    """Each has a thread of its own: what it left open would wait for the garbage collector."""

    def connections() -> int:
        opened = Path(f"/proc/{server.process.pid}/fd").iterdir()
        return sum(file.resolve().name.startswith("p2pweb.sqlite3") for file in opened)

    server.say(request(b"GET /api/queue/kitchen"))
    before = connections()
    for _ in range(40):
        server.say(request(b"GET /api/queue/kitchen"))
    assert connections() - before < 6


def test_an_unknown_path_is_json(server):
    status, _, body = answer(server.say(request(b"GET /api/nothing")))
    assert status == 404
    assert json.loads(body)["code"] == "not-found"


BROKEN = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "only line ends": b"\r\n" * 50,
    "no version": b"GET /api/stats\r\n\r\n",
    "a strange version": b"GET /api/stats HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /api/stats HTTP/1.0\r\n\r\n",
    "two hosts": request(b"GET /api/stats", b"Host: evil.example"),
    "a host with a path": request(b"GET /api/stats", host=b"Host: localhost/x@y"),
    "bytes in the path": request(b"GET /api/\xff\xfe/\x80"),
    "a NUL in the path": request(b"GET /api/queue/a\x00b"),
    "a percent sign alone": request(b"GET /api/queue/%/%zz"),
    "an address with a host": request(b"GET http://evil.example/api/stats"),
    "a star": request(b"OPTIONS *"),
    "a long path": request(b"GET /api/" + b"a" * 60_000),
    "many headers": request(b"GET /api/stats", *[b"X-%d: y" % n for n in range(2000)]),
    "a long header": request(b"GET /api/stats", b"X: " + b"y" * 60_000),
    "a header without a colon": request(b"GET /api/stats", b"nonsense"),
    "bytes in headers": request(b"GET /api/queue/kitchen", b"Cookie: \xff\x00=\xfe", b"\xff: \xff"),
    "a cookie of ours with bytes": request(b"GET /api/queue/a", b"Cookie: p2pweb_client=\xff"),
    "bytes in the content type": request(
        b"POST /api/queue/a", JSON + b";charset=\xff", b"Content-Length: 2", body=b"{}"
    ),
    "a strange method": request(b"G\xffT /api/stats"),
    "a length that is no number": request(
        b"POST /api/queue/kitchen", JSON, b"Content-Length: x", body=b"{}"
    ),
    "a negative length": request(
        b"POST /api/queue/kitchen", JSON, b"Content-Length: -5", body=b"{}"
    ),
    "a huge length": request(
        b"POST /api/queue/kitchen", JSON, b"Content-Length: 99999999999999999999", body=b"{}"
    ),
    "two lengths": request(
        b"POST /api/queue/kitchen", JSON, b"Content-Length: 2", b"Content-Length: 9", body=b"{}"
    ),
    "a body that breaks off": request(
        b"POST /api/queue/kitchen", JSON, b"Content-Length: 50", body=b'{"prompt": "a'
    ),
    "chunks that break off": request(b"POST /api/queue/kitchen", JSON, CHUNKED, body=b"50\r\n{"),
    "a chunk of no size": request(b"POST /api/queue/kitchen", JSON, CHUNKED, body=b"zz\r\n{}\r\n"),
    "a chunk of negative size": request(b"POST /api/join/kitchen", CHUNKED, body=b"-5\r\n{}\r\n"),
    "length and chunks": request(
        b"POST /api/queue/kitchen", JSON, CHUNKED, b"Content-Length: 3", body=chunked(b"{}")
    ),
    "an unknown transfer": request(b"POST /api/join/kitchen", b"Transfer-Encoding: gzip"),
    "a form that is cut": request(
        b"POST /api/queue/kitchen",
        b"Content-Type: multipart/form-data; boundary=b",
        b"Content-Length: 10",
        body=b"--b\r\nConte",
    ),
    "an upgrade to nothing": request(b"GET /api/stats", b"Upgrade: h2c", b"Connection: Upgrade"),
    "a web socket on the API": request(
        b"GET /api/stats", b"Upgrade: websocket", b"Connection: Upgrade",
        b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_http_is_refused_or_cut_off(server, name):
    received = server.say(BROKEN[name], patience_seconds=0.7)
    for status in re.findall(rb"^HTTP/1\.[01] (\d+)", received, re.MULTILINE):
        assert int(status) < 500, received[:300]


def test_after_all_that_the_server_answers_and_has_logged_no_fault(server):
    assert answer(server.say(request(b"GET /api/health")))[0] == 200
    log = server.log.read_text()
    for sign in ("Internal Server Error", "Exception inside application", "ERROR django.request"):
        assert sign not in log
