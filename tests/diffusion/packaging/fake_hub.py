"""A server that speaks the dialect of the Hugging Face Hub, with the faults one meets there.

- /api/models/<repo>[/revision/<revision>]: the commit; 404 with X-Error-Code
- /api/models/<repo>/tree/<commit>: files with size, git's hash and, of large ones, LFS's; in pages
- /<repo>/resolve/<revision>/<file>: small files directly; large ones by 302 to a signed address on
  another origin, with X-Linked-Size, X-Linked-Etag and X-Repo-Commit
- that other origin ("CDN"): ranges; each signature is good for `uses_of_a_signature` requests, then
  403; connections break off after `cut_after` bytes, the next `refused` requests get 403
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 10_000  # bytes from which a file is in LFS
PAGE = 5  # files a page of the tree


class FakeHub:
    """Serves one repository. Use as a context manager."""

    def __init__(self, repo: str, folder: Path, commit: str = "c0ffee" + 34 * "0") -> None:
        self.repo, self.folder, self.commit = repo, folder, commit
        self.uses_of_a_signature = 10**6
        self.cut_after: list[int] = []  # of the next answers of the CDN
        self.refused = 0
        self.ignores_ranges = False
        self.spoiled = 0  # of the next answers of the CDN, each with a wrong first byte
        self.gated = False
        self.asked: list[tuple[str, str, dict[str, str]]] = []  # host, path, headers
        self.bytes_sent = 0
        self.answering = 0
        self.changed = threading.Condition()
        self._signatures: dict[str, int] = {}
        self._servers = [
            ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, kind)) for kind in ("hub", "cdn")
        ]
        hub, cdn = (server.server_address[1] for server in self._servers)
        self.endpoint = f"http://127.0.0.1:{hub}"
        self.cdn = f"http://localhost:{cdn}"

    def __enter__(self) -> "FakeHub":
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def files(self) -> list[str]:
        paths = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return [str(path.relative_to(self.folder)) for path in paths]

    def sign(self, name: str) -> str:
        signature = f"s{len(self._signatures)}"
        self._signatures[signature] = self.uses_of_a_signature
        return f"{self.cdn}/blobs/{name}?Signature={signature}"

    def accepts(self, signature: str) -> bool:
        left = self._signatures.get(signature, 0)
        self._signatures[signature] = left - 1
        return left > 0

    def forget_bytes(self) -> int:
        """How many were sent, once what nobody waits for any more is counted as well; from now on
        they are counted anew."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.answering == 0, 20)
            sent, self.bytes_sent = self.bytes_sent, 0
            return sent

    def downloads(self, name: str) -> list[str | None]:
        """The ranges in which a file was asked of the CDN."""
        return [
            headers.get("range")
            for kind, path, headers in self.asked
            if kind == "cdn" and path.startswith(f"/blobs/{name}?")
        ]


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _handler(hub: FakeHub, kind: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 2**16  # head and body in one packet: else each answer waits 40 ms for an ACK

        def do_GET(self) -> None:
            hub.asked.append((kind, self.path, {k.lower(): v for k, v in self.headers.items()}))
            url = urlsplit(self.path)
            answer = self.on_cdn if kind == "cdn" else self.on_hub
            with hub.changed:
                hub.answering += 1
            try:
                answer(unquote(url.path), parse_qs(url.query))
            finally:
                with hub.changed:
                    hub.answering -= 1
                    hub.changed.notify_all()

        do_HEAD = do_GET  # noqa: N815

        def on_hub(self, path: str, query: dict[str, list[str]]) -> None:
            if hub.gated:
                self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                if found[1] != hub.repo:
                    self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
                elif found[2] not in (None, "main", hub.commit):
                    self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                else:
                    self.json({"id": hub.repo, "sha": hub.commit, "siblings": []})
            elif path == f"/api/models/{hub.repo}/tree/{hub.commit}":
                self.tree(int(query.get("cursor", ["0"])[0]))
            elif path.startswith(f"/{hub.repo}/resolve/"):
                revision, _, name = path.removeprefix(f"/{hub.repo}/resolve/").partition("/")
                known = revision in ("main", hub.commit) and name in hub.files()
                self.resolve(name) if known else self.answer(404, b"")
            else:
                self.answer(404, b"")

        def tree(self, start: int) -> None:
            entries: list[dict[str, Any]] = [
                {"type": "directory", "path": "transformer", "oid": "0" * 40, "size": 0}
            ]
            for name in hub.files():
                data = (hub.folder / name).read_bytes()
                entry = {"type": "file", "path": name, "size": len(data), "oid": git_hash(data)}
                if len(data) >= LARGE:
                    sha256 = hashlib.sha256(data).hexdigest()
                    entry |= {"lfs": {"oid": sha256, "size": len(data), "pointerSize": 134}}
                    entry["oid"] = git_hash(b"the pointer")
                entries.append(entry)
            rest = {}
            if start + PAGE < len(entries):
                address = f"{hub.endpoint}{urlsplit(self.path).path}?cursor={start + PAGE}"
                rest = {"Link": f'<{address}>; rel="next"'}
            self.json(entries[start : start + PAGE], rest)

        def resolve(self, name: str) -> None:
            data = (hub.folder / name).read_bytes()
            commit = {"X-Repo-Commit": hub.commit}
            if len(data) < LARGE:
                self.ranged(data, commit | {"ETag": f'"{git_hash(data)}"'})
            else:
                linked = {
                    "Location": hub.sign(name),
                    "X-Linked-Size": str(len(data)),
                    "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                }
                self.answer(302, b"Found. Redirecting", commit | linked)

        def on_cdn(self, path: str, query: dict[str, list[str]]) -> None:
            if hub.refused > 0 or not hub.accepts(query.get("Signature", [""])[0]):
                hub.refused -= 1
                self.answer(403, b"<Error><Message>Request has expired</Message></Error>")
                return
            data = (hub.folder / path.removeprefix("/blobs/")).read_bytes()
            if hub.spoiled > 0:
                hub.spoiled -= 1
                data = bytes([data[0] ^ 1]) + data[1:]
            self.ranged(data, {}, hub.cut_after.pop(0) if hub.cut_after else None)

        def ranged(self, data: bytes, headers: dict[str, str], cut: int | None = None) -> None:
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            headers = headers | {"Accept-Ranges": "bytes"}
            if found is None or hub.ignores_ranges:
                self.answer(200, data, headers, cut)
                return
            start, stop = int(found[1]), int(found[2] or len(data) - 1) + 1
            if start >= len(data):
                self.answer(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
            else:
                headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
                self.answer(206, data[start:stop], headers, cut)

        def json(self, value: object, headers: dict[str, str] | None = None) -> None:
            self.answer(200, json.dumps(value).encode(), headers or {})

        def answer(
            self,
            status: int,
            body: bytes,
            headers: dict[str, str] | None = None,
            cut: int | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                sent = body if cut is None else body[:cut]
                self.wfile.write(sent)
                hub.bytes_sent += len(sent) if status in (200, 206) else 0
                self.close_connection = cut is not None

        def log_message(self, *_: object) -> None:
            """pytest shows what failed."""

    return Handler
