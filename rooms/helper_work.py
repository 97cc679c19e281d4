"""A helper as a worker: what a tab is (`rooms.work`), save that it joined before its socket opened.

It says what it computes with when it begins, and again when another backend than before computes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.db import DatabaseError, InterfaceError

from genqueue import equipment, helpers
from genqueue.equipment import Equipment
from rooms.messages import MessageError
from rooms.work import Socket, TabWork


class HelperWork(TabWork):
    def __init__(self, room_id: str, client_id: str, helper_id: UUID, socket: Socket) -> None:
        super().__init__(room_id, client_id, "", socket)
        self._helper_id = helper_id

    def _admitted(self, message: dict[str, Any]) -> Callable[[], UUID]:
        said = _equipment(message) if "stores" in message else None
        return partial(helpers.admit, self._helper_id, self.client_id, said)

    async def _receive(self, command: str, message: dict[str, Any]) -> None:
        if command == "device" and self._worker_id is not None:
            await self._put_equipment(_equipment(message))
        else:
            await super()._receive(command, message)

    async def _put_equipment(self, said: Equipment) -> None:
        try:
            await database_sync_to_async(equipment.record)(self._helper_id, said)
        except (DatabaseError, InterfaceError) as error:
            # Held to what is not so, it might be shut out: it comes again and says it in its hello
            raise MessageError("later", "The database did not answer: connect again.") from error


def _equipment(message: dict[str, Any]) -> Equipment:
    """Raises MessageError."""
    device, kernels, stores = (message.get(name, "") for name in ("device", "kernels", "stores"))
    try:
        if not all(isinstance(text, str) for text in (device, kernels, stores)):
            raise ValueError("device, kernels and stores are texts")
        return Equipment(device, message.get("software") is True, kernels, stores)
    except ValueError as error:
        raise MessageError("bad-message", str(error)) from None
