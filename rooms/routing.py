"""WebSocket addresses. p2pweb.asgi serves what stands here, for our own pages only."""

from channels.security.websocket import WebsocketDenier
from channels.sessions import CookieMiddleware
from django.urls import re_path

from rooms.consumer import RoomConsumer
from rooms.origin import SameOriginValidator

_room = SameOriginValidator(CookieMiddleware(RoomConsumer.as_asgi()))

websocket_urlpatterns = [
    re_path(r"^ws/rooms/(?P<room_id>[A-Za-z0-9_-]{1,64})/\Z", _room),
    re_path(r"", WebsocketDenier()),
]
