"""Which of the workers that people bring, tabs and helpers, may compute in a room."""

from http import HTTPStatus

from django.conf import settings

from genqueue.clients import client_label
from genqueue.kinds import WorkerKind
from genqueue.models import Room, Worker
from genqueue.problems import Problem
from genqueue.shutting_out import refuse_shut_out


def refuse_unwanted(room: Room, client_id: str, network: str = "") -> None:
    """network: a hash of where it comes from (`shutting_out.network_hash`).

    Raises Problem: `tabs-not-wanted`, `client-removed`, `shut-out`, `network-shut-out` (403).
    """
    refuse_shut_out(room, client_id, network)
    if not room.tabs_help:
        raise Problem(
            "tabs-not-wanted",
            HTTPStatus.FORBIDDEN,
            "The owner of this room does not let tabs compute in it.",
        )
    if room.removed_clients.filter(label=client_label(client_id)).exists():
        raise Problem(
            "client-removed",
            HTTPStatus.FORBIDDEN,
            "The owner of this room has removed you from it.",
        )


def refuse_crowd(room: Room, client_id: str) -> None:
    """Raises Problem: `too-many-tabs` (429). The room is locked."""
    brought = Worker.objects.online().exclude(kind=WorkerKind.CELERY)
    for here, limit in (
        (brought.filter(room=room).count(), settings.P2PWEB_LIMITS["room_tabs"]),
        (brought.filter(client=client_id).count(), settings.P2PWEB_LIMITS["client_tabs"]),
    ):
        if here >= limit:
            raise Problem(
                "too-many-tabs",
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{here} tabs compute here already; more are not allowed.",
                limit=limit,
            )
