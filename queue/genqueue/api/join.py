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
from genqueue.clients import client_label, client_of
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
    changes nothing."""
    refuse_other_sites(request)
    room_id = checked_room_id(room)
    if not _says_nothing(body_of(request)):
        raise Problem(
            "body-not-expected",
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "Send no body: only the server's own workers can join a room through this call.",
        )
    client_id = client_of(request)
    made = actions.make_room(room_id, client_id)
    if made.removed_clients.filter(label=client_label(client_id)).exists():
        raise Problem(
            "client-removed",
            HTTPStatus.FORBIDDEN,
            "The owner of this room has removed you from it.",
        )
    helped = made.server_helps
    if not helped:
        actions.join_server(made)
    workers = representation.room_as_json(room_id)["workers"]
    return JsonResponse(
        {
            "room": room_id,
            "joined": not helped,
            "detail": _what_happened(helped, len(workers)),
            "workers": workers,
        },
        headers={"Cache-Control": "no-store"},
    )


def _says_nothing(body: bytes) -> bool:
    """Empty, an empty JSON object, or a form without fields: some clients cannot send less."""
    return body.strip() in (b"", b"{}") or _EMPTY_FORM.fullmatch(body) is not None


def _what_happened(helped: bool, workers: int) -> str:
    did = "already helps" if helped else "helps from now on"
    if workers == 0:
        return f"The server {did} in this room, but none of its workers is running at the moment."
    return f"The server {did} in this room."
