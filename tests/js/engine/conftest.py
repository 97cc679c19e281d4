"""The engine's modules in a real Chromium: an empty page under the site's content security policy,
and nothing of the site behind it, because the engine needs nothing of it."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from rooms.policy import policy
from tests.browser import listen_for_errors

ROOT = Path(__file__).parents[3]

CALL = """async ([module, args]) => {
  const m = await import(`/static/js/engine/${module}.js`);
  const base64 = ({ buffer, byteOffset, byteLength }) => {
    let text = '';
    for (let at = 0; at < byteLength; at += 2 ** 15) {
      const size = Math.min(2 ** 15, byteLength - at);
      text += String.fromCharCode(...new Uint8Array(buffer, byteOffset + at, size));
    }
    return btoa(text);
  };
  const result = await (async (...args) => { BODY })(...JSON.parse(args));
  return JSON.stringify(result ?? null);
}"""

Engine = Callable[..., Any]


class _Files(SimpleHTTPRequestHandler):
    extensions_map = {".js": "text/javascript", ".mjs": "text/javascript"}  # noqa: RUF012

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", policy("'nonce-none'"))
        super().end_headers()

    def do_GET(self) -> None:
        if self.path.startswith("/static/"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b'<!doctype html><link rel="icon" href="/static/icon.svg">')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def engine_page(chromium: Browser) -> Iterator[Page]:
    """Fails when a script of a module's tests had an error or broke the policy."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *request: _Files(*request, directory=str(ROOT))
    )
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    errors: list[str] = []
    page = chromium.new_page()
    listen_for_errors(page, errors)
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    yield page
    page.close()
    server.shutdown()
    server.server_close()
    assert errors == []


@pytest.fixture(scope="module")
def engine(engine_page: Page) -> Engine:
    """engine(module, body, *args): what a function body with the module's exports as `m` returns.
    Arguments (`args`) and result cross as JSON, so that halves of surrogate pairs stay what they
    are. `base64(typedArray)` takes numbers home unrounded."""

    def call(module: str, body: str, *args: object) -> Any:
        answer = engine_page.evaluate(CALL.replace("BODY", body), [module, json.dumps(args)])
        return json.loads(answer)

    return call
