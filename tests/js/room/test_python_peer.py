"""A helper's way into a room, against the tabs' own: the real relay, connections, transfers."""

import hashlib
import time

import numpy as np
import pytest
from playwright.sync_api import Error

from rooms.remote.webrtc.frames import TransferError
from rooms.remote.webrtc.link import Link
from rooms.remote.webrtc.peer import ChannelError
from tests.genqueue.processes import until
from tests.js.room.python_peers import PythonPeer
from tests.js.room.tabs import Tab

PASSWORD = "a-password-of-24-letters"
MIB = np.random.default_rng(7).bytes(2**20)

LINKED = """
  const { P2PNetwork } = await import('room/p2p-network.js');
  const { Link } = await import('room/link.js');
  const network = new P2PNetwork();
  const linked = { errors: [] };
  Object.assign(window, { network, linked });
  await network.join({ ...args[0], iceServers: [], onChannel: (peer, channel) => {
    const link = new Link(channel, {
      receive: (message) => link.send({ type: 'echo', message }),
      receiveBytes: (bytes) => link.sendBytes(new Uint8Array(bytes)),
      answer: async ({ word }) => {
        if (word === 'please') return { said: 'gladly' };
        throw Object.assign(new Error('Say please.'), { code: 'not-polite' });
      },
      closed: (error) => linked.errors.push(error.code),
    });
    linked.link = link;
  } });
  return network.id;
"""


def together(peer: PythonPeer, *tabs: Tab) -> None:
    until(lambda: peer.ids == {tab.id for tab in tabs}, 15)
    for tab in tabs:
        tab.waits("network.peers.some(({ id }) => id === args[0])", peer.id)


def test_it_meets_all_tabs_and_each_says_who_it_is(tabs, relay):
    before = tabs.open().join(room="kitchen", relays=[relay.url], name="anna")
    with PythonPeer(relay.url) as peer:
        together(peer, before)
        after = tabs.open().join(
            room="kitchen", relays=[relay.url], about={"queue": {"holds": True, "term": 3}}
        )
        together(peer, before, after)
        assert peer.mesh.holder is peer.peer(after.id)
        [entry] = before.log("peer")[:1]
        assert entry["name"] == "attic"
        assert entry["about"] == {"queue": {"holds": False, "term": 0, "copy": -1}}
        before.run("network.announce({ about: { queue: { holds: true, term: 4 } } })")
        until(lambda: peer.mesh.holder is peer.peer(before.id))


def test_beats_go_both_ways_for_longer_than_silence_is_borne(tabs, relay):
    tab = tabs.open().join(room="kitchen", relays=[relay.url])
    with PythonPeer(relay.url) as peer:
        together(peer, tab)
        until(lambda: peer.peer(tab.id).round_trip_seconds, 10)
        tab.waits("network.peers[0].roundTripMs > 0")
        time.sleep(12)
        together(peer, tab)
        assert peer.left == []
        assert tab.log("leave") == []


def test_whoever_leaves_is_gone_at_once(tabs, relay):
    staying, leaving = tabs.join(2, room="kitchen", relays=[relay.url])
    with PythonPeer(relay.url) as peer:
        together(peer, staying, leaving)
        leaving.run("await network.leave()")
        until(lambda: [(leaving.id, "left")] == [(who, why) for who, why, _ in peer.left], 3)
        own_id, left_at = peer.id, time.time()
    why, at = staying.leaves(peer, seconds=3)
    assert (why, own_id) == ("left", peer.id)
    assert at - left_at < 2


def test_a_killed_tab_is_noticed_within_ten_seconds(tabs, relay):
    tab = tabs.open().join(room="kitchen", relays=[relay.url])
    with PythonPeer(relay.url) as peer:
        together(peer, tab)
        killed_at = time.time()
        with pytest.raises(Error, match="ERR_ABORTED"):
            tab.page.goto("chrome://crash")
        until(lambda: peer.left, 14)
        [(who, why, at)] = peer.left
        assert (who, at - killed_at < 11) == (tab.id, True)
        assert why in ("silent", "closed")


def test_in_a_private_room_only_those_with_its_password_meet(tabs, relay):
    options = {"room": "attic", "relays": [relay.url]}
    tab = tabs.open().join(password=PASSWORD, **options)
    with PythonPeer(relay.url, room="attic", password=PASSWORD) as peer:
        together(peer, tab)
    with PythonPeer(relay.url, room="attic", password=PASSWORD[::-1]) as stranger:
        until(lambda: stranger.mesh.another_password, 10)
        assert stranger.ids == set()


def test_questions_messages_and_a_mebibyte_go_both_ways(tabs, relay):
    tab = tabs.open()
    tab.id = tab.run(LINKED, {"room": "kitchen", "relays": [relay.url]})
    with PythonPeer(relay.url) as peer:
        together(peer, tab)
        heard: list[object] = []
        ends: list[str] = []

        async def opened() -> Link:
            channel = await peer.peer(tab.id).open_channel("queue")
            return Link(
                channel,
                receive=heard.append,
                receive_bytes=heard.append,
                closed=lambda error: ends.append(error.code),
            )

        link = peer.background.run(opened())
        assert peer.background.run(link.request({"word": "please"})) == {"said": "gladly"}
        with pytest.raises(TransferError, match="Say please") as refused:
            peer.background.run(link.request({"word": "now"}))
        assert refused.value.code == "not-polite"

        # In order: a message, a mebibyte in sixteen blocks, a message
        def send() -> None:
            link.send({"type": "first"})
            link.send_bytes(MIB)
            link.send({"type": "last", "text": "ä" * 100_000})

        peer.background.call(send)
        until(lambda: len(heard) == 3, 20)
        assert heard[0] == {"type": "echo", "message": {"type": "first"}}
        assert hashlib.sha256(heard[1]).digest() == hashlib.sha256(MIB).digest()
        assert heard[2]["message"]["text"] == "ä" * 100_000
        until(lambda: tab.run("return linked.link.unfinished.sending") == 0)

        # What a helper does not do is refused, and the link goes on
        codes = tab.run("""
          const code = (promise) => promise.then(() => 'none', (error) => error.code);
          return [await code(linked.link.request({ type: 'anything' })),
            await code(linked.link.fetchBlob('0'.repeat(64)))];
        """)
        assert codes == ["not-served", "not-found"]
        with pytest.raises(TransferError) as too_large:
            peer.background.call(lambda: link.send({"type": "big", "text": "x" * 2**23}))
        assert too_large.value.code == "too-large"
        assert peer.background.run(link.request({"word": "please"})) == {"said": "gladly"}

        # The end of one is the end of the other
        tab.run("linked.link.close()")
        until(lambda: ends == ["closed"])
        together(peer, tab)


def test_a_channel_that_is_refused_is_an_error_and_the_tab_stays(tabs, relay):
    tab = tabs.open()
    tab.id = tab.run(
        LINKED.replace("onChannel:", "nothing:"), {"room": "kitchen", "relays": [relay.url]}
    )
    with PythonPeer(relay.url) as peer:
        together(peer, tab)
        with pytest.raises(ChannelError, match="refused"):
            peer.background.run(peer.peer(tab.id).open_channel("queue"))
        together(peer, tab)


def test_a_relay_that_comes_back_is_met_again(tabs, bare_relay):
    with PythonPeer(bare_relay.url) as peer:
        until(lambda: peer.mesh.reached, 10)
        bare_relay.stop()
        until(lambda: not peer.mesh.reached, 5)
        bare_relay.start()
        until(lambda: peer.mesh.reached, 15)
        tab = tabs.open().join(room="kitchen", relays=[bare_relay.url])
        together(peer, tab)
