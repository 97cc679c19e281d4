"""Clients that mean harm or are broken, over real sockets, at the bare relay and at the site's."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from rooms.relay.outbox import TOO_MUCH
from tests.genqueue.processes import memory_mb
from tests.relay import BareRelay, RelayProcess, SiteRelay
from tests.rooms.relay.events import TOPIC, content, event, request
from tests.rooms.relay.talk import connect, end, heard, say

MEBIBYTE = 2**20


@pytest.fixture(scope="module", params=[BareRelay, SiteRelay], ids=["bare", "site"])
def relay(request, tmp_path_factory) -> Iterator[RelayProcess]:
    relay = request.param(P2PWEB_DATA_DIR=str(tmp_path_factory.mktemp("data")), REDIS_URL="")
    relay.start()
    yield relay
    assert relay.process is not None
    assert relay.process.poll() is None
    relay.stop()


async def test_rubbish_is_answered_and_closed_in_the_end_and_nobody_else_notices(relay):
    async with connect(relay.url) as alice, connect(relay.url) as bob:
        await say(alice, request("a"))
        assert await heard(alice) == ["EOSE", "a"]
        rubbish = ["", "{", "[" * 9000, b"\xff\x00" * 500, ["EVENT", 7], ["NO", 1], "x" * 70_000]
        with contextlib.suppress(ConnectionClosed):
            await say(bob, *(rubbish * 20))
        messages, code = await end(bob)
        assert code == TOO_MUCH
        assert {message[0] for message in messages} == {"NOTICE"}
        await say(alice, ["EVENT", event(content=content(n=1))])
        assert (await heard(alice))[2] is True
        assert (await heard(alice))[0] == "EVENT"


async def test_a_message_far_too_long_ends_the_connection_and_only_that(relay):
    async with connect(relay.url) as bob:
        with contextlib.suppress(ConnectionClosed):
            await say(bob, "x" * 3 * MEBIBYTE)
        messages, code = await end(bob)
        assert messages == []
        assert code in (1006, 1009)  # it may cut the connection before that is read
    async with connect(relay.url) as alice:
        await say(alice, request("a"))
        assert await heard(alice) == ["EOSE", "a"]


async def test_who_floods_is_told_then_closed_while_others_are_answered_soon(relay):
    async with connect(relay.url) as alice, connect(relay.url) as bob:
        flood = asyncio.create_task(_flood(bob))
        waits = []
        while not flood.done() or len(waits) < 10:
            began = time.monotonic()
            await say(alice, request("a", "another topic"))
            assert await heard(alice) == ["EOSE", "a"]
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.05)
        messages, code = await flood
    assert code == TOO_MUCH
    answers = [message for message in messages if message[0] == "OK"]
    taken = [answer for answer in answers if answer[2]]
    assert 2000 <= len(taken) < 3000
    assert {answer[3].partition(":")[0] for answer in answers if not answer[2]} == {"rate-limited"}
    assert sorted(waits)[len(waits) // 2] < 0.5


async def _flood(connection):
    events = [["EVENT", event(content=content(n=number))] for number in range(3000)]
    ending = asyncio.create_task(end(connection))
    with contextlib.suppress(ConnectionClosed):
        for one in events:
            await say(connection, one)
    return await ending


async def test_who_does_not_read_is_dropped_and_costs_no_memory(relay):
    """10 MB for each of eight: 77 MB, if they were kept."""
    assert relay.process is not None
    with contextlib.ExitStack() as stack:
        sleepers = [_sleeper(relay, stack) for _ in range(8)]
        before = memory_mb(relay.process.pid)
        async with connect(relay.url) as alice, connect(relay.url) as bob:
            await say(alice, request("a"))
            assert await heard(alice) == ["EOSE", "a"]
            for number in range(600):
                await say(bob, ["EVENT", event(content=content(n=number, offer="A" * 16_000))])
                assert (await heard(bob))[2] is True
                assert (await heard(alice))[0] == "EVENT"
        assert memory_mb(relay.process.pid) - before < 25
        for sleeper in sleepers:
            assert _rest_of(sleeper) < 6 * MEBIBYTE  # the system's own buffers


def _sleeper(relay: RelayProcess, stack: contextlib.ExitStack) -> socket.socket:
    """The socket of a client that has subscribed and reads no more."""
    raw = socket.socket()
    stack.enter_context(raw)
    raw.settimeout(20)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    raw.connect(("127.0.0.1", relay.port))
    raw.sendall(
        f"GET {relay.path} HTTP/1.1\r\nHost: 127.0.0.1:{relay.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
    )
    assert raw.recv(4096).startswith(b"HTTP/1.1 101 ")
    subscribe = json.dumps(request("asleep", TOPIC, "another topic")).encode()
    # A whole text frame of 126 to 65535 bytes, masked with zeros
    raw.sendall(b"\x81\xfe" + len(subscribe).to_bytes(2) + bytes(4) + subscribe)
    assert raw.recv(4096)[2:] == b'["EOSE","asleep"]'
    return raw


def _rest_of(sleeper: socket.socket) -> int:
    """How many bytes still come. Raises TimeoutError if the other side has not cut it."""
    count = 0
    with contextlib.suppress(ConnectionResetError):
        while data := sleeper.recv(65_536):
            count += len(data)
    return count


async def test_a_client_with_a_wrong_clock_keeps_its_connection_and_comes_back(relay):
    async with connect(relay.url) as alice, connect(relay.url) as bob:
        await say(alice, request("a"))
        assert await heard(alice) == ["EOSE", "a"]
        for off in (-3600, 3600):
            skewed = event(created_at=int(time.time()) + off)
            await say(bob, ["EVENT", skewed])
            assert (await heard(bob))[0] == "NOTICE"
            assert (await heard(bob))[:3] == ["OK", skewed["id"], False]
        await say(bob, ["EVENT", event(tags=[["x", TOPIC], ["y", "right"]])])
        assert (await heard(bob))[2] is True
        assert (await heard(alice))[0] == "EVENT"


async def test_half_a_handshake_and_other_protocols_harm_nobody(relay):
    for opening in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"\r\n\r\n", b"GET "):
        with socket.create_connection(("127.0.0.1", relay.port)) as raw:
            raw.sendall(opening)
    async with connect(relay.url) as alice:
        await say(alice, request("a"))
        assert await heard(alice) == ["EOSE", "a"]
