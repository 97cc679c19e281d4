"""A real Redis that hangs or forgets: what people do goes on, and hints come again after it."""

import asyncio
import contextlib
import time

import pytest
import redis

from p2pweb.hint_layer import GIVE_UP_SECONDS, HintLayer
from tests.genqueue.servers import hanging, redis_server

pytestmark = pytest.mark.redis

HINT = {"type": "room.changed", "room": "kitchen", "revision": 1}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@contextlib.asynccontextmanager
async def listener(url: str):
    """A layer, and a task that waits for one hint at the kitchen."""
    layer = HintLayer(url)
    channel = await layer.new_channel()
    await layer.group_add("room.kitchen", channel)
    waiting = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0.1)
    try:
        yield layer, waiting
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await layer.close_pools()


async def test_who_hears_nothing_for_long_still_listens(url):
    async with listener(url) as (layer, waiting):
        await asyncio.sleep(layer.brpop_timeout + 1)
        await layer.group_send("room.kitchen", HINT)
        assert (await asyncio.wait_for(waiting, 5))["revision"] == 1


async def test_a_hint_that_cannot_be_sent_costs_a_second_and_the_next_ones_nothing(url):
    async with listener(url) as (layer, waiting):
        with hanging(url):
            began = time.monotonic()
            await layer.group_send("room.kitchen", HINT)
            first = time.monotonic() - began
            for _ in range(50):
                await layer.group_send("room.kitchen", HINT)
            others = time.monotonic() - began - first
        assert first < GIVE_UP_SECONDS + 2
        assert others < 1
        assert not waiting.done()


async def test_a_page_that_joins_while_redis_hangs_gets_hints_after_it(url):
    layer = HintLayer(url)
    channel = await layer.new_channel()
    with hanging(url):
        await asyncio.wait_for(layer.group_add("room.kitchen", channel), 5)
        waiting = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0.5)
    try:
        await hinted(layer, waiting)
    finally:
        await layer.close_pools()


async def test_a_redis_that_was_started_anew_is_joined_again(url):
    async with listener(url) as (layer, waiting):
        with contextlib.closing(redis.Redis.from_url(url)) as client:
            client.flushall()
            client.client_kill_filter(_type="normal", skipme=True)
        await hinted(layer, waiting)


async def hinted(layer: HintLayer, waiting: "asyncio.Task[dict]") -> None:
    """Hints are sent again and again, as a living room does, until one comes."""
    deadline = time.monotonic() + 30
    while not waiting.done():
        assert time.monotonic() < deadline, "no hint came"
        await layer.group_send("room.kitchen", HINT)
        await asyncio.wait([waiting], timeout=0.5)
    assert waiting.result()["type"] == "room.changed"
