"""Relays that somebody else runs: one that passes on whatever anybody says, and may refuse."""

import asyncio
import json
import threading
from typing import Any

from websockets.asyncio.server import ServerConnection, serve


class CarelessRelay:
    """Use as a context manager. It checks nothing and passes every event on to everybody.

    refuses: it ends every conversation with CLOSED, as some do when they are shut down.
    heard: every message that anybody sent, as it came.
    """

    def __init__(self) -> None:
        self.refuses = False
        self.heard: list[str] = []
        self.url = ""
        self._subscriptions: dict[ServerConnection, dict[str, list[str]]] = {}
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._stopped: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "CarelessRelay":
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stopped is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def publish(self, content: str) -> None:
        """To all topics that anybody listens to, with this content."""
        asyncio.run_coroutine_threadsafe(self._publish_everywhere(content), self._loop).result(10)

    def refuse(self) -> None:
        """From now on, also to those who are connected and silent."""
        self.refuses = True

        async def tell() -> None:
            for socket in list(self._subscriptions):
                await self._close(socket)

        asyncio.run_coroutine_threadsafe(tell(), self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        async with serve(self._talk, "127.0.0.1", 0, close_timeout=0.2) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/"
            self._listening.set()
            await self._stopped.wait()

    async def _talk(self, socket: ServerConnection) -> None:
        mine = self._subscriptions[socket] = {}
        try:
            async for text in socket:
                self.heard.append(str(text))
                kind, first, *rest = json.loads(text)
                if self.refuses:
                    await self._close(socket)
                elif kind == "EVENT":
                    await socket.send(json.dumps(["OK", first["id"], True, ""]))
                    await self._publish(first)
                elif kind == "REQ":
                    mine[first] = rest[0]["#x"]
                elif kind == "CLOSE":
                    mine.pop(first, None)
        finally:
            del self._subscriptions[socket]

    async def _close(self, socket: ServerConnection) -> None:
        await socket.send(json.dumps(["CLOSED", "", "error: shutting down"]))

    async def _publish(self, event: dict[str, Any]) -> None:
        topics = {tag[1] for tag in event["tags"]}
        for socket, subscriptions in list(self._subscriptions.items()):
            for name, wanted in list(subscriptions.items()):
                if not topics.isdisjoint(wanted):
                    await socket.send(json.dumps(["EVENT", name, event]))

    async def _publish_everywhere(self, content: str) -> None:
        for subscriptions in list(self._subscriptions.values()):
            for topic in {topic for wanted in subscriptions.values() for topic in wanted}:
                await self._publish({"tags": [["x", topic]], "content": content})
