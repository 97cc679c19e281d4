"""A tab that keeps a room's queue, made of Python, over a real relay."""

import asyncio
import json
from typing import Any

from rooms.remote.webrtc import limits, trystero
from rooms.remote.webrtc.link import Link
from rooms.remote.webrtc.nostr import Relay
from tests.rooms.remote.tabs import HELLO, ID, ROOM, FakeTab


class HolderLink(Link):
    """One that answers `queue.enter`, as a tab's does. entered: what was asked."""

    refuses = False

    def _deliver(self, kind: int, reference: int, data: bytes) -> None:
        if kind != limits.REQUEST:
            super()._deliver(kind, reference, data)
            return
        self.entered = json.loads(data)
        if self.refuses:
            self._fail(reference, "not-holder", "The queue of this room is not here.")
        else:
            self._outbox.send(limits.ANSWER, b'{"term":1}', reference)


class FakeHolder:
    """Inside one event loop. heard: messages and bytes of the helper's wire."""

    def __init__(self, relay: str, *, refuses: bool = False) -> None:
        self.tab = FakeTab()
        self.heard: list[Any] = []
        self.link: HolderLink | None = None
        self._refuses, self._cipher = refuses, trystero.Cipher(ROOM, "")
        topics = [trystero.topic(ROOM), trystero.topic(ROOM, ID)]
        self._relay = Relay(relay, topics, announcement={"peerId": ID}, heard=self._from_relay)
        self._offered = False
        self._tasks: list[asyncio.Task[None]] = []
        self.tab.control.on("message", lambda text: self._from_helper(json.loads(text)))

    async def run(self) -> None:
        try:
            await self._relay.run()
        finally:
            await self.tab.rtc.close()

    def holds(self, holds: bool) -> None:
        self.tab.say({**HELLO, "about": {"queue": {"holds": holds, "term": 1}}})

    def _from_relay(self, relay: Relay, topic: str, content: dict[str, Any]) -> None:
        peer_id = content["peerId"]
        if peer_id == ID:
            return
        if "answer" in content:
            self._begin(self._answered(self._cipher.open(content["answer"])))
        elif not self._offered:
            self._offered = True
            self._begin(self._offer(peer_id))

    async def _offer(self, peer_id: str) -> None:
        sealed = self._cipher.seal(await self.tab.offer())
        said = {"peerId": ID, "offer": sealed, "offerId": "first"}
        await self._relay.publish(trystero.topic(ROOM, peer_id), said)

    async def _answered(self, answer: str) -> None:
        await self.tab.answered(answer)
        self.tab.trystero(trystero.READY)

    def _from_helper(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "net.hello", "heard": False}:
                self.holds(True)
            case {"type": "net.open", "number": number, "label": label}:
                channel = self.tab.rtc.createDataChannel(label, negotiated=True, id=number)
                self.link = HolderLink(
                    channel, receive=self.heard.append, receive_bytes=self.heard.append
                )
                self.link.refuses = self._refuses
                self.tab.say({"type": "net.opened", "number": number})

    def _begin(self, work: Any) -> None:
        self._tasks.append(asyncio.ensure_future(work))
