"""GET and POST /api/queue/{room}: look at a room's queue, add a job to it."""

import re
from http import HTTPStatus
from typing import Annotated

from django.http import HttpRequest, JsonResponse
from ninja import Router
from ninja.decorators import decorate_view
from pydantic import WithJsonSchema

from genqueue import actions, choices, representation
from genqueue.api.bodies import reads_json
from genqueue.api.documentation import SETTINGS_PROBLEMS, problems
from genqueue.api.schemas import CreatedJobJson, JobRequest, RoomId
from genqueue.api.trust import (
    refuse_other_sites,
    spend_budget_of_jobs,
    spend_budget_of_rooms,
)
from genqueue.clients import client_of
from genqueue.paging import Cursor, cursor_in
from genqueue.problems import Problem
from genqueue.shapes import RoomJson

router = Router(tags=["Queue"])

Before = Annotated[
    str | None, WithJsonSchema({"type": "string", "description": "`older` of another answer"})
]
_ROOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def checked_room_id(room: str) -> str:
    """Problem 422 `invalid-room-id` for what cannot be a room's id."""
    if not _ROOM_ID.fullmatch(room):
        raise Problem(
            "invalid-room-id",
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "A room id has 1 to 64 letters, digits, hyphens and underscores (A-Z, a-z, 0-9, -, _).",
            field="room",
        )
    return room


@router.get(
    "/queue/{room}",
    response=RoomJson,
    summary="The queue of a room",
    openapi_extra=problems("invalid-room-id", "invalid-value"),
)
def get_queue(request: HttpRequest, room: RoomId, before: Before = None) -> JsonResponse:
    """The room's jobs, oldest first: state, progress of each image, position, who computes what.
    A room that nobody has used is empty.

    These are all unfinished jobs and the newest 100 that have ended. With `before`, they are the
    100 ended ones before that place."""
    room_id = checked_room_id(room)
    answer = JsonResponse(representation.room_as_json(room_id, _cursor(before)))
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _cursor(before: str | None) -> Cursor | None:
    try:
        return None if before is None else cursor_in(before)
    except ValueError as error:
        raise Problem(
            "invalid-value",
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "before: only what another answer has as `older` is a place to go on from.",
            field="before",
        ) from error


@router.post(
    "/queue/{room}",
    response={201: CreatedJobJson},
    summary="Add a job",
    openapi_extra=problems(
        "broken-json", "incomplete-body", "cross-site", "client-removed", "body-too-large",
        "wrong-content-type", "not-an-object", "missing-field", "unknown-field", "wrong-type",
        *SETTINGS_PROBLEMS, "invalid-room-id", "room-full", "client-full",
        "too-many-jobs-without-cookie", "too-many-rooms", "no-model",
    ),
)  # fmt: skip
@decorate_view(reads_json)
def post_job(request: HttpRequest, room: RoomId, job: JobRequest) -> JsonResponse:
    """Answers with the job and its token, and sets the cookie that makes the caller its owner.

    The cookie or the token cancels the job later. Other fields than those below are refused."""
    refuse_other_sites(request)
    room_id = checked_room_id(room)
    settings = choices.checked_settings(**job.model_dump())
    spend_budget_of_jobs(request)
    spend_budget_of_rooms(request, room_id)
    created, token = actions.submit_job(room_id, client_of(request), settings)
    return JsonResponse(
        {
            **representation.job_as_json(created),
            "token": token,
            "room_paused": created.room.paused,
        },
        status=HTTPStatus.CREATED,
        headers={"Location": f"/api/jobs/{created.pk}", "Cache-Control": "no-store"},
    )
