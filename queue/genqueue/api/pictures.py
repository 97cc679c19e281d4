"""GET /api/jobs/{id}/images/{n}.png and .../preview.webp: bytes that never change once written.

A picture is named by its job and number and is finished when it exists; a preview is named by its
step too. Both may be kept by browsers and caches for ever. .../timeline says how it was made.
"""

from http import HTTPStatus
from typing import Annotated

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.utils.cache import get_conditional_response
from ninja import Router
from pydantic import WithJsonSchema

from genqueue import files, timeline_json
from genqueue.api.documentation import binary, problems
from genqueue.api.jobs import find_job
from genqueue.api.schemas import ImageNumber, JobId
from genqueue.models import Image
from genqueue.problems import not_found
from genqueue.shapes import TimelineJson
from genqueue.transitions import ImageState

router = Router(tags=["Jobs"])

FOR_EVER = "public, max-age=31536000, immutable"

Step = Annotated[
    int | None, WithJsonSchema({"type": "integer", "minimum": 1, "description": "absent: newest"})
]


@router.get(
    "/jobs/{job_id}/images/{number}.png",
    summary="A finished picture",
    openapi_extra=binary("image/png", problems("no-such-job", "no-such-picture")),
)
def get_picture(request: HttpRequest, job_id: JobId, number: ImageNumber) -> HttpResponse:
    """The PNG carries prompt and settings. 404 while the picture is not finished."""
    image = _find_image(job_id, number)
    if image.state != ImageState.DONE:
        raise not_found("This picture is not finished.", "no-such-picture")
    etag = f'"{image.job_id}-{image.index}"'
    return _bytes(request, image.picture, "image/png", FOR_EVER, etag)


@router.get(
    "/jobs/{job_id}/images/{number}/preview.webp",
    summary="A picture in the making",
    openapi_extra=binary(
        "image/webp",
        problems("no-such-job", "no-such-picture", "wrong-type"),
        moved="the picture is finished, and there",
    ),
)
def get_preview(
    request: HttpRequest, job_id: JobId, number: ImageNumber, step: Step = None
) -> HttpResponse:
    """Small and rough. Previews are removed when the picture is finished: then it redirects there.

    A page that was told of the last preview may ask for it a moment too late.
    """
    image = _find_image(job_id, number)
    if image.state == ImageState.DONE:
        picture = HttpResponseRedirect(f"/api/jobs/{image.job_id}/images/{image.index}.png")
        picture.headers["Cache-Control"] = "no-store"
        return picture
    shown = image.preview_step if step is None else step
    if shown is None or not 1 <= shown <= (image.preview_step or 0):
        raise not_found("There is no preview of this step.", "no-such-picture")
    caching = "no-store" if step is None else FOR_EVER
    etag = f'"{image.job_id}-{image.index}-{shown}"'
    return _bytes(request, files.preview_name(image, shown), "image/webp", caching, etag)


@router.get(
    "/jobs/{job_id}/images/{number}/timeline",
    response=TimelineJson,
    summary="How a picture was made",
    openapi_extra=problems("no-such-job", "no-such-picture"),
)
def get_timeline(request: HttpRequest, job_id: JobId, number: ImageNumber) -> JsonResponse:
    """Who computed which steps, when, and what went wrong. It stays as long as the picture."""
    image = _find_image(job_id, number)
    return JsonResponse(dict(timeline_json.as_json(image)), headers={"Cache-Control": "no-store"})


def _find_image(job_id: str, number: str) -> Image:
    job = find_job(job_id)
    short_number = number.isascii() and number.isdigit() and len(number) <= 4
    image = job.images.filter(index=int(number)).first() if short_number else None
    if image is None:
        raise not_found("This job has no picture with this number.", "no-such-picture")
    return image


def _bytes(
    request: HttpRequest, name: str, content_type: str, caching: str, etag: str
) -> HttpResponse:
    unchanged = get_conditional_response(request, etag=etag)
    if unchanged is not None and unchanged.status_code == HTTPStatus.NOT_MODIFIED:
        answer = HttpResponse(status=HTTPStatus.NOT_MODIFIED)
    else:
        try:
            answer = HttpResponse(files.read(name), content_type=content_type)
        except FileNotFoundError as error:
            raise not_found("This picture is no longer there.", "no-such-picture") from error
    answer.headers["Cache-Control"] = caching
    answer.headers["ETag"] = etag
    return answer
