"""The relay by itself: a WebSocket server without Django.

Every path is the relay; a plain GET is answered with the NIP-11 document or a sentence. For a
client that does not read nothing is kept but its outbox: the library takes nothing more from us
once the system's buffers are full.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from ssl import SSLContext

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from rooms.relay import information
from rooms.relay.client import Client, CrowdedError
from rooms.relay.hub import Hub
from rooms.relay.outbox import TRY_AGAIN_LATER, Outbox

# Of the library: among others every visitor that speaks no WebSocket
log = logging.getLogger("rooms.relay.connections")


class Bare:
    """behind_proxy: an address is what the nearest proxy wrote last into X-Forwarded-For."""

    def __init__(self, hub: Hub, *, behind_proxy: bool = False) -> None:
        self.hub = hub
        self._behind_proxy = behind_proxy

    @asynccontextmanager
    async def listening(
        self, host: str, port: int, tls: SSLContext | None = None
    ) -> AsyncIterator[int]:
        """The port. At the end every connection is closed with the code 1001 (going away)."""
        async with serve(
            self._talk,
            host,
            port,
            ssl=tls,
            process_request=self._plain,
            server_header=None,
            compression=None,  # what is encrypted does not shrink
            max_size=4 * self.hub.limits.message_bytes,  # up to that we say what is wrong
            close_timeout=2,
            logger=log,
        ) as server:
            yield next(iter(server.sockets)).getsockname()[1]

    async def _talk(self, connection: ServerConnection) -> None:
        outbox = Outbox(self.hub.limits)
        try:
            client = Client(self.hub, self._address(connection), outbox)
        except CrowdedError:  # those who are told so come again in seconds
            await connection.close(TRY_AGAIN_LATER)
            return
        sending = asyncio.create_task(_send(connection, outbox))
        dropping = asyncio.create_task(_drop(connection, outbox))
        try:
            async for message in connection:
                client.receive(message)
                await asyncio.sleep(0)  # others get their turn, however much waits here
        except ConnectionClosed:
            pass
        finally:
            client.leave()
            sending.cancel()
            dropping.cancel()
            await asyncio.gather(sending, dropping, return_exceptions=True)

    def _address(self, connection: ServerConnection) -> str:
        request = connection.request
        if self._behind_proxy and request is not None:
            forwarded = request.headers.get_all("X-Forwarded-For")
            if forwarded:
                return forwarded[-1].rpartition(",")[2].strip()
        remote = connection.remote_address
        return str(remote[0]) if remote else "unknown"

    def _plain(self, _connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a request that is not for a WebSocket."""
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return None
        if request.method == "OPTIONS":
            return _response(HTTPStatus.NO_CONTENT, "text/plain", b"")
        if information.wants_document(",".join(request.headers.get_all("Accept"))):
            body = json.dumps(information.document(self.hub.limits)).encode()
            return _response(HTTPStatus.OK, information.CONTENT_TYPE, body)
        return _response(HTTPStatus.OK, "text/plain", information.FOR_PEOPLE.encode())


async def _send(connection: ServerConnection, outbox: Outbox) -> None:
    try:
        while (text := await outbox.next()) is not None:
            await connection.send(text)
        await connection.close(outbox.code or 1000)
    except ConnectionClosed:
        pass


async def _drop(connection: ServerConnection, outbox: Outbox) -> None:
    await outbox.dropped.wait()
    connection.transport.abort()


def _response(status: HTTPStatus, content_type: str, body: bytes) -> Response:
    headers = Headers({**information.CORS, "Content-Type": content_type, "Connection": "close"})
    if status is not HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(body))
    return Response(status.value, status.phrase, headers, body)
