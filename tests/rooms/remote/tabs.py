"""A tab as far as a helper sees one, made of Python: it offers, and says what it is told to say.
For what honest tabs never do; the real ones are in tests/js/room/test_python_peer.py."""

import asyncio
import json
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from rooms.remote.webrtc import trystero
from rooms.remote.webrtc.connection import Connection

ROOM = "kitchen"
ID = "0aB1cD2eF3gH4iJ5kL6m"
HELLO = {"type": "net.hello", "protocol": 2, "heard": True, "name": "", "about": {}}


class FakeTab:
    """said: what came over the control channel."""

    def __init__(self) -> None:
        self.rtc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.data = self.rtc.createDataChannel("data")
        self.control = self.rtc.createDataChannel("room", negotiated=True, id=10)
        self.said: list[dict[str, Any]] = []
        self.frames: list[tuple[str, Any] | None] = []
        self.control.on("message", lambda text: self.said.append(json.loads(text)))
        self.data.on("message", lambda data: self.frames.append(self._channel.read(data)))
        self._channel = trystero.Channel(ROOM)

    async def offer(self) -> str:
        await self.rtc.setLocalDescription(await self.rtc.createOffer())
        return self.rtc.localDescription.sdp

    async def answered(self, answer: str) -> None:
        await self.rtc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await soon(lambda: self.data.readyState == "open")

    async def connect(self, connection: Connection) -> None:
        await self.answered(await connection.answer(await self.offer()))

    def trystero(self, action: str, payload: object = "") -> None:
        self.data.send(self._channel.frame(action, payload))

    def say(self, message: object) -> None:
        self.control.send(message if isinstance(message, str) else json.dumps(message))


async def soon(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
