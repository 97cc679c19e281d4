"""A worker's conversation with whoever keeps the queue, over a real relay and a real connection."""

import pytest

from rooms.remote.address import NotLetInError
from rooms.remote.conversation import LineClosedError
from rooms.remote.exported import Package
from rooms.remote.webrtc import line as line_module
from rooms.remote.webrtc.background import Background
from rooms.remote.webrtc.line import Presence, QueueLine
from tests.genqueue.processes import free_port, until
from tests.relay import BareRelay, bare_relay
from tests.rooms.remote.holders import FakeHolder
from tests.rooms.remote.tabs import ROOM

__all__ = ["bare_relay"]

PACKAGES = [Package("tiny", "a" * 64, "b" * 64), Package("tiny", "a" * 64, "c" * 64)]


@pytest.fixture
def presence(bare_relay: BareRelay):
    with Presence(ROOM, name="attic", relays=[bare_relay.url], stun=[]) as presence:
        yield presence


@pytest.fixture
def holder(bare_relay: BareRelay):
    """holder(): a tab that keeps the queue, until the test ends."""
    tasks = []
    with Background() as background:

        def start(**options) -> FakeHolder:
            made = background.call(lambda: FakeHolder(bare_relay.url, **options))
            tasks.append(background.start(made.run()))
            made.call = background.call
            return made

        yield start
        for task in tasks:
            background.stop(task)


def test_it_says_what_it_has_and_who_it_is(presence):
    entry = presence.entry(PACKAGES)
    assert entry.models == {"tiny": "a" * 64}
    key = entry.hello.pop("key")
    assert len(key) == 32
    assert entry.hello == {"packages": ["b" * 64, "c" * 64]}


class Recorder:
    """Takes the place of a link."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message) -> None:
        self.sent.append(message)

    def send_bytes(self, data) -> None:
        self.sent.append(bytes(data))

    async def drained(self) -> None: ...


def test_a_message_is_turned_into_json_by_the_link_alone():
    with Background() as background:
        line = QueueLine(background, None, "f" * 32)
        line._link = recorder = Recorder()
        claim = {"type": "work.claim", "conditionings": [], "latents": []}
        line.say(claim)
        line.say({"type": "work.step", "step": 3}, b"latent")
        assert recorder.sent[0] is claim
        assert recorder.sent[1:] == [{"type": "work.step", "step": 3, "bytes": 6}, b"latent"]
        lease = {"type": "work.lease", "chunk": 7}
        line._heard(lease)
        heard, data = line.hear()
        assert heard is lease
        assert data == b""


def test_work_goes_there_and_back_and_what_is_for_pages_does_not(presence, holder):
    there = holder()
    data = bytes(range(256)) * 4096
    with presence.connect(presence.entry(PACKAGES)) as line:
        assert there.link.entered["type"] == "queue.enter"
        assert there.link.entered["copies"] is False
        assert len(there.link.entered["client"]) == 32
        line.say({"type": "work.complete"}, data)
        until(lambda: len(there.heard) == 5)
        assert there.heard[0] == {"type": "work.complete", "bytes": len(data)}
        assert b"".join(there.heard[1:]) == data

        def answer() -> None:
            there.link.send({"type": "room.changed", "jobs": []})
            there.link.send({"type": "work.lease", "bytes": 3})
            there.link.send({"type": "room.peers", "peers": []})
            there.link.send_bytes(b"ab")
            there.link.send_bytes(b"c")

        there.call(answer)
        assert line.hear() == ({"type": "work.lease", "bytes": 3}, b"abc")
        line.say({"type": "work.goodbye"})
    until(lambda: there.heard[-1] == {"type": "work.goodbye"})
    with pytest.raises(LineClosedError):
        line.say({"type": "work.claim"})
    with pytest.raises(LineClosedError):
        line.hear()


def test_when_the_queue_goes_elsewhere_the_line_ends(presence, holder, monkeypatch):
    monkeypatch.setattr(line_module, "HOLDER_WITHIN_SECONDS", 3.0)
    there = holder()
    entry = presence.entry(PACKAGES)
    with presence.connect(entry) as line:
        there.call(lambda: there.link.close())
        with pytest.raises(LineClosedError):
            line.hear()
    there.call(lambda: there.holds(False))
    until(lambda: presence.mesh.holder is None)
    with pytest.raises(NotLetInError) as nobody, presence.connect(entry):
        pass
    assert not nobody.value.final
    there.call(lambda: there.holds(True))
    with presence.connect(entry) as line:
        line.say({"type": "work.claim"})
        until(lambda: {"type": "work.claim"} in there.heard)


def test_who_says_it_keeps_the_queue_and_does_not_is_tried_again(presence, holder):
    holder(refuses=True)
    with (
        pytest.raises(LineClosedError, match="not here"),
        presence.connect(presence.entry(PACKAGES)),
    ):
        pass


def test_why_nobody_is_met_is_said(presence, monkeypatch):
    monkeypatch.setattr(line_module, "HOLDER_WITHIN_SECONDS", 0.5)
    until(lambda: presence.mesh.reached)
    entry = presence.entry(PACKAGES)
    with pytest.raises(NotLetInError, match="Nobody is in this room yet"), presence.connect(entry):
        pass
    nowhere = f"ws://127.0.0.1:{free_port()}/"
    with (
        Presence(ROOM, name="attic", relays=[nowhere], stun=[]) as lost,
        pytest.raises(NotLetInError, match="No relay answers"),
        lost.connect(entry),
    ):
        pass
