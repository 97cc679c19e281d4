"""The channel layer over Redis, for hints: they may be lost, and nobody waits long for them.

- Joining, leaving and sending give up after a second. After a failure nothing is sent for a while,
  so that a Redis that hangs costs one request, or one step of a picture, that second and the others
  nothing.
- Whoever listens goes on listening through an outage, and joins its groups again after it: a Redis
  that was started anew has forgotten them.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable
from typing import Any

from channels_redis.core import RedisChannelLayer
from redis.exceptions import RedisError

from genqueue.breaker import Breaker

log = logging.getLogger(__name__)

GIVE_UP_SECONDS = 1.0
LISTEN_AGAIN_SECONDS = 1.0


class HintLayer(RedisChannelLayer):  # type: ignore[misc]
    """url: of Redis. More options: those of RedisChannelLayer but `hosts`."""

    def __init__(self, url: str, **options: Any) -> None:
        host = {
            "address": url,
            "socket_connect_timeout": GIVE_UP_SECONDS,
            # Listening is a command that answers after `brpop_timeout` at the latest. redis-py's
            # own limit is the same 5 s: it would cut off everybody to whom nothing happens.
            "socket_timeout": self.brpop_timeout + 3,
        }
        super().__init__(hosts=[host], **options)
        self._breaker = Breaker("The channel layer")
        self._groups: dict[str, set[str]] = defaultdict(set)  # of the channels of this process
        self._outside: set[str] = set()  # channels that are not in all of their groups now

    async def group_add(self, group: str, channel: str) -> None:
        self._groups[channel].add(group)
        if not await self._best_effort(super().group_add(group, channel)):
            self._outside.add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._groups[channel].discard(group)
        if not self._groups[channel]:
            del self._groups[channel]
            self._outside.discard(channel)
        await self._best_effort(super().group_discard(group, channel))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if not self._breaker.paused:
            await self._best_effort(super().group_send(group, message))

    async def receive(self, channel: str) -> dict[str, Any]:
        while True:
            try:
                if channel in self._outside:
                    for group in tuple(self._groups.get(channel, ())):
                        await super().group_add(group, channel)
                    self._outside.discard(channel)
                message: dict[str, Any] = await super().receive(channel)
                return message
            except (RedisError, OSError) as error:
                log.info("listening again in %.0f s: %s", LISTEN_AGAIN_SECONDS, error)
                self._outside.add(channel)
                await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _best_effort(self, attempt: Awaitable[None]) -> bool:
        """Whether it succeeded in time."""
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await attempt
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._breaker.failed(error)
            return False
        self._breaker.worked()
        return True
