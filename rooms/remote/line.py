"""The helper's end of its WebSocket at a site."""

import json
import ssl
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from rooms.remote.address import Admission
from rooms.remote.conversation import Conversation, LineClosedError, Message
from rooms.uploads import PIECE_BYTES, pieces_of


class Line(Conversation):
    """A socket."""

    _socket: ClientConnection

    def __init__(self, admission: Admission, *, verify: bool = True) -> None:
        self._admission, self._verify = admission, verify
        self._sending = threading.Lock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._socket = self._open.enter_context(
                connect(
                    self._admission.socket,
                    additional_headers={"Authorization": f"Bearer {self._admission.token}"},
                    ssl=self._certificates(),
                    max_size=max(2 * PIECE_BYTES, 2**20),
                    compression=None,  # latents and pictures hardly shrink
                )
            )
        except InvalidStatus as error:
            refused = error.response.status_code in (403, 404)
            raise LineClosedError(str(error), refused=refused) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise LineClosedError(str(error)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._open.close()

    def _certificates(self) -> ssl.SSLContext | None:
        if not self._admission.socket.startswith("wss:"):
            return None
        context = ssl.create_default_context()
        if not self._verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def close(self) -> None:
        self._socket.close()

    def _send(self, message: Message, data: bytes) -> None:
        try:
            with self._sending:
                self._socket.send(json.dumps(message))
                for piece in pieces_of(data):
                    self._socket.send(piece)
        except ConnectionClosed as error:
            raise LineClosedError(str(error)) from error

    def _received(self) -> object:
        try:
            heard = self._socket.recv()
            return heard if isinstance(heard, bytes) else json.loads(heard)
        except ConnectionClosed as error:
            raise LineClosedError(str(error)) from error
        except (ValueError, RecursionError) as error:
            raise LineClosedError("What came is no message.") from error
