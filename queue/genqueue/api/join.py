"""POST /api/join/{room}: the server's own workers help in this room."""

import re
from http import HTTPStatus

from django.http import HttpRequest, JsonResponse
from ninja import Router

from genqueue import actions, representation
from genqueue.api.bodies import body_of
from genqueue.api.documentation import problems
from genqueue.api.rooms import checked_room_id
from genqueue.api.schemas import JoinJson, RoomId
from genqueue.api.trust import refuse_other_sites
from genqueue.clients import client_label, known_client
from genqueue.models import Room
from genqueue.problems import Problem

router = Router(tags=["Queue"])

_EMPTY_FORM = re.compile(rb"--[\x21-\x7e]{1,70}--\s*")


@router.post(
    "/join/{room}",
    response=JoinJson,
    summary="Let the server's worker help",
    openapi_extra=problems("cross-site", "client-removed", "body-not-expected", "invalid-room-id"),
)
def post_join(request: HttpRequest, room: RoomId) -> JsonResponse:
    """Without a body: the server's own workers help in this room from now on. Asking again
    changes nothing, nor does asking for a room that nobody has used: there they help anyway."""
    refuse_other_sites(request)
    room_id = checked_room_id(room)
    if not _says_nothing(body_of(request)):
        raise Problem(
            "body-not-expected",
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "Send no body: only the server's own workers can join a room through this call.",
        )
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
    return JsonResponse(
        {
            "room": room_id,
            "joined": not helped,
            "detail": _what_happened(helped, len(workers)),
            "workers": workers,
        },
        headers={"Cache-Control": "no-store"},
    )


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
