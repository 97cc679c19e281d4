"""Who is answered, and what is passed over of what relays carry."""

import asyncio
from typing import Any

import pytest

from rooms.remote.webrtc import signalling, trystero
from rooms.remote.webrtc.signalling import Signalling
from tests.rooms.remote.tabs import ID, ROOM, FakeTab, soon

OWN = "zzzz1cD2eF3gH4iJ5kL6"
OTHER = "1aB1cD2eF3gH4iJ5kL6m"


class FakeRelay:
    """said: (topic, content) of all that was published."""

    url = "wss://relay.example/"

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    async def publish(self, topic: str, content: dict[str, Any]) -> None:
        self.said.append((topic, content))


class Here:
    def __init__(self) -> None:
        self.relay = FakeRelay()
        self.met: list[str] = []
        self.wrong = 0
        self.signalling = Signalling(
            own_id=OWN, room=ROOM, password="", relays=[], ice_servers=[],
            met=lambda peer_id, _: self.met.append(peer_id), ended=lambda peer_id, _: None,
            wrong_password=self._wrong,
        )  # fmt: skip
        self.cipher = trystero.Cipher(ROOM, "")

    def _wrong(self) -> None:
        self.wrong += 1

    def hear(self, content: dict[str, Any], topic: str | None = None) -> None:
        self.signalling._heard(self.relay, topic or trystero.topic(ROOM), content)


@pytest.fixture
async def here():
    here = Here()
    yield here
    running = asyncio.ensure_future(here.signalling.run())
    await running  # without relays it ends at once, and closes what is open


async def test_who_announces_itself_is_asked_to_offer_but_not_again_and_again(here):
    for _ in range(5):
        here.hear({"peerId": ID})
    await asyncio.sleep(0.05)
    assert here.relay.said == [(trystero.topic(ROOM, ID), {"peerId": OWN})]


async def test_an_offer_is_answered_once_and_its_candidates_may_come_before_it(here):
    tab = FakeTab()
    sealed = here.cipher.seal(await tab.offer())
    offer = {"peerId": ID, "offer": sealed, "offerId": "abc"}
    here.hear({"peerId": ID, "candidate": here.cipher.seal("{}"), "offerId": "abc"})
    here.hear(offer)
    here.hear(offer)
    await soon(lambda: here.relay.said)
    here.hear(offer)
    [(topic, answer)] = here.relay.said
    assert topic == trystero.topic(ROOM, ID)
    assert (answer["peerId"], answer["offerId"]) == (OWN, "abc")
    await tab.answered(here.cipher.open(answer["answer"]))
    tab.trystero(trystero.READY)
    await soon(lambda: here.met == [ID])
    await tab.rtc.close()


async def test_an_offer_of_another_password_is_told_and_not_answered(here):
    offer = trystero.Cipher(ROOM, "another").seal("v=0")
    here.hear({"peerId": ID, "offer": offer, "offerId": "abc"})
    await soon(lambda: here.wrong == 1)
    assert here.relay.said == []


@pytest.mark.parametrize(
    "content",
    [
        {}, {"peerId": 7}, {"peerId": "__proto__"}, {"peerId": ID + "x"}, {"peerId": OWN},
        {"peerId": "zzzzzzzzzzzzzzzzzzzz"}, {"peerId": ID, "answer": "x"},
        {"peerId": ID, "candidate": "x" * 3000}, {"peerId": ID, "offerId": "x" * 65},
        {"peerId": ID, "offerId": 7, "offer": "x"},
    ],
)  # fmt: skip
async def test_what_no_tab_says_is_passed_over(here, content):
    here.hear(content)
    await asyncio.sleep(0.05)
    assert (here.relay.said, here.met, here.wrong) == ([], [], 0)


async def test_an_offer_of_nothing_leaves_room_for_a_better_one(here):
    here.hear({"peerId": ID, "offer": here.cipher.seal("v=0"), "offerId": "abc"})
    await asyncio.sleep(0.1)
    assert here.signalling._connections == {}
    tab = FakeTab()
    offer = here.cipher.seal(await tab.offer())
    here.hear({"peerId": ID, "offer": offer, "offerId": "abd"})
    await soon(lambda: here.relay.said)
    await tab.rtc.close()


async def test_who_offers_and_never_comes_is_given_up(here, monkeypatch):
    monkeypatch.setattr(signalling, "MEETS_WITHIN_SECONDS", 0.5)
    tab = FakeTab()
    offer = here.cipher.seal(await tab.offer())
    here.hear({"peerId": ID, "offer": offer, "offerId": "abc"})
    await soon(lambda: here.relay.said)
    assert list(here.signalling._connections) == [ID]
    await soon(lambda: not here.signalling._connections)
    await tab.rtc.close()


async def test_who_was_banned_is_not_answered(here):
    here.signalling.banned.add(ID)
    here.hear({"peerId": ID})
    here.hear({"peerId": OTHER})
    await asyncio.sleep(0.05)
    assert [topic for topic, _ in here.relay.said] == [trystero.topic(ROOM, OTHER)]
