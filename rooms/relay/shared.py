"""One relay of several processes: each passes its clients' events on to the others, over Redis.

Redis' publish and subscribe is what a relay that stores nothing needs: who listens now, hears it.
What cannot be passed on is dropped, as every signal may be: Trystero repeats its own.
"""

import asyncio
import json
import logging
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from genqueue.breaker import Breaker
from rooms.relay.events import Event, RefusedError, read_event
from rooms.relay.hub import Hub

log = logging.getLogger(__name__)

WAITING_EVENTS = 2000
GIVE_UP_SECONDS = 1.0
LISTEN_AGAIN_SECONDS = 1.0
SILENCE_SECONDS = 5.0  # after which a silent Redis is asked whether it is still there


class Shared:
    """url: of Redis. Runs in the event loop in which it was made, as long as that does."""

    def __init__(self, hub: Hub, url: str) -> None:
        self._hub = hub
        self._url = url
        # Channels know nothing of Redis' numbered databases.
        self._channel = f"p2pweb.relay.{urlsplit(url).path.strip('/') or '0'}"
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(WAITING_EVENTS)
        self._breaker = Breaker("The relay's Redis")
        self._tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self._listen())]
        hub.pass_on = self.pass_on

    def pass_on(self, event: Event) -> None:
        if not self._waiting.full() and not self._breaker.paused:
            self._waiting.put_nowait(event)

    async def _publish(self) -> None:
        async with Redis.from_url(self._url, socket_connect_timeout=GIVE_UP_SECONDS) as redis:
            while True:
                event = await self._waiting.get()
                try:
                    async with asyncio.timeout(GIVE_UP_SECONDS):
                        await redis.publish(self._channel, event.text)
                except (RedisError, OSError) as error:  # TimeoutError is an OSError
                    self._breaker.failed(error)
                else:
                    self._breaker.worked()

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except (RedisError, OSError) as error:
                log.info("listening again in %.0f s: %s", LISTEN_AGAIN_SECONDS, error)
                await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _hear(self) -> None:
        connection = Redis.from_url(
            self._url,
            socket_connect_timeout=GIVE_UP_SECONDS,
            health_check_interval=SILENCE_SECONDS,
        )
        async with connection as redis, redis.pubsub() as subscribed:
            await subscribed.subscribe(self._channel)
            while True:
                message = await subscribed.get_message(timeout=SILENCE_SECONDS)
                if message is not None and message["type"] == "message":
                    self._deliver(message["data"])

    def _deliver(self, text: bytes) -> None:
        """The process that took it has verified the signature; our own events are known already."""
        try:
            event = read_event(json.loads(text), self._hub.limits)
        except (ValueError, RefusedError) as error:
            log.warning("not an event of this relay on %s: %s", self._channel, error)
        else:
            self._hub.deliver(event)
