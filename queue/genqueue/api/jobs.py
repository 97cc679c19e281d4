"""GET and DELETE /api/jobs/{id}: follow a job, cancel it."""

from http import HTTPStatus
from uuid import UUID

from django.http import HttpRequest, JsonResponse
from ninja import Router

from genqueue import actions, representation
from genqueue.api.documentation import problems
from genqueue.api.schemas import JobId
from genqueue.api.trust import refuse_other_sites
from genqueue.clients import bearer_token, known_client, token_matches
from genqueue.models import Job
from genqueue.problems import Problem, not_found
from genqueue.shapes import JobJson

router = Router(tags=["Jobs"])


def find_job(job_id: str) -> Job:
    """Problem 404 `no-such-job` also for what is no UUID."""
    try:
        job = actions.job_of(UUID(job_id))
    except ValueError:
        job = None
    if job is None:
        raise no_such_job()
    return job


def no_such_job() -> Problem:
    return not_found("There is no such job, or it is not yours to change.", "no-such-job")


def may_change(request: HttpRequest, job: Job) -> bool:
    """Its client (cookie), whoever has its token, and the owner of its room."""
    token = bearer_token(request)
    if token is not None and token_matches(token, job.token_hash):
        return True
    client_id = known_client(request)
    return client_id is not None and client_id in (job.client, job.room.owner)


@router.get(
    "/jobs/{job_id}",
    response=JobJson,
    summary="Follow a job",
    openapi_extra=problems("no-such-job"),
)
def get_job(request: HttpRequest, job_id: JobId) -> JsonResponse:
    return _answer(find_job(job_id))


@router.delete(
    "/jobs/{job_id}",
    response=JobJson,
    summary="Cancel a job",
    openapi_extra=problems("cross-site", "no-such-job", "already-ended"),
)
def delete_job(request: HttpRequest, job_id: JobId) -> JsonResponse:
    """Stops it within one step, and answers with it. Pictures that are finished stay.

    For the client who made it (by cookie), for whoever has its token (`Authorization: Bearer`), and
    for the owner of the room; for everybody else there is no such job. Cancelling a cancelled job
    again changes nothing."""
    refuse_other_sites(request)
    job = find_job(job_id)
    if not may_change(request, job):
        raise no_such_job()
    if not actions.cancel_job(job):
        job = find_job(job_id)
        if job.state != "cancelled":
            raise Problem(
                "already-ended",
                HTTPStatus.CONFLICT,
                f"This job is {job.state}: there is nothing left to cancel.",
                state=str(job.state),
            )
    return _answer(job)


def _answer(job: Job) -> JsonResponse:
    return JsonResponse(
        dict(representation.job_as_json(job)), headers={"Cache-Control": "no-store"}
    )
