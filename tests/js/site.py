"""The real site for tests in a real browser: Daphne on a free port, in a thread of this process.

It uses the test's database, so that a test makes a room with the queue's own functions and sees
what the page makes of it. The watcher that turns commits into hints runs as in the real site.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from django.conf import settings
from django.core.asgi import get_asgi_application

from genqueue import watching
from rooms.routing import websocket_urlpatterns

Receive = Callable[[], Awaitable[Any]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class LiveSite:
    """`blocked`: while True, every request and socket is refused, as if the site were down."""

    def __init__(self) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.blocked = False
        self._paused = False
        self._http: Application = ProtocolTypeRouter(
            {"http": get_asgi_application(), "websocket": URLRouter(websocket_urlpatterns)}
        )
        self._watch: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sockets: set[asyncio.Task[Any]] = set()
        listening = threading.Event()
        self._server = Server(
            application=self._application,
            endpoints=build_endpoint_description_strings(host="127.0.0.1", port=self.port),
            signal_handlers=False,
            ready_callable=listening.set,
            verbosity=0,
        )
        threading.Thread(target=self._server.run, name="site", daemon=True).start()
        assert listening.wait(20)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        if self._watch is None and not self._paused:
            path = str(settings.DATABASES["default"]["NAME"])
            self._watch = asyncio.create_task(watching.watch_sqlite(path))
        if self.blocked:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1001})
                return
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        task = asyncio.current_task()
        assert task is not None
        if scope["type"] == "websocket":
            self._sockets.add(task)
            task.add_done_callback(self._sockets.discard)
            await self._http(scope, receive, send)
        else:
            await self._http(scope, _that_stays(receive), send)

    def let_go(self) -> None:
        """The database of this test goes: wait for the last socket to leave, and stop watching."""
        deadline = time.monotonic() + 5
        while self._sockets and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not self._sockets
        self.pause_watching()
        self._paused = False

    def pause_watching(self) -> None:
        """From now on no hint reaches any page."""
        self._paused = True
        watch, self._watch = self._watch, None
        if watch is not None:
            self._in_loop(watch.cancel)

    def drop_sockets(self) -> None:
        """Cut every WebSocket, as a site that goes down does."""
        for protocol in list(self._server.connections):
            if hasattr(protocol, "dropConnection"):
                self._in_loop(partial(protocol.dropConnection, abort=True))

    def _in_loop(self, run: Callable[[], Any]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(run)


def _that_stays(receive: Receive) -> Receive:
    """The request, from a visitor who does not leave before the answer.

    A test that ends closes its page while files are on their way. Django then drops the response
    without closing the file in it, and Python's warning of that would fail whichever test is next.
    """
    asked = False

    async def from_visitor() -> Any:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        message = await receive()
        asked = not message.get("more_body", False)
        return message

    return from_visitor


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
