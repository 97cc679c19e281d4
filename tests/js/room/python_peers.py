"""A helper's way into a room, run beside a browser's tabs."""

import time
from typing import Any, Self

from rooms.remote.webrtc.background import Background
from rooms.remote.webrtc.mesh import Mesh
from rooms.remote.webrtc.peer import Peer


class PythonPeer:
    """Use as a context manager. left: (id, why, when) of tabs that have gone."""

    def __init__(self, relay: str, *, room: str = "kitchen", **options: Any) -> None:
        self._options = {"name": "attic", "ice_servers": [], **options}
        self._relay, self._room = relay, room
        self.left: list[tuple[str, str, float]] = []
        self.background = Background()

    def __enter__(self) -> Self:
        self.background.__enter__()
        self.mesh = self.background.call(self._made)
        self._task = self.background.start(self.mesh.run())
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self.background.__exit__()

    def _made(self) -> Mesh:
        return Mesh(self._room, relays=[self._relay], on_leave=self._on_leave, **self._options)

    def _on_leave(self, peer: Peer, why: str) -> None:
        self.left.append((peer.id, why, time.time()))

    def leave(self) -> None:
        self.background.stop(self._task)

    @property
    def id(self) -> str:
        return self.mesh.id

    @property
    def ids(self) -> set[str]:
        return {peer.id for peer in self.mesh.here}

    def peer(self, peer_id: str) -> Peer:
        return self.mesh.peers[peer_id]
