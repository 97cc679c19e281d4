"""Addresses of the pages. WebSockets are in rooms.routing."""

from django.urls import URLPattern, URLResolver, include, path, re_path, register_converter

from rooms import actions, check, views
from rooms.page import ROOM_ID
from rooms.relay import views as relay


class RoomIdConverter:
    regex = ROOM_ID.pattern

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class LabelConverter(RoomIdConverter):
    regex = "[0-9a-f]{1,32}"


register_converter(RoomIdConverter, "room")
register_converter(LabelConverter, "label")

of_picture = [
    path("again/", actions.again),
    path("vary/", actions.vary),
    path("delete/", actions.delete),
    path("timeline/", views.timeline),
]
of_room: list[URLPattern | URLResolver] = [
    path("", views.room),
    path("form/", actions.other_model),
    path("read-picture/", actions.read_picture),
    path("pictures/", views.older),
    path("pictures.zip", actions.pictures_zip),
    path("settings/", actions.room_settings),
    path("pause/", actions.pause),
    path("clients/<label:label>/remove/", actions.remove_client),
    path("jobs/<uuid:job_id>/cancel/", actions.cancel),
    path("jobs/<uuid:job_id>/dismiss/", actions.dismiss),
    path("jobs/<uuid:job_id>/retry/", actions.retry),
    re_path(r"^pictures/(?P<job_id>[0-9a-f-]{36})/(?P<index>[0-9]{1,4})/", include(of_picture)),
]
urlpatterns = [
    path("", views.landing),
    path("listed/", views.listed),
    path("rooms/", views.rooms),
    path("rooms/<room:room_id>/", include(of_room)),
    path("stats/", views.stats),
    path("relay/", relay.information),
    path("check/", check.page),
    path("check/kernels.safetensors", check.kernels),
]
