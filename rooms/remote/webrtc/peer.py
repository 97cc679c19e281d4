"""One tab that was met: messages on the channel of our own, its heartbeat, channels for bulk data.

Twin of static/js/room/peer.js, channels.js and heartbeat.js.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, Literal

from aiortc import RTCDataChannel

from rooms.remote.conversation import Message, is_whole
from rooms.remote.webrtc.connection import Connection
from rooms.remote.webrtc.strangers import Allowance, read_claim, read_message

PROTOCOL: Final = 2
CONTROL_NUMBER: Final = 10
FIRST_NUMBER, LAST_NUMBER = 13, 249  # ours are odd: our id is the larger one
MOST_OPEN: Final = 16
BEAT_SECONDS: Final = 3
GONE_AFTER_SECONDS: Final = 9
GREETS_WITHIN_SECONDS: Final = 10
OPENS_WITHIN_SECONDS: Final = 10.0

Ending = Literal["left", "silent", "closed", "misbehaved", "other-version", "we-left"]


class ChannelError(Exception):
    """The other end refused a channel, did not answer, or has gone."""


class Peer:
    """hello: what is said of this end. changed: it has come, or announced something else. ended:
    once; nothing follows."""

    def __init__(
        self,
        peer_id: str,
        connection: Connection,
        *,
        hello: Message,
        changed: Callable[["Peer"], None],
        ended: Callable[["Peer", Ending], None],
    ) -> None:
        self.id, self.connection = peer_id, connection
        self.claim = read_claim(peer_id, None)
        self.is_here = self.is_gone = False
        self.round_trip_seconds: float | None = None
        self._hello, self._changed, self._ended = hello, changed, ended
        self._allowance = Allowance()
        self._silent = self._age = 0
        self._beat, self._beat_at = 0, 0.0
        self._next = FIRST_NUMBER
        self._numbers: set[int] = set()
        self._opening: dict[int, asyncio.Future[None]] = {}
        self._control = _channel(connection, "room", CONTROL_NUMBER)
        self._control.on("message", self._receive)
        self._control.on("close", lambda: self.end("closed"))
        if self._control.readyState == "open":
            self._say_hello()
        else:
            self._control.on("open", self._say_hello)

    async def open_channel(self, label: str) -> RTCDataChannel:
        """A channel for bulk data, which both ends have. Raises ChannelError."""
        if self.is_gone:
            raise ChannelError("The other tab is gone.")
        number = self._free_number()
        channel = _channel(self.connection, label, number)
        self._numbers.add(number)
        channel.on("close", lambda: self._numbers.discard(number))
        answered = self._opening[number] = asyncio.get_running_loop().create_future()
        self._say({"type": "net.open", "number": number, "label": label})
        try:
            async with asyncio.timeout(OPENS_WITHIN_SECONDS):
                await answered
        except TimeoutError as error:
            channel.close()
            raise ChannelError("The other tab did not answer.") from error
        except ChannelError:
            channel.close()
            raise
        finally:
            del self._opening[number]
        return channel

    def tick(self) -> None:
        """Called every second."""
        self._silent += 1
        self._age += 1
        if self._silent > GONE_AFTER_SECONDS or (
            not self.is_here and self._age > GREETS_WITHIN_SECONDS
        ):
            self.end("silent")
        elif self._age % BEAT_SECONDS == 0:
            self._beat += 1
            self._beat_at = asyncio.get_running_loop().time()
            self._say({"type": "net.beat", "number": self._beat})

    def heard(self) -> None:
        """Something came over a channel of it."""
        self._silent = 0

    def say_goodbye(self) -> None:
        self._say({"type": "net.leave"})
        self.connection.say_goodbye()

    def end(self, why: Ending) -> None:
        """May be called again."""
        if self.is_gone:
            return
        self.is_gone, self.is_here = True, False
        for waiting in self._opening.values():
            if not waiting.done():
                waiting.set_exception(ChannelError("The other tab is gone."))
        self.connection.close()
        self._ended(self, why)

    # Messages ------------------------------------------------------------------------------------
    def _say(self, message: Message) -> None:
        if self._control.readyState == "open" and not self.is_gone:
            self._control.send(json.dumps(message))

    def _say_hello(self) -> None:
        hello = {"type": "net.hello", "protocol": PROTOCOL, "heard": self.is_here}
        self._say({**hello, **self._hello})

    def _receive(self, data: object) -> None:
        if self.is_gone:
            return
        self.heard()
        message = read_message(data) if self._allowance.spend() else None
        if message is None:
            self.end("misbehaved")
            return
        match message["type"]:
            case "net.hello":
                self._greeted(message)
            case "net.beat":
                if is_whole(message.get("number")):
                    self._say({"type": "net.heard", "number": message["number"]})
            case "net.heard":
                if message.get("number") == self._beat:
                    now = asyncio.get_running_loop().time()
                    self.round_trip_seconds = now - self._beat_at
            case "net.open":  # a helper takes no channels
                number = message.get("number")
                self._say({"type": "net.refused", "number": number if is_whole(number) else None})
            case "net.opened":
                self._settle(message.get("number"), None)
            case "net.refused":
                error = ChannelError("The other tab refused a channel.")
                self._settle(message.get("number"), error)
            case "net.leave":
                self.end("left")

    def _greeted(self, message: Message) -> None:
        if message.get("protocol") != PROTOCOL:
            self.end("other-version")
            return
        self.is_here = True
        self.claim = read_claim(self.id, message.get("about"))
        if message.get("heard") is not True:
            self._say_hello()
        self._changed(self)

    # Channels ------------------------------------------------------------------------------------
    def _settle(self, number: Any, error: ChannelError | None) -> None:
        waiting = self._opening.get(number) if is_whole(number) else None
        if waiting is None or waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    def _free_number(self) -> int:
        if len(self._numbers) >= MOST_OPEN:
            raise ChannelError(f"Only {MOST_OPEN} channels are open at a time.")
        while True:
            number = self._next
            self._next = FIRST_NUMBER if number + 2 > LAST_NUMBER else number + 2
            if number not in self._numbers:
                return number


def _channel(connection: Connection, label: str, number: int) -> RTCDataChannel:
    return connection.rtc.createDataChannel(label, negotiated=True, id=number)
