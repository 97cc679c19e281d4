"""All tabs of a room, as a helper meets them: who is here, and who keeps the queue."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from rooms.remote.webrtc import trystero
from rooms.remote.webrtc.connection import Connection
from rooms.remote.webrtc.peer import Ending, Peer
from rooms.remote.webrtc.signalling import Signalling
from rooms.remote.webrtc.strangers import rightful

_BANNED: Final = ("misbehaved", "other-version")
_GOODBYE_SECONDS: Final = 0.2  # in which goodbyes are sent before connections close
# A helper holds no queue, follows none to take it over, and has no copy of it.
_ABOUT: Final[dict[str, Any]] = {"queue": {"holds": False, "term": 0, "copy": -1}}


class Mesh:
    """Inside one event loop. on_leave: a peer that was here has gone, and why."""

    def __init__(
        self,
        room: str,
        *,
        password: str = "",
        name: str,
        relays: list[str],
        ice_servers: list[str],
        on_leave: Callable[[Peer, Ending], None] = lambda peer, why: None,
    ) -> None:
        self.id = trystero.large_id()
        self.peers: dict[str, Peer] = {}
        self.another_password = False  # of somebody who is here
        self.changed = asyncio.Event()  # set when anybody comes, goes or says something else
        self._on_leave = on_leave
        self._hello = {"name": name, "about": _ABOUT}
        self._signalling = Signalling(
            own_id=self.id, room=room, password=password, relays=relays, ice_servers=ice_servers,
            met=self._met, ended=self._disconnected, wrong_password=self._locked_out,
        )  # fmt: skip

    @property
    def reached(self) -> list[str]:
        """Relays that are connected."""
        return [relay.url for relay in self._signalling.relays if relay.is_open]

    @property
    def here(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.is_here]

    @property
    def holder(self) -> Peer | None:
        """The tab whose queue everybody follows."""
        claim = rightful([peer.claim for peer in self.here])
        return None if claim is None else self.peers[claim.id]

    async def run(self) -> None:
        """Until it is cancelled; then everybody is told, and all connections are closed."""
        signalling = asyncio.ensure_future(self._signalling.run())
        try:
            while not signalling.done():
                await asyncio.sleep(1)
                for peer in list(self.peers.values()):
                    peer.tick()
            signalling.result()
        finally:
            for peer in list(self.peers.values()):
                peer.say_goodbye()
            await asyncio.sleep(_GOODBYE_SECONDS)
            for peer in list(self.peers.values()):
                peer.end("we-left")
            signalling.cancel()
            await asyncio.gather(signalling, return_exceptions=True)

    def _met(self, peer_id: str, connection: Connection) -> None:
        peer = Peer(
            peer_id, connection, hello=self._hello, changed=lambda _: self.changed.set(),
            ended=self._ended,
        )  # fmt: skip
        self.peers[peer_id] = peer

    def _disconnected(self, peer_id: str, connection: Connection) -> None:
        peer = self.peers.get(peer_id)
        if peer is not None and peer.connection is connection:
            peer.end("closed")

    def _ended(self, peer: Peer, why: Ending) -> None:
        if self.peers.get(peer.id) is peer:
            del self.peers[peer.id]
        if why in _BANNED:
            self._signalling.banned.add(peer.id)
        if why in ("silent", "closed"):
            self._signalling.announce_again()  # it may be there yet
        self.changed.set()
        self._on_leave(peer, why)

    def _locked_out(self) -> None:
        self.another_password = True
        self.changed.set()
