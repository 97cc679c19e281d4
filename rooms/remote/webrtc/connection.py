"""One WebRTC connection with a tab: from its offer to the end of Trystero's handshake."""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceCandidate,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.sdp import candidate_from_sdp

from rooms.remote.webrtc import trystero

MEETS_WITHIN_SECONDS: Final = 23.0  # as long as Trystero waits
_MOST_CANDIDATES: Final = 64
_MEDIA: Final = re.compile(r"^m=(\w+)", re.MULTILINE)


class OfferError(Exception):
    """It is no offer of a tab's."""


class Connection:
    """`met` is called once, when both ends know the room; `ended` once, however it came."""

    def __init__(
        self,
        room: str,
        password: str,
        ice_servers: list[str],
        *,
        met: Callable[["Connection"], None],
        ended: Callable[["Connection"], None],
    ) -> None:
        self._room, self._password = room, password
        self._met, self._ended = met, ended
        self._frames = trystero.Channel(room)
        self._data: RTCDataChannel | None = None
        self._candidates = 0
        self._we_are_ready = self._they_are_ready = self.has_met = self.is_over = False
        self._closing: asyncio.Task[None] | None = None
        servers = [RTCIceServer(urls=url) for url in ice_servers]
        self.rtc = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self.rtc.on("datachannel", self._opened)
        self.rtc.on("connectionstatechange", self._changed)

    async def answer(self, offer: str) -> str:
        """The answer, with all the ways to this machine. Raises OfferError."""
        # Sound and pictures would be decoded: nothing but a channel for data is taken.
        if _MEDIA.findall(offer) != ["application"]:
            raise OfferError("an offer of something else than a data channel")
        try:
            await self.rtc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await self.rtc.setLocalDescription(await self.rtc.createAnswer())
        except Exception as error:  # aiortc's parser says in many ways that it does not understand
            raise OfferError(str(error)) from error
        return str(self.rtc.localDescription.sdp)

    async def add_candidate(self, text: str) -> None:
        """A way to the other end, as browsers write it; what is none is passed over."""
        self._candidates += 1
        candidate = _candidate(text)
        if candidate is None or self._candidates > _MOST_CANDIDATES or self.is_over:
            return
        with suppress(Exception):  # a stranger's candidate; there are others
            await self.rtc.addIceCandidate(candidate)

    def say_goodbye(self) -> None:
        """Trystero's own; the tab forgets this end at once."""
        self._send(trystero.LEAVE)

    def close(self) -> None:
        """May be called again."""
        if self.is_over:
            return
        self.is_over = True
        self._closing = asyncio.ensure_future(self.rtc.close())
        self._ended(self)

    async def closed(self) -> None:
        """When nothing is left of it."""
        self.close()
        if self._closing is not None:
            await self._closing

    # Trystero's channel --------------------------------------------------------------------------
    def _opened(self, channel: RTCDataChannel) -> None:
        if self._data is not None:
            channel.close()  # all others are made under numbers that were agreed on
            return
        self._data = channel
        channel.on("message", self._hear)
        if not self._password:
            self._ready()

    def _hear(self, data: object) -> None:
        match self._frames.read(data):
            case (trystero.HANDSHAKE, {"__trystero_pw": "challenge", "c": str(challenge)}):
                answer = trystero.proof(challenge, self._room, self._password)
                self._send(trystero.HANDSHAKE, {"__trystero_pw": "response", "h": answer})
                self._ready()
            case (trystero.READY, _):
                self._they_are_ready = True
                self._meet()
            case (trystero.LEAVE, _) if not self.has_met:
                self.close()

    def _ready(self) -> None:
        if self._we_are_ready:
            return
        self._we_are_ready = True
        self._send(trystero.READY)
        self._meet()

    def _meet(self) -> None:
        if self._we_are_ready and self._they_are_ready and not self.has_met and not self.is_over:
            self.has_met = True
            self._met(self)

    def _send(self, action: str, payload: object = "") -> None:
        if self._data is not None and self._data.readyState == "open":
            self._data.send(self._frames.frame(action, payload))

    def _changed(self) -> None:
        if self.rtc.connectionState in ("failed", "closed"):
            self.close()


def _candidate(text: str) -> RTCIceCandidate | None:
    try:
        said: Any = json.loads(text)
        candidate = candidate_from_sdp(said["candidate"].removeprefix("candidate:"))
    except Exception:  # a stranger's text, and a parser that raises anything
        return None
    candidate.sdpMid = "0"  # an offer has one part
    candidate.sdpMLineIndex = 0
    return candidate
