"""The Python end of a link, against itself and against what no honest end sends. Against the tabs'
own: tests/js/room/test_python_peer.py."""

import asyncio
import hashlib

import pytest

from rooms.remote.webrtc import frames, inbox, limits, outbox
from rooms.remote.webrtc.frames import TransferError
from rooms.remote.webrtc.link import Link
from tests.rooms.remote.channels import MemoryChannel, pair


class End:
    """A link and all that it was told."""

    def __init__(self, channel: MemoryChannel) -> None:
        self.channel = channel
        self.heard: list[object] = []
        self.ends: list[str] = []
        self.link = Link(
            channel,
            receive=self.heard.append,
            receive_bytes=self.heard.append,
            closed=lambda error: self.ends.append(error.code),
        )

    def said(self) -> list[frames.Frame]:
        return [frames.parse(data) for data in self.channel.sent]


async def turns() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.fixture
async def alone():
    end = End(MemoryChannel())
    yield end
    end.link.close()


@pytest.fixture
async def both():
    one, other = (End(channel) for channel in pair())
    yield one, other
    one.link.close()
    await turns()


async def test_messages_and_bytes_arrive_in_order_and_nothing_is_left(both):
    one, other = both
    data = bytes(range(256)) * 40_000  # ten megabytes: more than a window
    one.link.send({"type": "first"})
    one.link.send_bytes(data)
    one.link.send({"type": "last"})
    async with asyncio.timeout(20):
        await one.link.heard()
    assert other.heard == [{"type": "first"}, data, {"type": "last"}]
    assert one.link.buffered == 0
    assert (one.ends, other.ends) == ([], [])


async def test_a_changed_byte_ends_the_link_on_both_sides(both):
    one, other = both
    block = frames.BLOCK

    def spoil(frame: bytes) -> bytes:
        return frame[:-1] + bytes([frame[-1] ^ 1]) if frame[2] == block else frame

    one.channel.changes = spoil
    one.link.send_bytes(bytes(100_000))
    await turns()
    assert (other.heard, other.ends, one.ends) == ([], ["corrupt"], ["corrupt"])


@pytest.mark.parametrize(
    "frame",
    [
        "text",
        b"",
        b"TW",
        bytes(20),
        frames.whole(1, limits.MESSAGE, 0, b"{}")[:-1],
        frames.whole(1, limits.MESSAGE, 0, b'{"type":"a"}')[:-1] + b"]",
        frames.whole(2, limits.MESSAGE, 0, b'{"type":"a"}'),
        frames.whole(1, 99, 0, b"{}"),
        frames.whole(1, limits.BYTES, 0, b"x"),
        frames.block(1, 0, b"x"),
        frames.end(1, bytes(32)),
        frames.done(1),
        frames.ack(1, 1),
        frames.write(frames.Frame(frames.CANCEL, 1, detail=0)),
        frames.write(frames.Frame(frames.OPEN, 1, limits.BYTES, size=9, following=bytes(4))),
        frames.write(frames.Frame(frames.OPEN, 1, limits.BYTES, size=9, following=b"\xff" * 4)),
    ],
)
async def test_frames_that_cannot_be_end_the_link(alone, frame):
    alone.channel.hear(frame)
    assert alone.ends == ["bad-frame"]
    assert alone.heard == []


@pytest.mark.parametrize(
    "data", [b"[]", b"{", b"\xff", b'{"kind":"a"}', b'{"type":1}', b"[" * 100_000]
)
async def test_messages_that_are_none_end_the_link(alone, data):
    alone.channel.hear(frames.opening(1, limits.MESSAGE, 0, len(data)))
    for at in range(0, len(data), frames.BLOCK_BYTES):
        piece = data[at : at + frames.BLOCK_BYTES]
        alone.channel.hear(frames.block(1, at // frames.BLOCK_BYTES, piece))
    alone.channel.hear(frames.end(1, hashlib.sha256(data).digest()))
    assert alone.ends == ["bad-message"]


async def test_what_is_too_large_is_refused_before_any_of_it_comes(alone):
    alone.channel.hear(frames.opening(1, limits.BYTES, 0, limits.KINDS[limits.BYTES].most + 1))
    [refused] = alone.said()
    assert (refused.type, refused.code) == (frames.REFUSE, "too-large")
    assert alone.ends == ["too-large"]  # it is ordered


async def test_more_than_the_budget_is_refused(alone):
    for id_ in (1, 2, 3):
        alone.channel.hear(frames.opening(id_, limits.BYTES, 0, 2**26))
    assert alone.ends == ["over-budget"]


async def test_answers_that_nobody_waits_for_are_refused_and_a_flood_of_them_ends_the_link(alone):
    for id_ in range(1, 513):
        alone.channel.hear(frames.whole(id_, limits.ANSWER, 7, b"{}"))
    assert alone.ends == []
    assert {frame.code for frame in alone.said()} == {"unexpected"}
    alone.channel.hear(frames.whole(513, limits.ANSWER, 7, b"{}"))
    assert alone.ends == ["flood"]


async def test_a_question_has_one_answer_in_time(alone):
    with pytest.raises(TransferError) as late:
        await alone.link.request({"word": "please"}, 0.01)
    assert late.value.code == "timeout"
    asking = asyncio.ensure_future(alone.link.request({"word": "please"}))
    await turns()
    alone.channel.hear(frames.whole(1, limits.ANSWER, 2, b'{"said":"gladly"}'))
    alone.channel.hear(frames.whole(2, limits.ANSWER, 2, b'{"said":"again"}'))
    assert await asking == {"said": "gladly"}
    assert alone.said()[-1].code == "unexpected"


async def test_a_failure_has_a_code_that_is_one(alone):
    asking = asyncio.ensure_future(alone.link.request({}))
    await turns()
    alone.channel.hear(frames.whole(1, limits.FAILURE, 1, b'{"code":"<b>","detail":7}'))
    with pytest.raises(TransferError) as failed:
        await asking
    assert (failed.value.code, str(failed.value)) == ("failed", "failed")


async def test_who_asks_when_the_channel_closes_hears_it(alone):
    asking = asyncio.ensure_future(alone.link.request({}))
    await turns()
    alone.channel.close()
    with pytest.raises(TransferError) as closed:
        await asking
    assert closed.value.code == "closed"
    with pytest.raises(TransferError):
        alone.link.send({"type": "late"})


async def test_what_stands_still_ends_the_link(alone, monkeypatch):
    for module in (inbox, outbox):
        monkeypatch.setattr(module, "STALLED_AFTER_SECONDS", 0.0)
    alone.link.send({"type": "nobody", "answers": "this"})
    await asyncio.sleep(1.1)
    assert alone.ends == ["stalled"]
