"""Helpers that people bring to a room: workers on other machines, joined through the API.

A helper is described once (`join`), and gets an id, a token and the names of what it may compute.
With them it opens a WebSocket (`rooms.helpers`) and is a worker of that room, as a tab is: the same
leases, the same checks of what it hands in, the same permission of the room's owner.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from diffusion.model_folder import ModelFolderError
from genqueue import actions, choices, departure, equipment, events, roster
from genqueue.admission import refuse_crowd, refuse_unwanted
from genqueue.clients import new_job_token, token_matches
from genqueue.equipment import Equipment
from genqueue.identity import identity
from genqueue.kinds import WorkerKind
from genqueue.locks import lock_room
from genqueue.models import Room, Worker
from genqueue.problems import Problem
from genqueue.transitions import WorkerState

SOCKET: Final = "/ws/rooms/{room}/helpers/{worker}/"  # rooms.routing answers there
LONGEST_NAME: Final = 40
MOST_MODELS: Final = 16


@dataclass(frozen=True, slots=True)
class Description:
    """What a helper says of itself.

    name, device: for people.  software: no GPU.  variant: how it stores weights: f32, f16, bf16.
    models: ids of the models that it has (`identity`), whatever it calls them.
    """

    name: str
    device: str
    software: bool
    variant: str
    models: frozenset[str]


@dataclass(frozen=True, slots=True)
class Joined:
    """models: names here of what the helper has, with their ids. The token is shown this once."""

    worker_id: UUID
    token: str
    models: dict[str, str]


def join(room_id: str, client_id: str, described: Description, network: str = "") -> Joined:
    """A worker of the room that has not come yet: it is `loading` until its socket opens.

    network: as `refuse_unwanted` takes it.
    Raises Problem: what that raises, `unknown-model` (422) when this site has none of its models,
    `too-many-tabs` (429).
    """
    models = _known_models(described.models)
    actions.make_room(room_id, client_id)
    token, token_hash = new_job_token()
    with transaction.atomic():
        lock_room(room_id)  # so that helpers that come at once are counted one after the other
        room = Room.objects.get(pk=room_id)
        refuse_unwanted(room, client_id, network)
        refuse_crowd(room, client_id)
        worker = Worker.objects.create(
            name=described.name,
            kind=WorkerKind.REMOTE,
            room=room,
            client=client_id,
            network=network,
            device=described.device,
            software=described.software,
            variant=described.variant,
            model_names=sorted(models),
            token_hash=token_hash,
        )
        events.announce(room_id)
    return Joined(worker.pk, token, models)


def _known_models(ids: frozenset[str]) -> dict[str, str]:
    found = {}
    for name, folder in choices.models().items():
        try:
            here = identity(folder)
        except ModelFolderError:
            continue  # the site's own workers say what is wrong with it
        if here in ids:
            found[name] = here
    if not found:
        raise Problem(
            "unknown-model",
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "This server has none of these models. They are compared by their weights, not by"
            f" name. It has: {', '.join(sorted(choices.models())) or 'none'}.",
            field="models",
        )
    return found


def known(worker_id: UUID, room_id: str, token: str) -> Worker | None:
    """The helper of this room with this id, if the token is its own."""
    row = Worker.objects.filter(pk=worker_id, kind=WorkerKind.REMOTE, room_id=room_id).first()
    return row if row is not None and token_matches(token, row.token_hash) else None


def admit(worker_id: UUID, client_id: str, said: Equipment | None = None) -> UUID:
    """Its socket is open: ready to lease. Returns the same id. said: as it computes now, where that
    is not as it said in `join`.

    Raises Problem: what `refuse_unwanted` raises, `worker-forgotten` (410).
    """
    row = Worker.objects.filter(pk=worker_id).select_related("room").first()
    if row is None or row.room is None:
        raise Problem("worker-forgotten", HTTPStatus.GONE, "The server has forgotten this helper.")
    refuse_unwanted(row.room, client_id)
    Worker.objects.filter(pk=worker_id).update(last_seen_at=timezone.now())
    if said is not None:
        equipment.record(worker_id, said)
    if row.state != WorkerState.READY:
        roster.set_state(worker_id, row.state, WorkerState.READY)
    departure.give_back(worker_id, None, "The helper connected again.")
    return worker_id
