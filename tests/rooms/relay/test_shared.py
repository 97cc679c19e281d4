"""One relay of two site processes, over a real Redis that may hang or forget."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import pytest
import redis

from rooms.relay.shared import GIVE_UP_SECONDS
from tests.genqueue.servers import hanging, redis_server
from tests.relay import SiteRelay
from tests.rooms.relay.events import content, event, request
from tests.rooms.relay.talk import connect, heard, say

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def relays(url, tmp_path_factory) -> Iterator[tuple[SiteRelay, SiteRelay]]:
    data = str(tmp_path_factory.mktemp("data"))
    one, other = (SiteRelay(P2PWEB_DATA_DIR=data, REDIS_URL=url) for _ in range(2))
    with contextlib.ExitStack() as stack:
        for relay in (one, other):
            relay.start_soon()
            stack.callback(relay.stop)
        for relay in (one, other):
            relay.listening()
        yield one, other


@contextlib.asynccontextmanager
async def two(relays):
    """alice, who listens at the one, and bob, at the other, when they hear of each other."""
    async with connect(relays[0].url) as alice, connect(relays[1].url) as bob:
        await say(alice, request("a"))
        assert await heard(alice) == ["EOSE", "a"]
        await meet(alice, bob)
        yield alice, bob


async def meet(alice, bob) -> None:
    """Bob announces himself again and again, as Trystero does, until alice hears it."""
    deadline = time.monotonic() + 40
    hearing = asyncio.create_task(heard_events(alice))
    try:
        while not hearing.done():
            assert time.monotonic() < deadline, "they did not hear of each other"
            await publish(bob)
            await asyncio.wait([hearing], timeout=0.3)
    finally:
        hearing.cancel()
    await asyncio.sleep(0.5)
    with contextlib.suppress(TimeoutError):  # what was on its way
        while True:
            await asyncio.wait_for(alice.recv(), 0.1)


async def heard_events(connection) -> None:
    assert (await connection.recv()).startswith('["EVENT"')


async def publish(connection, number: list[int] = [0]) -> dict:  # noqa: B006
    """An event that was never sent before, and is taken."""
    number[0] += 1
    sent = event(content=content(n=number[0]))
    await say(connection, ["EVENT", sent])
    assert (await heard(connection))[:3] == ["OK", sent["id"], True]
    return sent


async def test_what_is_published_at_one_process_is_heard_once_at_the_other(relays):
    async with two(relays) as (alice, bob):
        sent = [await publish(bob) for _ in range(20)]
        assert [(await heard(alice))[2] for _ in sent] == sent
        await say(alice, ["EVENT", sent[0]], ["EVENT", sent[1]])
        for _ in range(2):
            assert (await heard(alice))[3].startswith("duplicate: ")
        last = await publish(bob)
        assert (await heard(alice))[2] == last


async def test_while_redis_hangs_each_process_goes_on_and_after_it_they_are_one_again(relays, url):
    async with two(relays) as (alice, bob), connect(relays[0].url) as carol:
        with hanging(url):
            began = time.monotonic()
            for _ in range(20):
                sent = await publish(carol)
                assert (await heard(alice))[2] == sent
            assert time.monotonic() - began < 5
            await asyncio.sleep(GIVE_UP_SECONDS + 0.5)
        await meet(alice, bob)


async def test_after_redis_has_cut_all_connections_they_are_one_again(relays, url):
    async with two(relays) as (alice, bob):
        with contextlib.closing(redis.Redis.from_url(url)) as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)
        await meet(alice, bob)
