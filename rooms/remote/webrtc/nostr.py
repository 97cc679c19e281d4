"""One Nostr relay, as long as it takes: connects, listens to topics, publishes; connects again."""

import asyncio
import json
import random
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from coincurve import PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException

from rooms.relay.events import RefusedError, read_event, signed_event
from rooms.relay.limits import DEFAULT
from rooms.remote.webrtc import trystero

ANNOUNCED_AFTER_SECONDS: Final = (0.0, 0.233, 0.533, 1.333)  # then every minute, as Trystero does
ANNOUNCED_EVERY_SECONDS: Final = 60.0
RETRY_SECONDS: Final = (1, 2, 4, 8, 10)
OPENS_WITHIN_SECONDS: Final = 10.0
SINCE_SECONDS: Final = 60  # that a clock may be ahead


class Relay:
    """heard: called with the topic and the content of an event, a JSON object with a peerId that is
    one. announcement: said to the first topic when the relay is reached, and every minute."""

    def __init__(
        self,
        url: str,
        topics: list[str],
        *,
        announcement: dict[str, Any],
        heard: Callable[["Relay", str, dict[str, Any]], None],
    ) -> None:
        self.url, self._topics, self._announcement = url, topics, announcement
        self._heard = heard
        self._key = PrivateKey()
        self._socket: ClientConnection | None = None
        self._again = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    async def run(self) -> None:
        """Until it is cancelled."""
        tries = 0
        while True:
            try:
                async with connect(
                    self.url, open_timeout=OPENS_WITHIN_SECONDS, max_size=DEFAULT.message_bytes
                ) as socket:
                    tries = 0
                    await self._talk(socket)
            except (OSError, TimeoutError, InvalidHandshake, InvalidURI, WebSocketException):
                pass  # tried again
            finally:
                self._socket = None
            seconds = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
            tries += 1
            await asyncio.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311

    async def _talk(self, socket: ClientConnection) -> None:
        wanted = {
            "kinds": sorted({trystero.kind(topic) for topic in self._topics}),
            "since": int(time.time()) - SINCE_SECONDS,
            "#x": self._topics,
        }
        await socket.send(json.dumps(["REQ", secrets.token_hex(16), wanted]))
        self._socket = socket
        announcing = asyncio.create_task(self._announce())
        try:
            async for text in socket:
                self._hear(text)
        finally:
            announcing.cancel()

    async def _announce(self) -> None:
        while True:
            self._again.clear()
            for seconds in ANNOUNCED_AFTER_SECONDS:
                await asyncio.sleep(seconds)
                await self.publish(self._topics[0], self._announcement)
            while True:
                try:
                    await asyncio.wait_for(self._again.wait(), ANNOUNCED_EVERY_SECONDS)
                    break
                except TimeoutError:
                    await self.publish(self._topics[0], self._announcement)

    def announce_again(self) -> None:
        """Somebody was lost who may be there yet."""
        self._again.set()

    async def publish(self, topic: str, content: dict[str, Any]) -> None:
        """Lost while the relay is."""
        socket = self._socket
        if socket is None:
            return
        event = signed_event(
            self._key, trystero.kind(topic), topic, json.dumps(content), int(time.time())
        )
        try:
            await socket.send(json.dumps(["EVENT", event]))
        except WebSocketException:
            return  # `run` connects again

    def _hear(self, text: str | bytes) -> None:
        try:
            message = json.loads(text)
            match message:
                case ["EVENT", str(), event]:
                    read = read_event(event, DEFAULT)
                    content = json.loads(event["content"])
                case _:
                    return
        except (ValueError, RecursionError, RefusedError):
            return  # relays carry whatever anybody says
        for topic in self._topics:
            if topic in read.topics:
                self._heard(self, topic, content)
                return
