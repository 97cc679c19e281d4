"""What the views of one room share: who looks, the room as it is, and how to answer.

With htmx an answer is a partial; without JavaScript a whole page, or a redirect back to it.
"""

import json
import re
from functools import cache, cached_property
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import segno
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.safestring import SafeString, mark_safe

from genqueue import actions
from genqueue.api.trust import spend_budget_of_jobs, spend_budget_of_rooms
from genqueue.clients import client_label, client_of
from genqueue.models import Image, Room
from genqueue.paging import Cursor
from genqueue.problems import Problem
from genqueue.transitions import ImageState
from rooms import people, presence, slots, state
from rooms.forms import GenerateForm, blank_form
from rooms.slots import Viewer

MODULES_ELSEWHERE = ("landing.js", "check.js")  # of other pages
ROOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
PRIVATE_ID = re.compile(r"[A-Za-z0-9_-]{22}-private")  # as static/js/room/invitation.js makes them
LONGEST_CHOSEN_ID = 20  # random ones have 22 characters


class RoomPage:
    """One request about one room."""

    def __init__(self, request: HttpRequest, room_id: str) -> None:
        self.request = request
        self.room_id = room_id
        self._over_budget = _over_budget(request)  # before a cookie makes them known
        self.client = client_of(request)

    @cached_property
    def row(self) -> Room | None:
        return Room.objects.filter(pk=self.room_id).first()

    @cached_property
    def viewer(self) -> Viewer:
        owner = self.row is not None and self.row.owner == self.client
        return Viewer(label=client_label(self.client), owner=owner)

    @property
    def url(self) -> str:
        return f"/rooms/{self.room_id}/"

    def view(self) -> dict[str, Any]:
        """The room for the templates: the slots of every partial."""
        now = state.load(self.room_id)
        jobs, head = list(now.jobs.values()), now.head
        peers = presence.peers(self.room_id)
        shares = people.Shares.of(jobs)
        waiting = sum(job["state"] in slots.WAITING for job in jobs)
        return {
            "room": self.room_id,
            "revision": now.revision,
            "title": head["title"],
            "name": name_of(head["title"], self.room_id),
            "paused": head["paused"],
            "queue": slots.queue_of(jobs, self.viewer, head["paused"]),
            "gallery": slots.gallery_of(jobs, self.viewer),
            "older": slots.older_slots(self.room_id, now.older),
            "peers": people.peers_of(peers, head, self.viewer, jobs, shares),
            "helpers": people.helpers_of(head, jobs, shares),
            "notices": slots.notice_slots(head, waiting),
        }

    def older_pictures(self, before: Cursor | None) -> HttpResponse:
        """Pictures made before this place, as a page of their own or as a part of the room's."""
        jobs, older = state.older_pictures(self.room_id, before)
        context = {
            "gallery": slots.gallery_of(jobs, self.viewer),
            "older": slots.older_slots(self.room_id, older),
            "name": name_of(self.row.title if self.row else "", self.room_id),
            "room_url": self.url,
        }
        template = "rooms/older_part.html" if is_htmx(self.request) else "rooms/older.html"
        return render(self.request, template, context)

    def image(self, job_id: str | UUID, index: str | int) -> Image:
        """A finished picture of this room; 404 otherwise."""
        try:
            key, number = UUID(str(job_id)), int(index)
        except ValueError:
            raise Http404 from None
        found = (
            Image.objects.filter(
                job_id=key, job__room_id=self.room_id, index=number, state=ImageState.DONE
            )
            .select_related("job", "job__room")
            .first()
        )
        if found is None:
            raise Http404
        return found

    def submit(self, form: GenerateForm) -> bool:
        """Add the job that the form asks for; False when the form says why not."""
        asked = form.settings()
        if asked is None:
            return False
        try:
            if self._over_budget:
                raise self._over_budget
            spend_budget_of_rooms(self.request, self.room_id)
            actions.submit_job(self.room_id, self.client, asked)
        except Problem as problem:
            form.refuse(problem)
            return False
        return True

    # Answers -------------------------------------------------------------------------------------
    def answer(
        self, form: GenerateForm | None = None, status: int = HTTPStatus.OK, **more: Any
    ) -> HttpResponse:
        """The whole page."""
        share_url = self.request.build_absolute_uri(self.url)
        context = {
            "share_url": share_url,
            "qr": qr_code(share_url),
            "modules": modules(),
            "listed": self.row is not None and self.row.listed,
            "mesh": _mesh() if settings.P2PWEB_MESH else None,
            "tabs_help": self.row is None or self.row.tabs_help,
            **more,
        }
        return self.partial("rooms/room.html", form or blank_form(), status, **context)

    def partial(
        self, template: str, form: GenerateForm | None = None, status: int = 200, **more: Any
    ) -> HttpResponse:
        context = {
            "view": self.view(),
            "viewer": self.viewer,
            "form": form,
            "room_url": self.url,
            **more,
        }
        return render(self.request, template, context, status=status)

    def changed(self, problem: Problem | None = None, gone: str = "") -> HttpResponse:
        """After an action: the lists as they are now, and what could not be done.

        gone: the id of a figure that is to leave the page, from among the older pictures too."""
        said = problem.detail if problem else ""
        status = int(problem.status) if problem else HTTPStatus.OK
        if is_htmx(self.request):
            return self.partial("rooms/changed.html", status=status, said=said, gone=gone)
        return self.answer(status=status, said=said) if problem else self.back()

    def back(self) -> HttpResponse:
        return see(self.url)


def _mesh() -> dict[str, Any]:
    """How tabs of the site meet directly. may_hide: a visitor may choose to be met over the TURN
    server alone; where the site wants that of all, there is nothing to choose."""
    ways = settings.P2PWEB_ICE
    return {
        "relays": " ".join(settings.P2PWEB_RELAYS),
        "ice": json.dumps(ways),
        "may_hide": bool(ways["turn"]) and not ways["relayOnly"],
    }


def _over_budget(request: HttpRequest) -> Problem | None:
    """Callers without our cookie share a budget of jobs by address."""
    if request.method != "POST":
        return None
    try:
        spend_budget_of_jobs(request)
    except Problem as problem:
        return problem
    return None


def name_of(title: str, room_id: str) -> str:
    """The room's title, or its id: a random one is long and says nothing, one that people chose is
    worth showing whole. Twin of nameOf in static/js/page/title.js."""
    short = room_id if len(room_id) <= LONGEST_CHOSEN_ID else room_id[:8]
    return title or f"Room {short}"


def see(address: str) -> HttpResponse:
    """303: the post is done, look there."""
    return HttpResponseRedirect(address, status=HTTPStatus.SEE_OTHER)


def is_htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def qr_code(text: str) -> SafeString:
    """Inline SVG; segno writes numbers and paths only, never the text."""
    svg = BytesIO()
    segno.make(text, error="m", micro=False).save(
        svg, kind="svg", xmldecl=False, omitsize=True, border=2, svgclass=None, lineclass=None
    )
    return mark_safe(svg.getvalue().decode())  # noqa: S308


@cache
def modules(*more: str) -> list[str]:
    """The room page's own modules, so that the browser asks for all of them at once, and those of
    `more` folders: below static/."""
    folder = Path(settings.BASE_DIR) / "static"
    paths = [path for name in ("", *more) for path in (folder / "js/page" / name).glob("*.js")]
    own = [path for path in paths if path.name not in MODULES_ELSEWHERE]
    return sorted(path.relative_to(folder).as_posix() for path in own)
