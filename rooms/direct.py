"""What a tab may have directly from another one, which computed it, and need not be sent.

The tab is told where a tensor is and what its SHA-256 is, so that no other tab can give it another
one. What it cannot have in time it asks the server for (`work.fetch`): the server has all of it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from diffusion.tensors import to_bytes
from genqueue import handing
from genqueue.makers import makers
from genqueue.partners import Partner
from genqueue.protocol import Lease
from rooms import presence
from rooms.messages import DirectJson

LATENT = "latent"  # a tensor of this name is of the image, all others are of the job's texts


@dataclass(frozen=True, slots=True)
class Maker:
    """A tab that has computed something. mesh: its id among tabs that talk directly."""

    worker: UUID
    mesh: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes along with a lease: bytes (safetensors, or nothing), what is fetched, and who gives
    that, by the name of the tensor."""

    data: bytes = b""
    direct: list[DirectJson] = field(default_factory=list)
    givers: dict[str, Partner] = field(default_factory=dict)


def peers_of(lease: Lease, own: str) -> dict[str, Maker]:
    """Tabs that talk directly, by what they have computed: `latent`, `texts`.

    own: the id of the tab that has the lease; without one it talks to nobody. Nor does one that
    computes afresh: of a check nobody is told."""
    if not own or lease.fresh:
        return {}
    made = makers(lease)
    by_kind = {LATENT: made.latent, "texts": made.conditioning}
    met = presence.mesh_of(lease.room_id, [worker for worker in by_kind.values() if worker])
    found = {kind: Maker(worker, met[worker]) for kind, worker in by_kind.items() if worker in met}
    return {kind: maker for kind, maker in found.items() if maker.mesh != own}


def parcel(tensors: Mapping[str, Any], peers: Mapping[str, Maker]) -> Parcel:
    """tensors: as `handing.needed` gives them."""
    sent: dict[str, Any] = {}
    direct: list[DirectJson] = []
    givers = {}
    for name, tensor in tensors.items():
        peer = peers.get(LATENT if name == LATENT else "texts")
        if peer is None or not tensor.size:
            sent[name] = tensor
            continue
        digest = hashlib.sha256(tensor.astype("<f4", copy=False).tobytes()).hexdigest()
        offer = DirectJson(name=name, peer=peer.mesh, sha256=digest, shape=list(tensor.shape))
        direct.append(offer)
        givers[name] = Partner(str(peer.worker), "gave", 0, 4 * tensor.size, 0)
    return Parcel(to_bytes(sent) if sent else b"", direct, givers)


def tensors(lease: Lease, names: frozenset[str]) -> bytes:
    """These, after all. Raises what `handing.needed` does."""
    found = handing.needed(lease, handing.InMemory())
    return to_bytes({name: tensor for name, tensor in found.items() if name in names})
