"""The bare relay, over real sockets."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed

from genqueue import lan
from rooms.relay.outbox import TRY_AGAIN_LATER
from tests.relay import ROOT, BareRelay, bare_relay
from tests.rooms.relay.events import event, request
from tests.rooms.relay.talk import connect, end, heard, say

__all__ = ["bare_relay"]


async def test_what_one_publishes_the_other_hears(bare_relay: BareRelay):
    async with connect(bare_relay.url) as alice, connect(bare_relay.url) as bob:
        await say(alice, request("a"))
        assert await heard(alice) == ["EOSE", "a"]
        announced = event()
        await say(bob, ["EVENT", announced])
        assert await heard(bob) == ["OK", announced["id"], True, ""]
        assert await heard(alice) == ["EVENT", "a", announced]


async def test_a_relay_that_is_started_again_is_there_on_the_same_port(bare_relay: BareRelay):
    async with connect(bare_relay.url) as alice:
        assert await asyncio.to_thread(bare_relay.stop) == 0
        with pytest.raises(ConnectionClosed) as closed:
            await heard(alice)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    bare_relay.start()
    async with connect(bare_relay.url) as alice:
        await say(alice, request("a"))
        assert await heard(alice) == ["EOSE", "a"]


def test_a_plain_request_is_told_what_this_is_and_any_page_may_read_it(bare_relay: BareRelay):
    url = bare_relay.url.replace("ws:", "http:")
    asked = urllib.request.Request(url, headers={"Accept": "application/nostr+json"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.headers["Content-Type"] == "application/nostr+json"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        document = json.load(answer)
    assert document["supported_nips"] == [1, 11]
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/plain"


async def test_with_a_certificate_pages_that_came_by_https_may_connect(tmp_path):
    made = lan.certificate(tmp_path, ["127.0.0.1"])
    relay = BareRelay("--certificate", str(made.certificate), "--key", str(made.key))
    relay.start()
    try:
        trusting = ssl.create_default_context(cafile=str(made.certificate))
        async with connect(relay.url.replace("ws:", "wss:"), ssl=trusting) as alice:
            await say(alice, request("a"))
            assert await heard(alice) == ["EOSE", "a"]
    finally:
        relay.stop()


async def test_behind_a_proxy_each_of_its_visitors_is_counted_alone():
    relay = BareRelay("--behind-proxy", "--connections-of-an-address", "1")
    relay.start()

    def visitor(address: str):
        return connect(relay.url, additional_headers={"X-Forwarded-For": f"10.0.0.1, {address}"})

    try:
        async with visitor("192.0.2.1"), visitor("192.0.2.2") as bob:
            async with visitor("192.0.2.1") as third:
                assert await end(third) == ([], TRY_AGAIN_LATER)
            await say(bob, request("b"))
            assert await heard(bob) == ["EOSE", "b"]
        async with visitor("192.0.2.1") as again:
            await say(again, request("a"))
            assert await heard(again) == ["EOSE", "a"]
    finally:
        relay.stop()


@pytest.mark.parametrize(
    "arguments", [["--host", "192.0.2.1"], ["--certificate", "no-such-file.pem"]]
)
def test_a_relay_that_cannot_start_says_why_in_a_sentence(arguments):
    started = subprocess.run(
        [sys.executable, "-m", "rooms.relay", "--port", "0", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'queue'}"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert started.returncode == 1
    assert started.stderr.startswith("The relay cannot start on ")
    assert started.stderr.count("\n") == 1
