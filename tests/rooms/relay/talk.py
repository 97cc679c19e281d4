"""Clients over real sockets, as tests speak through them."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SECONDS = 20  # a busy machine

__all__ = ["connect", "end", "heard", "say"]


async def say(connection: ClientConnection, *messages: object) -> None:
    for message in messages:
        raw = message if isinstance(message, str | bytes) else json.dumps(message)
        await connection.send(raw)


async def heard(connection: ClientConnection) -> list[Any]:
    return json.loads(await asyncio.wait_for(connection.recv(), SECONDS))


async def end(connection: ClientConnection) -> tuple[list[list[Any]], int]:
    """Everything that is heard until the other side closes, and its code."""
    messages = []
    with suppress(ConnectionClosed):
        async with asyncio.timeout(SECONDS):
            while True:
                messages.append(json.loads(await connection.recv()))
    assert connection.close_code is not None
    return messages, connection.close_code
