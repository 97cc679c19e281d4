"""A tab that a helper has met, and what tabs of ours never do."""

import asyncio

import pytest

from rooms.remote.webrtc import trystero
from rooms.remote.webrtc.connection import Connection, OfferError
from rooms.remote.webrtc.peer import ChannelError, Peer
from tests.rooms.remote.tabs import HELLO, ID, ROOM, FakeTab, soon

PASSWORD = "a-password-of-24-letters"


class Met:
    """Both ends of one connection; `ends`: why the helper's has ended."""

    def __init__(self, password: str = "") -> None:
        self.tab = FakeTab()
        self.peer: Peer | None = None
        self.ends: list[str] = []
        self.connection = Connection(ROOM, password, [], met=self._met, ended=self._ended)

    def _met(self, connection: Connection) -> None:
        self.peer = Peer(
            ID, connection, hello={"name": "attic", "about": {}}, changed=lambda peer: None,
            ended=lambda peer, why: self.ends.append(why),
        )  # fmt: skip

    def _ended(self, connection: Connection) -> None:
        if self.peer is not None:
            self.peer.end("closed")


@pytest.fixture
async def met():
    met = Met()
    await met.tab.connect(met.connection)
    met.tab.trystero(trystero.READY)
    await soon(lambda: met.tab.said)
    yield met
    await met.connection.closed()
    await met.tab.rtc.close()


async def test_both_say_who_they_are(met):
    assert met.tab.said == [
        {"type": "net.hello", "protocol": 2, "heard": False, "name": "attic", "about": {}}
    ]
    assert not met.peer.is_here
    met.tab.say({**HELLO, "heard": False, "about": {"queue": {"holds": True, "term": 2}}})
    await soon(lambda: len(met.tab.said) == 2)
    assert met.tab.said[1]["heard"] is True
    assert met.peer.is_here
    assert (met.peer.claim.holds, met.peer.claim.term) == (True, 2)
    met.tab.say({"type": "net.beat", "number": 7})
    await soon(lambda: met.tab.said[-1] == {"type": "net.heard", "number": 7})


@pytest.mark.parametrize(
    "wrong", ["", "{", "[]", '{"type":7}', '{"type":"a","b":"' + "x" * 16_384 + '"}']
)
async def test_what_is_no_message_ends_the_connection(met, wrong):
    met.tab.say(wrong)
    await soon(lambda: met.ends)
    assert met.ends == ["misbehaved"]


async def test_too_many_messages_end_the_connection(met):
    for _ in range(1200):  # all at once: a connection of two slow machines takes them in one by one
        met.peer._control.emit("message", '{"type":"any.thing"}')
    assert met.ends == ["misbehaved"]


async def test_another_version_is_not_met(met):
    met.tab.say({**HELLO, "protocol": 1})
    await soon(lambda: met.ends)
    assert met.ends == ["other-version"]


async def test_who_says_nothing_is_gone_after_nine_seconds_of_ticks(met):
    met.tab.say(HELLO)
    await soon(lambda: met.peer.is_here)
    for _ in range(9):
        met.peer.tick()
    assert met.ends == []
    met.peer.tick()
    assert met.ends == ["silent"]


async def test_goodbye_is_heard(met):
    met.tab.say(HELLO)
    met.tab.say({"type": "net.leave"})
    await soon(lambda: met.ends)
    assert met.ends == ["left"]


async def test_a_helper_takes_no_channels(met):
    for number in (12, "12", None, -1):
        met.tab.say({"type": "net.open", "number": number, "label": "queue"})
    await soon(lambda: len(met.tab.said) == 5)
    assert [said["number"] for said in met.tab.said[1:]] == [12, None, None, None]
    assert {said["type"] for said in met.tab.said[1:]} == {"net.refused"}


async def test_a_channel_is_had_when_the_other_end_says_so(met):
    opening = asyncio.ensure_future(met.peer.open_channel("queue"))
    await soon(lambda: met.tab.said[-1]["type"] == "net.open")
    number = met.tab.said[-1]["number"]
    assert number % 2 == 1
    for other in (number + 2, str(number), None, [number]):
        met.tab.say({"type": "net.opened", "number": other})
    theirs = met.tab.rtc.createDataChannel("queue", negotiated=True, id=number)
    met.tab.say({"type": "net.opened", "number": number})
    channel = await opening
    came = []
    theirs.on("message", came.append)
    channel.send(b"bytes")
    await soon(lambda: came == [b"bytes"])


async def test_who_waits_for_a_channel_hears_when_the_tab_goes(met):
    opening = asyncio.ensure_future(met.peer.open_channel("queue"))
    await soon(lambda: met.tab.said[-1]["type"] == "net.open")
    met.tab.say({"type": "net.leave"})
    with pytest.raises(ChannelError, match="gone"):
        await opening
    with pytest.raises(ChannelError, match="gone"):
        await met.peer.open_channel("queue")


async def test_sound_and_pictures_are_not_taken(met):
    connection = Connection(ROOM, "", [], met=lambda _: None, ended=lambda _: None)
    offer = await met.tab.offer()
    for wrong in ("", "v=0", offer + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", offer[:40]):
        with pytest.raises(OfferError):
            await connection.answer(wrong)
    await connection.closed()


@pytest.mark.parametrize(
    "candidate",
    ["", "{", "[]", '{"candidate":7}', '{"candidate":"candidate:x"}', '{"candidate":""}'],
)
async def test_candidates_that_are_none_are_passed_over(met, candidate):
    await met.connection.add_candidate(candidate)
    met.tab.say(HELLO)
    await soon(lambda: met.peer.is_here)


async def test_in_a_private_room_it_proves_what_it_knows():
    met = Met(PASSWORD)
    await met.tab.connect(met.connection)
    met.tab.trystero(trystero.READY)
    met.tab.trystero(trystero.HANDSHAKE, {"__trystero_pw": "challenge", "c": "abc"})
    await soon(lambda: len(met.tab.frames) == 2)
    proof = trystero.proof("abc", ROOM, PASSWORD)
    assert met.tab.frames == [
        (trystero.HANDSHAKE, {"__trystero_pw": "response", "h": proof}),
        (trystero.READY, ""),
    ]
    assert met.peer is not None
    await met.connection.closed()
    await met.tab.rtc.close()


async def test_in_a_private_room_nobody_is_met_who_does_not_ask_for_a_proof():
    met = Met(PASSWORD)
    await met.tab.connect(met.connection)
    met.tab.trystero(trystero.READY)
    met.tab.trystero(trystero.HANDSHAKE, {"__trystero_pw": "challenge", "c": 7})
    await asyncio.sleep(0.3)
    assert met.tab.frames == []
    assert met.peer is None
    await met.connection.closed()
    await met.tab.rtc.close()
