"""The pages. Each view renders one template; htmx gets a partial of the same templates.

Without JavaScript every form here posts and is redirected (303) to its room. What is not yours,
or not there, is 404 for everybody alike.
"""

import secrets
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from genqueue import actions, choices, statistics
from genqueue import timeline_json as timelines
from genqueue.api.trust import spend_budget_of_rooms
from genqueue.clients import client_of
from genqueue.models import Image, Room
from genqueue.paging import cursor_in
from genqueue.presence import peers, visited
from genqueue.problems import Problem
from genqueue.transitions import ImageState, JobState
from rooms.forms import GenerateForm, blank_form, form_like, posted_form
from rooms.making import timeline_slots
from rooms.page import PRIVATE_ID, ROOM_ID, RoomPage, is_htmx, name_of, see

LISTED_ROOMS = 30


@never_cache
@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    client_of(request)
    return _landing(request)


def _landing(request: HttpRequest, status: int = HTTPStatus.OK, **said: str) -> HttpResponse:
    return render(request, "rooms/landing.html", {"listed": _listed(), **said}, status=status)


@never_cache
@require_safe
def listed(request: HttpRequest) -> HttpResponse:
    return render(request, "rooms/listed.html", {"listed": _listed()})


def _listed() -> list[dict[str, Any]]:
    """Rooms that their owners listed, the fullest first, each with its newest picture."""
    listed = Room.objects.filter(listed=True).with_newest_job()
    listed = listed.counting_jobs(waiting=[JobState.QUEUED, JobState.RUNNING])
    columns = ("pk", "title", "waiting", "newest_job")
    rooms = list(listed.order_by("-revision").values(*columns)[:LISTED_ROOMS])
    jobs = [room["newest_job"] for room in rooms]
    finished = Image.objects.filter(job__in=jobs, state=ImageState.DONE).order_by("-index")
    pictures = {
        image.job_id: f"/api/jobs/{image.job_id}/images/{image.index}.png" for image in finished
    }
    rows = [
        {
            "id": room["pk"],
            "title": room["title"],
            "peers": peers(room["pk"]),
            "waiting": room["waiting"],
            "picture": pictures.get(room["newest_job"]),
        }
        for room in rooms
    ]
    return sorted(rows, key=lambda row: -row["peers"])


@require_http_methods(["GET", "HEAD", "POST"])
def rooms(request: HttpRequest) -> HttpResponse:
    """POST makes a room; GET with `room` goes to that one."""
    if request.method == "POST":
        try:
            spend_budget_of_rooms(request)
        except Problem as problem:
            answer = _landing(request, status=problem.status, not_made=problem.detail)
            answer.headers["Retry-After"] = problem.headers["Retry-After"]
            return answer
        room_id = secrets.token_urlsafe(16)  # 128 bits: whoever knows it may come in
        actions.make_room(room_id, client_of(request))
        return see(f"/rooms/{room_id}/")
    if "room" not in request.GET:
        return redirect("/")
    entered = request.GET["room"].strip()
    room_id = _room_in(entered)
    if "key=" in entered:
        return _no_private_room(request)
    if ROOM_ID.fullmatch(room_id):
        return redirect(f"/rooms/{room_id}/")
    error = "A room id has 1 to 64 letters, digits, - and _. You may also paste a room's link."
    return _landing(request, status=HTTPStatus.UNPROCESSABLE_ENTITY, entered=entered, error=error)


def _no_private_room(request: HttpRequest) -> HttpResponse:
    """Its password would protect nothing here, and its people are not in this room."""
    return _landing(request, status=HTTPStatus.UNPROCESSABLE_ENTITY, no_private="shown")


def _room_in(entered: str) -> str:
    """The id in a pasted link, or what was entered."""
    try:
        parts = urlsplit(entered).path.split("/")
    except ValueError:
        return entered
    return parts[parts.index("rooms") + 1] if "rooms" in parts[:-1] else entered


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def room(request: HttpRequest, room_id: str) -> HttpResponse:
    """The room page; POST adds a job."""
    if PRIVATE_ID.fullmatch(room_id):
        return _no_private_room(request)
    page = RoomPage(request, room_id)
    if request.method == "POST":
        return _generate(page)
    visited(room_id)
    return page.answer(form=_form_asked_for(request, room_id))


@never_cache
@require_safe
def older(request: HttpRequest, room_id: str) -> HttpResponse:
    """The room's pictures from a place on (`?before=`), or from the newest one."""
    try:
        before = cursor_in(request.GET["before"]) if "before" in request.GET else None
    except ValueError:
        raise Http404 from None
    return RoomPage(request, room_id).older_pictures(before)


def _form_asked_for(request: HttpRequest, room_id: str) -> GenerateForm:
    """`?prompt=` fills in an example; `?like=job/number` the settings of a picture here."""
    job_id, _, index = request.GET.get("like", "").partition("/")
    if job_id:
        image = RoomPage(request, room_id).image(job_id, index)
        job = image.job
        return form_like(
            {name: getattr(job, name) for name in actions.SETTINGS_COLUMNS} | {"seed": image.seed}
        )
    prompt = request.GET.get("prompt", "")
    return blank_form(prompt=prompt[: choices.limits().prompt_characters])


def _generate(page: RoomPage) -> HttpResponse:
    form = posted_form(page.request.POST)
    if page.submit(form) and not is_htmx(page.request):
        return page.back()
    if not is_htmx(page.request):
        return page.answer(form=form, status=form.status)
    status = HTTPStatus.CREATED if form.status == HTTPStatus.OK else form.status
    return page.partial("rooms/generated.html", form=form, status=status)


@never_cache
@require_safe
def stats(request: HttpRequest) -> HttpResponse:
    template = "rooms/stats_now.html" if is_htmx(request) else "rooms/stats.html"
    now = statistics.snapshot()
    states = [
        {"name": name, "jobs": number, "images": now["images"].get(name, 0)}
        for name, number in now["jobs"].items()
    ]
    return render(request, template, {"stats": now, "states": states})


@never_cache
@require_safe
def timeline(request: HttpRequest, room_id: str, job_id: str, index: str) -> HttpResponse:
    """How a picture was made, for who has no JavaScript: else the large picture says it."""
    page = RoomPage(request, room_id)
    image = page.image(job_id, index)
    context = {
        "timeline": timeline_slots(timelines.as_json(image), page.viewer),
        "prompt": image.job.prompt,
        "name": name_of(page.row.title if page.row else "", room_id),
        "room_url": page.url,
    }
    return render(request, "rooms/timeline.html", context)
