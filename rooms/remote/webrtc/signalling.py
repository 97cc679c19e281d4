"""Who is in the room: announces this end over relays, and answers those who offer to connect.

Twin of the answering half of static/js/vendor/trystero-core/signal-handler.mjs.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

from rooms.remote.webrtc import trystero
from rooms.remote.webrtc.connection import MEETS_WITHIN_SECONDS, Connection, OfferError
from rooms.remote.webrtc.nostr import Relay
from rooms.remote.webrtc.strangers import is_peer_id

MOST_PEERS: Final = 64
_MOST_GREETED: Final = 1024  # remembered, and of these each is greeted once in a while
_GREETED_AGAIN_SECONDS: Final = 5.0
_MOST_EARLY: Final = 64  # candidates that came before their offer
_LONGEST_OFFER_ID: Final = 64
_LONGEST_CANDIDATE: Final = 2048  # sealed


class Signalling:
    """met: somebody is connected. wrong_password: somebody is here who has another one."""

    def __init__(
        self,
        *,
        own_id: str,
        room: str,
        password: str,
        relays: list[str],
        ice_servers: list[str],
        met: Callable[[str, Connection], None],
        ended: Callable[[str, Connection], None],
        wrong_password: Callable[[], None],
    ) -> None:
        self._own_id, self._room, self._password = own_id, room, password
        self._ice_servers, self._cipher = ice_servers, trystero.Cipher(room, password)
        self._met, self._ended, self._wrong_password = met, ended, wrong_password
        self._connections: dict[str, Connection] = {}
        self._offers: dict[str, str] = {}  # by peer: id of the one that is being answered
        self._early: OrderedDict[tuple[str, str], list[str]] = OrderedDict()
        self._greeted: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.banned: set[str] = set()
        topics = [trystero.topic(room), trystero.topic(room, own_id)]
        self._root = topics[0]
        self.relays = [
            Relay(url, topics, announcement={"peerId": own_id}, heard=self._heard) for url in relays
        ]

    async def run(self) -> None:
        """Until it is cancelled; then all connections are closed."""
        try:
            async with asyncio.TaskGroup() as group:
                for relay in self.relays:
                    group.create_task(relay.run())
        finally:
            for task in list(self._tasks):
                task.cancel()
            for connection in list(self._connections.values()):
                await connection.closed()

    def announce_again(self) -> None:
        for relay in self.relays:
            relay.announce_again()

    # From relays ---------------------------------------------------------------------------------
    def _heard(self, relay: Relay, topic: str, content: dict[str, Any]) -> None:
        peer_id = content.get("peerId")
        if not is_peer_id(peer_id) or peer_id == self._own_id or peer_id in self.banned:
            return
        assert isinstance(peer_id, str)
        offer, candidate = content.get("offer"), content.get("candidate")
        offer_id = content.get("offerId", "")
        if not isinstance(offer_id, str) or len(offer_id) > _LONGEST_OFFER_ID:
            return
        if isinstance(offer, str):
            self._begin(self._answer(relay, peer_id, offer, offer_id))
        elif isinstance(candidate, str) and len(candidate) <= _LONGEST_CANDIDATE:
            self._take_candidate(peer_id, candidate, offer_id)
        elif topic == self._root and not {"answer", "candidate"} & content.keys():
            self._greet(relay, peer_id)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _greet(self, relay: Relay, peer_id: str) -> None:
        """Somebody has announced itself: it is to offer, since its id is the smaller one."""
        if peer_id in self._connections or peer_id > self._own_id:
            return
        now = asyncio.get_running_loop().time()
        key = (relay.url, peer_id)
        if now - self._greeted.get(key, float("-inf")) < _GREETED_AGAIN_SECONDS:
            return
        self._greeted[key] = now
        self._greeted.move_to_end(key)
        if len(self._greeted) > _MOST_GREETED:
            self._greeted.popitem(last=False)
        self._begin(self._publish(relay, peer_id, {}))

    async def _publish(self, relay: Relay, peer_id: str, content: dict[str, Any]) -> None:
        topic = trystero.topic(self._room, peer_id)
        await relay.publish(topic, {"peerId": self._own_id, **content})

    # Connections ---------------------------------------------------------------------------------
    async def _answer(self, relay: Relay, peer_id: str, sealed: str, offer_id: str) -> None:
        if peer_id in self._connections or len(self._connections) >= MOST_PEERS:
            return
        try:
            offer = self._cipher.open(sealed)
        except trystero.SealError:
            self._wrong_password()
            return
        connection = Connection(
            self._room,
            self._password,
            self._ice_servers,
            met=lambda who: self._met(peer_id, who),
            ended=lambda who: self._over(peer_id, who),
        )
        self._connections[peer_id] = connection
        self._offers[peer_id] = offer_id
        try:
            async with asyncio.timeout(MEETS_WITHIN_SECONDS):
                answer = self._cipher.seal(await connection.answer(offer))
                for candidate in self._early.pop((peer_id, offer_id), []):
                    await self._add(connection, candidate)
                said = {"answer": answer, **({"offerId": offer_id} if offer_id else {})}
                await self._publish(relay, peer_id, said)
        except (OfferError, TimeoutError):
            connection.close()
            return
        await asyncio.sleep(MEETS_WITHIN_SECONDS)
        if not connection.has_met:
            connection.close()

    def _take_candidate(self, peer_id: str, candidate: str, offer_id: str) -> None:
        connection = self._connections.get(peer_id)
        if connection is not None and self._offers[peer_id] == offer_id:
            if connection.rtc.remoteDescription is not None:
                self._begin(self._add(connection, candidate))
                return
        elif connection is not None:
            return
        early = self._early.setdefault((peer_id, offer_id), [])
        if len(early) < _MOST_EARLY:
            early.append(candidate)
        if len(self._early) > MOST_PEERS:
            self._early.popitem(last=False)

    async def _add(self, connection: Connection, sealed: str) -> None:
        try:
            candidate = self._cipher.open(sealed)
        except trystero.SealError:
            return
        await connection.add_candidate(candidate)

    def _over(self, peer_id: str, connection: Connection) -> None:
        if self._connections.get(peer_id) is connection:
            del self._connections[peer_id]
            del self._offers[peer_id]
        self._ended(peer_id, connection)
