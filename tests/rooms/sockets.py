"""The socket of a page, as tests open one."""

from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator

from genqueue.clients import COOKIE_NAME, signed
from rooms.routing import websocket_urlpatterns

application = URLRouter(websocket_urlpatterns)


class Tab:
    """One page's socket."""

    def __init__(self, person, room="kitchen", origin="http://testserver", host="testserver"):
        cookie = f"{COOKIE_NAME}={signed(person.client_id)}".encode()
        headers = [(b"host", host.encode()), (b"cookie", cookie)]
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        self.socket = WebsocketCommunicator(application, f"/ws/rooms/{room}/", headers)

    async def __aenter__(self):
        accepted, _ = await self.socket.connect(timeout=5)
        assert accepted
        return self

    async def __aexit__(self, *_):
        await self.socket.disconnect()

    async def next(self, kind):
        """The next message of this type; others before it are passed over."""
        while True:
            message = await self.socket.receive_json_from(timeout=5)
            if message["type"] == kind:
                return message

    async def changed(self, is_it):
        """The first job that was changed and is the one looked for."""
        while True:
            for job in (await self.next("room.changed"))["jobs"]:
                if is_it(job):
                    return job

    async def say(self, **message):
        await self.socket.send_json_to(message)
