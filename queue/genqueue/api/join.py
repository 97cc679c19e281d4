"""POST /api/join/{room}: the server's own workers help in this room, or one that is described."""

import re
from http import HTTPStatus

from django.http import HttpRequest, JsonResponse
from ninja import Router
from pydantic import ValidationError

from genqueue import actions, helpers, representation
from genqueue.api.bodies import body_of, parsed
from genqueue.api.documentation import json_body, problems
from genqueue.api.errors import problem_of_validation
from genqueue.api.rooms import checked_room_id
from genqueue.api.schemas import HelperRequest, JoinJson, RoomId
from genqueue.api.trust import (
    refuse_other_sites,
    spend_budget_of_helpers,
    spend_budget_of_rooms,
)
from genqueue.clients import client_label, client_of, known_client
from genqueue.models import Room
from genqueue.problems import Problem
from genqueue.shutting_out import network_hash

router = Router(tags=["Queue"])

_EMPTY_FORM = re.compile(rb"--[\x21-\x7e]{1,70}--\s*")


@router.post(
    "/join/{room}",
    response={200: JoinJson, 201: JoinJson},
    summary="Let a worker help",
    openapi_extra=json_body(HelperRequest)
    | problems(
        "broken-json", "incomplete-body", "cross-site", "client-removed", "tabs-not-wanted",
        "body-too-large", "wrong-content-type", "not-an-object", "missing-field", "unknown-field",
        "wrong-type", "invalid-value", "invalid-room-id", "unknown-model", "too-many-tabs",
        "too-many-helpers", "too-many-rooms", "shut-out", "network-shut-out",
    ),
)  # fmt: skip
def post_join(request: HttpRequest, room: RoomId) -> JsonResponse:
    """Without a body: the server's own workers help in this room from now on. Asking again
    changes nothing, nor does asking for a room that nobody has used: there they help anyway.

    With the description of a worker: it may help in this room. The answer (201) has its `helper`:
    id, token and the address of the WebSocket over which it is given chunks."""
    refuse_other_sites(request)
    room_id = checked_room_id(room)
    body = body_of(request)
    if not _says_nothing(body):
        return _bring(request, room_id, parsed(body, request.content_type))
    found = Room.objects.filter(pk=room_id).first()
    if found is not None and _removed(found, known_client(request)):
        raise Problem(
            "client-removed",
            HTTPStatus.FORBIDDEN,
            "The owner of this room has removed you from it.",
        )
    # In a room that nobody has used they would help anyway: no row is made for it.
    helped = found is None or found.server_helps
    if found is not None and not helped:
        actions.join_server(found)
    workers = representation.room_workers(found)
    return _answer(
        HTTPStatus.OK,
        room=room_id,
        joined=not helped,
        detail=_what_happened(helped, len(workers)),
        workers=workers,
        helper=None,
    )


def _bring(request: HttpRequest, room_id: str, body: dict[str, object]) -> JsonResponse:
    try:
        wanted = HelperRequest.model_validate(body)
    except ValidationError as error:
        raise problem_of_validation(error.errors()) from error
    spend_budget_of_helpers(request)
    spend_budget_of_rooms(request, room_id)
    joined = helpers.join(
        room_id,
        client_of(request),
        helpers.Description(
            name=wanted.name,
            device=wanted.device,
            software=wanted.software,
            variant=wanted.variant,
            models=frozenset(wanted.models),
        ),
        network_hash(request.META.get("REMOTE_ADDR", "")),
    )
    return _answer(
        HTTPStatus.CREATED,
        room=room_id,
        joined=True,
        detail="Open the socket with the token as a bearer, say hello, and ask for chunks.",
        workers=representation.room_workers(Room.objects.filter(pk=room_id).first()),
        helper={
            "id": str(joined.worker_id),
            "token": joined.token,
            "socket": _socket(request, room_id, str(joined.worker_id)),
            "models": joined.models,
        },
    )


def _socket(request: HttpRequest, room_id: str, worker_id: str) -> str:
    """The socket's address on the host that the caller has called."""
    scheme = "wss" if request.is_secure() else "ws"
    path = helpers.SOCKET.format(room=room_id, worker=worker_id)
    return f"{scheme}://{request.get_host()}{path}"


def _answer(status: HTTPStatus, **members: object) -> JsonResponse:
    return JsonResponse(members, status=status, headers={"Cache-Control": "no-store"})


def _removed(room: Room, client_id: str | None) -> bool:
    """Who sends no cookie yet is nobody whom the owner could have removed."""
    if client_id is None:
        return False
    return room.removed_clients.filter(label=client_label(client_id)).exists()


def _says_nothing(body: bytes) -> bool:
    """Empty, an empty JSON object, or a form without fields: some clients cannot send less."""
    return body.strip() in (b"", b"{}") or _EMPTY_FORM.fullmatch(body) is not None


def _what_happened(helped: bool, workers: int) -> str:
    did = "already helps" if helped else "helps from now on"
    if workers == 0:
        return f"The server {did} in this room, but none of its workers is running at the moment."
    return f"The server {did} in this room."
