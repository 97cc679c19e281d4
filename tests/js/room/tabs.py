"""Tabs that join rooms: pages of nothing but the site's import map, one context each, so that each
has a process of its own that can be killed."""

import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from playwright.sync_api import Browser, Page

from rooms.policy import policy
from rooms.templatetags.page import import_map
from tests.browser import listen_for_errors

ROOT = Path(__file__).parents[3]
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}

JOIN = """async (options) => {
  const { P2PNetwork } = await import('room/p2p-network.js');
  const network = new P2PNetwork();
  const log = [];
  const said = (what, peer, more) => log.push({ what, id: peer?.id, at: Date.now(), ...more });
  Object.assign(window, { network, log });
  addEventListener('pagehide', () => navigator.sendBeacon('/left', `${Date.now()}`));
  await network.join({
    ...options,
    onPeer: (peer) => said('peer', peer, { name: peer.name, about: peer.about }),
    onChange: (peer) => said('change', peer, { name: peer.name, about: peer.about }),
    onLeave: (peer, why) => said('leave', peer, { why }),
    onMessage: (peer, message) => said('message', peer, { message }),
    onState: (state) => said('state', null, { state }),
    onProblem: (problem) => said('problem', null, { problem }),
    onChannel: (peer, channel) => {
      said('channel', peer, { label: channel.label });
      channel.onmessage = ({ data }) => channel.send(data);
    },
  });
  return network.id;
}"""


class Tab:
    """One page that has joined. `log`: what its callbacks were told, in order, with the time."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.id = ""

    def join(self, **options: object) -> "Tab":
        self.id = self.page.evaluate(JOIN, {"iceServers": [], **options})
        return self

    def run(self, body: str, *args: object) -> Any:
        """What a function body returns; `network` and `args` are there."""
        return self.page.evaluate(f"async (args) => {{ {body} }}", list(args))

    def log(self, what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate(
            "(what) => log.filter((entry) => entry.what === what)", what
        )
        return found

    def peers(self) -> set[str]:
        return set(self.page.evaluate("network.peers.map(({ id }) => id)"))

    def waits(self, condition: str, *args: object, seconds: float = 10) -> None:
        """Until an expression of `network`, `log` and `args` is true."""
        self.page.wait_for_function(
            f"(args) => ({condition})", arg=list(args), timeout=seconds * 1000, polling=50
        )

    def meets(self, *others: "Tab", seconds: float = 15) -> None:
        """Until it sees exactly these."""
        self.waits(
            "network.peers.map(({ id }) => id).sort().join() === args.sort().join()",
            *(other.id for other in others),
            seconds=seconds,
        )

    def leaves(self, other: "Tab", seconds: float) -> tuple[str, float]:
        """Until it knows that another one has gone: why, and when (seconds since the epoch)."""
        self.waits(
            "log.some(({ what, id }) => what === 'leave' && id === args[0])",
            other.id,
            seconds=seconds,
        )
        entry = next(entry for entry in self.log("leave") if entry["id"] == other.id)
        return entry["why"], entry["at"] / 1000


class Tabs:
    """Use as a context manager.

    errors: what scripts did wrong in any of them. left: when pages ended, seconds since the epoch.
    answers: what is posted to other paths, by path.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.left: list[float] = []
        self.answers: dict[str, Callable[[bytes], bytes]] = {"/left": self._left}
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *request: _Pages(self, *request)
        )
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.errors: list[str] = []
        self._pages: list[Page] = []

    def __enter__(self) -> "Tabs":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._server.shutdown()
        self._server.server_close()

    def _left(self, body: bytes) -> bytes:
        self.left.append(int(body) / 1000)
        return b""

    def close(self) -> None:
        for page in self._pages:
            page.context.close()
        self._pages.clear()

    def open(self, path: str = "", *, own_clock: bool = False) -> Tab:
        """own_clock: the page's time is `tab.page.clock`'s, which can be moved on."""
        page = self._browser.new_context().new_page()
        self._pages.append(page)
        listen_for_errors(page, self.errors)
        if own_clock:
            page.clock.install()
        page.goto(f"{self.url}{path}")
        return Tab(page)

    def join(self, count: int, *, own_clock: bool = False, **options: object) -> list[Tab]:
        """So many tabs in one room, which have all met."""
        tabs = [self.open(own_clock=own_clock).join(**options) for _ in range(count)]
        all_meet(*tabs)
        return tabs


def all_meet(*tabs: Tab, seconds: float = 15) -> None:
    for tab in tabs:
        tab.meets(*(other for other in tabs if other is not tab), seconds=seconds)


class _Pages(BaseHTTPRequestHandler):
    """The site's modules; a download; and an empty page with the site's import map and policy at
    any other path."""

    protocol_version = "HTTP/1.1"

    def __init__(self, tabs: Tabs, *request: Any) -> None:
        self.tabs = tabs
        super().__init__(*request)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.tabs.answers[self.path](body)
        with suppress(BrokenPipeError, ConnectionResetError):  # a tab that has gone meanwhile
            self.answer("application/octet-stream", answer)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/static/"):
            file = ROOT / path[1:]
            self.answer(TYPES.get(file.suffix, "text/plain"), file.read_bytes())
            return
        if path.endswith(".zip"):
            disposition = {"Content-Disposition": "attachment"}
            self.answer("application/zip", b"PK\x05\x06" + bytes(18), disposition)
            return
        head = import_map({"request": SimpleNamespace(csp_nonce="tabs")})
        page = f'<!doctype html><link rel="icon" href="/static/icon.svg">{head}'
        allowed = policy("'nonce-tabs'", ["ws:"])
        self.answer("text/html", page.encode(), {"Content-Security-Policy": allowed})

    def answer(self, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """pytest shows what failed."""
