"""WebSocket addresses. p2pweb.asgi serves what stands here: rooms for our own pages only, helpers
for whoever has a token, and the relay.
"""

from channels.security.websocket import WebsocketDenier
from channels.sessions import CookieMiddleware
from django.urls import re_path

from rooms.consumer import RoomConsumer
from rooms.helper_socket import HelperConsumer
from rooms.origin import RelayOriginValidator, SameOriginValidator
from rooms.relay.consumer import relay

_ROOM = "[A-Za-z0-9_-]{1,64}"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

_room = SameOriginValidator(CookieMiddleware(RoomConsumer.as_asgi()))
_helper = HelperConsumer.as_asgi()

websocket_urlpatterns = [
    re_path(rf"^ws/rooms/(?P<room_id>{_ROOM})/\Z", _room),
    re_path(rf"^ws/rooms/(?P<room_id>{_ROOM})/helpers/(?P<helper_id>{_UUID})/\Z", _helper),
    re_path(r"^relay/?\Z", RelayOriginValidator(relay)),
    re_path(r"", WebsocketDenier()),
]
