"""What people do on the room page besides asking for pictures. Every view here takes POST alone.

Each checks on the server whose thing it is: whoever made the job or owns the room, or 404.
"""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from genqueue import actions, events
from genqueue.models import Image, Job, Room
from genqueue.problems import Problem
from genqueue.transitions import ImageState, JobState
from rooms.forms import GenerateForm, blank_form, form_like, posted_form, with_defaults_of_its_model
from rooms.page import RoomPage, is_htmx
from rooms.zips import zip_of

MAX_PICTURE_BYTES = 16 * 1024 * 1024
MAX_PICTURES_IN_ZIP = 500
TITLE_CHARACTERS = 80

View = Callable[..., HttpResponseBase]


def action(run: Callable[..., HttpResponseBase | None]) -> View:
    """POST only; a refusal or nothing at all is answered with the lists as they are now."""

    @never_cache
    @require_POST
    @wraps(run)
    def view(request: HttpRequest, room_id: str, **names: Any) -> HttpResponseBase:
        page = RoomPage(request, room_id)
        try:
            return run(page, **names) or page.changed()
        except Problem as problem:
            return page.changed(problem)

    return view


# Jobs ------------------------------------------------------------------------------------------
@action
def cancel(page: RoomPage, job_id: UUID) -> None:
    """Cancelling what has ended meanwhile changes nothing."""
    actions.cancel_job(_own_job(page, job_id))


@action
def dismiss(page: RoomPage, job_id: UUID) -> None:
    """Forget what failed of a failed job; its finished pictures stay."""
    for image in _failed_images(_own_job(page, job_id)):
        actions.delete_image(image)


@action
def retry(page: RoomPage, job_id: UUID) -> None:
    """Ask once more for what failed of a failed job, with its seeds, and forget the failure."""
    job = _own_job(page, job_id)
    images = _failed_images(job)
    first, last = images[0], images[-1]
    form = _form_of(first)
    form.values["num_images"] = str(1 + last.index - first.index)
    _ask(page, form)
    for image in images:
        actions.delete_image(image)


def _failed_images(job: Job) -> list[Image]:
    """At least one, by number; 404 for a job that did not fail, or was dismissed meanwhile."""
    images = list(job.images.exclude(state=ImageState.DONE).order_by("index"))
    if job.state != JobState.FAILED or not images:
        raise Http404
    return images


def _own_job(page: RoomPage, job_id: UUID) -> Job:
    mine = Q(client=page.client) | Q(room__owner=page.client)
    found = Job.objects.filter(mine, pk=job_id, room_id=page.room_id).select_related("room").first()
    if found is None:
        raise Http404
    return found


# Pictures --------------------------------------------------------------------------------------
@action
def again(page: RoomPage, job_id: UUID, index: int) -> None:
    """The same prompt, settings and seed: the same picture."""
    _ask(page, _form_of(page.image(job_id, index)))


@action
def vary(page: RoomPage, job_id: UUID, index: int) -> None:
    """The same prompt and settings with another seed."""
    form = _form_of(page.image(job_id, index))
    form.values["seed"] = ""
    _ask(page, form)


@action
def delete(page: RoomPage, job_id: UUID, index: int) -> HttpResponse:
    image = page.image(job_id, index)
    if page.client not in (image.job.client, image.job.room.owner):
        raise Http404
    actions.delete_image(image)
    return page.changed(gone=f"picture-{image.job_id}-{image.index}")


def _form_of(image: Image) -> GenerateForm:
    job = image.job
    names = actions.SETTINGS_COLUMNS
    return form_like({name: getattr(job, name) for name in names} | {"seed": image.seed})


def _ask(page: RoomPage, form: GenerateForm) -> None:
    if not page.submit(form):
        raise Problem("not-again", form.status, " ".join(form.errors.values()))


@action
def pictures_zip(page: RoomPage) -> HttpResponseBase:
    """The chosen pictures (`picture=job/number`, as often as needed) in one file."""
    chosen = Q(pk=None)
    for choice in page.request.POST.getlist("picture")[:MAX_PICTURES_IN_ZIP]:
        job_id, _, index = choice.partition("/")
        try:
            chosen |= Q(job_id=UUID(job_id), index=int(index))
        except ValueError:
            raise Http404 from None
    in_room = Image.objects.filter(chosen, job__room_id=page.room_id, state=ImageState.DONE)
    images = list(in_room.select_related("job").order_by("job__created_at", "job_id", "index"))
    if not images:
        raise Problem("nothing-chosen", HTTPStatus.UNPROCESSABLE_ENTITY, "Select pictures first.")
    return StreamingHttpResponse(
        zip_of(images),
        content_type="application/zip",
        headers={"Content-Disposition": 'attachment; filename="pictures.zip"'},
    )


@action
def read_picture(page: RoomPage) -> HttpResponse:
    """Fill the form with the settings inside a PNG that was made here, or anywhere like here."""
    try:
        form = _form_from(page.request)
    except Problem as problem:
        typed = page.request.POST
        form = posted_form(typed) if "prompt" in typed else blank_form()
        form.refuse(problem)
    if is_htmx(page.request):
        return page.partial("rooms/form.html", form=form, status=form.status)
    return page.answer(form=form, status=form.status)


def _form_from(request: HttpRequest) -> GenerateForm:
    from diffusion.pictures import settings_from_png  # numpy and Pillow: only who needs them

    upload = request.FILES.get("picture_file")
    if upload is None:
        raise _unreadable("Choose a PNG first.")
    if (upload.size or 0) > MAX_PICTURE_BYTES:
        raise _unreadable("This file is larger than any picture made here.")
    try:
        found = settings_from_png(upload.read())
        if found is None:
            raise _unreadable("This picture holds no settings: it was not made here.")
        return form_like(found)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise _unreadable("This is not a PNG with settings that can be read.") from None


def _unreadable(why: str) -> Problem:
    return Problem("unreadable-picture", HTTPStatus.UNPROCESSABLE_ENTITY, why, field="picture_file")


@action
def other_model(page: RoomPage) -> HttpResponse:
    """The form with the sizes and defaults of the model that was chosen in it."""
    form = with_defaults_of_its_model(posted_form(page.request.POST))
    return page.partial("rooms/form.html", form=form)


# The owner's ------------------------------------------------------------------------------------
@action
def room_settings(page: RoomPage) -> HttpResponse:
    """Title, whether the front page lists the room, and whether tabs may compute in it."""
    room = _own_room(page)
    title = " ".join(page.request.POST.get("title", "").replace("\0", "").split())
    room.title = title[:TITLE_CHARACTERS]
    room.listed = "listed" in page.request.POST
    with transaction.atomic():
        Room.objects.filter(pk=room.pk).update(title=room.title, listed=room.listed)
        events.announce(room.pk)
    helps = "tabs_help" in page.request.POST
    if helps != room.tabs_help:
        actions.let_tabs_help(room, helps)
    return _owner_panel(page, room, saved=True)


@action
def pause(page: RoomPage) -> HttpResponse:
    room = _own_room(page)
    actions.pause_room(room, page.request.POST.get("paused") == "1")
    return _owner_panel(page, room)


@action
def remove_client(page: RoomPage, label: str) -> None:
    actions.remove_client(_own_room(page), label)


def _own_room(page: RoomPage) -> Room:
    if page.row is None or not page.viewer.owner:
        raise Http404
    return page.row


def _owner_panel(page: RoomPage, room: Room, saved: bool = False) -> HttpResponse:
    if not is_htmx(page.request):
        return page.back()
    return page.partial(
        "rooms/owner.html", listed=room.listed, tabs_help=room.tabs_help, saved=saved
    )
