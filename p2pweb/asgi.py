"""HTTP and WebSocket entry point: `daphne p2pweb.asgi:application`, or `manage.py serve`."""

import os
from importlib import import_module

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "p2pweb.settings")

http = get_asgi_application()  # before any model is imported
stats_first = import_module("genqueue.api.shortcut").StatsFirst
sockets = import_module("rooms.routing").websocket_urlpatterns


def close_connections(**_: object) -> None:
    """Each request has a thread of its own, after which nobody could use what it leaves open."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # tests wrap their requests in one
            connection.close()


request_finished.connect(close_connections)

routes = ProtocolTypeRouter({"http": stats_first(http), "websocket": URLRouter(sockets)})
application = import_module("genqueue.site").WithDuties(routes)
