"""Tabs of a real Chromium find each other through the real relay, and lose each other."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from playwright.sync_api import Browser, Error

from tests.genqueue.processes import free_port
from tests.js.room.relays import CarelessRelay
from tests.js.room.tabs import Tab, Tabs, all_meet
from tests.relay import BareRelay

ROOM = "kitchen"
THEIRS = "hall"  # of the two who stay
PASSWORD = "k" * 32


@pytest.fixture(scope="module")
def two(rtc_chromium: Browser, relay: BareRelay) -> Iterator[list[Tab]]:
    """Two that have met and stay together through all the tests that take them."""
    with Tabs(rtc_chromium) as tabs:
        yield tabs.join(2, room=THEIRS, relays=[relay.url])
    assert tabs.errors == []


# Meeting --------------------------------------------------------------------------------------
def test_a_page_of_the_site_and_an_exported_one_meet_and_say_who_they_are(
    tabs: Tabs, relay: BareRelay
) -> None:
    served, exported = tabs.open("rooms/kitchen/"), tabs.open()
    exported.page.goto(tabs.url.replace("127.0.0.1", "localhost") + "p2p/index.html#room=kitchen")
    served.join(room=ROOM, relays=[relay.url], name=" Ann\u202e\nA. ", about={"speed": 3})
    exported.join(room=ROOM, relays=[relay.url], name="x" * 99)
    all_meet(served, exported)
    assert exported.log("peer")[0] | {"at": 0} == {
        "what": "peer", "id": served.id, "at": 0, "name": "Ann A.", "about": {"speed": 3},
    }  # fmt: skip
    assert served.log("peer")[0]["name"] == "x" * 40
    assert served.run("return network.state.signalling") == "open"
    exported.run("network.announce({ about: { speed: 4 } })")
    served.waits("log.some(({ what, about }) => what === 'change' && about.speed === 4)")
    served.waits("network.peers[0].roundTripMs > 0")


def test_who_share_one_relay_that_lives_meet_whatever_the_others_do(
    tabs: Tabs, relay: BareRelay, careless_relay: CarelessRelay
) -> None:
    dead = f"ws://127.0.0.1:{free_port()}/"
    ann = tabs.open().join(room=ROOM, relays=[dead, relay.url])
    bob = tabs.open().join(room=ROOM, relays=[relay.url, careless_relay.url])
    eve = tabs.open().join(room=ROOM, relays=[careless_relay.url, dead])
    bob.meets(ann, eve)
    assert (ann.peers(), eve.peers()) == ({bob.id}, {bob.id})  # these two share none that lives
    assert ann.run("return network.state.signalling") == "open"


def test_messages_arrive_in_order_and_only_what_is_one_is_sent(two: list[Tab]) -> None:
    ann, bob = two
    ann.run(
        """network.broadcast({ type: 'work.first', n: [1, 'ü'] });
           for (let n = 0; n < 300; n += 1) network.peers[0].send({ type: 'count', n });"""
    )
    bob.waits("log.filter(({ what }) => what === 'message').length === 301")
    messages = [entry["message"] for entry in bob.log("message")]
    assert messages[0] == {"type": "work.first", "n": [1, "ü"]}
    assert [message["n"] for message in messages[1:]] == list(range(300))
    assert {entry["id"] for entry in bob.log("message")} == {ann.id}
    refused = ann.run(
        """const wrong = [{}, [], 'text', { type: 'Upper' }, { type: '__proto__' },
             { type: 'big', text: 'x'.repeat(16384) }];
           return wrong.map((message) => {
             try { network.broadcast(message); return 'sent'; } catch ({ code }) { return code; }
           });"""
    )
    assert refused == ["bad-message"] * 6


def test_how_fast_bytes_came_is_known_of_each_peer(two: list[Tab]) -> None:
    ann, bob = two
    assert bob.run("return network.peers[0].mbitPerS") is None
    opens = """const channel = await network.peers[0].openChannel('bulk.link');
        channel.measured(125_000, 10);
        channel.close();
        return network.peers[0].mbitPerS;"""
    assert ann.run(opens) == 100
    assert bob.run("return network.peers[0].mbitPerS") is None


def test_channels_carry_bytes_beside_trysteros_own(two: list[Tab]) -> None:
    ann, bob = two
    echoed = """const channel = await network.peers[0].openChannel(args[0]);
        const heard = new Promise((done) => { channel.onmessage = ({ data }) => done(data); });
        channel.send(new Uint8Array(channel.maxMessageBytes).fill(7));
        const bytes = new Uint8Array(await heard);
        return [channel.label, bytes.length, bytes.every((byte) => byte === 7)];"""
    for tab in (ann, bob, ann):
        assert tab.run(echoed, "bulk.data") == ["bulk.data", 262_144, True]
    # Closed on one side, closed on the other; and its peer stays.
    closed = """const channel = await network.peers[0].openChannel('short');
        const end = new Promise((done) => { channel.onclose = () => done(channel.readyState); });
        channel.close();
        return end;"""
    assert ann.run(closed) == "closed"
    most = """const open = () => network.peers[0].openChannel('many').then(() => '', (e) => e.code);
        return Promise.all(Array.from({ length: 20 }, open));"""
    assert set(ann.run(most)) == {"", "channel-refused"}
    assert bob.run(echoed, "from.bob") == ["from.bob", 262_144, True]
    assert ann.log("leave") == bob.log("leave") == []


def test_who_has_waited_for_a_minute_meets_who_comes(tabs: Tabs, relay: BareRelay) -> None:
    """The one with the smaller id makes the offer, here one of the 20 made in the beginning."""
    old = tabs.open(own_clock=True)
    old.run(
        """const { random } = Math;
           Math.random = () => 0;
           await import('@trystero-p2p/nostr');
           Math.random = random;"""
    )
    old.join(room=ROOM, relays=[relay.url])
    assert old.id == "0" * 20
    old.waits("network.state.signalling === 'open'")
    pass_seconds([old], 58)
    new = tabs.open().join(room=ROOM, relays=[relay.url])
    all_meet(old, new)


def test_who_knows_no_password_or_another_never_meets(tabs: Tabs, relay: BareRelay) -> None:
    inside = tabs.join(2, room=ROOM, relays=[relay.url], password=PASSWORD)
    other = tabs.open().join(room=ROOM, relays=[relay.url], password="z" * 32)
    none = tabs.open().join(room=ROOM, relays=[relay.url])
    # The one with the highest id is offered a connection by all others, and cannot read the offers
    # of some.
    told = max([*inside, other, none], key=lambda tab: tab.id)
    told.waits("log.some(({ problem }) => problem?.code === 'wrong-password')")
    time.sleep(1)
    all_meet(*inside)
    assert other.peers() == none.peers() == set()
    assert other.log("peer") == none.log("peer") == []


def test_to_hide_the_address_a_turn_server_is_needed_and_nothing_else_is_used(
    tabs: Tabs, relay: BareRelay
) -> None:
    hidden = tabs.open()
    said = hidden.run(
        """const { P2PNetwork } = await import('room/p2p-network.js');
           const asked = performance.getEntriesByType('resource').length;
           try {
             await new P2PNetwork().join({ room: 'kitchen', relays: args, relayOnly: true });
           } catch ({ code, message }) {
             return [code, message, performance.getEntriesByType('resource').length - asked];
           }""",
        relay.url,
    )
    assert said[0] == "relay-only-without-turn"
    assert "TURN server is needed" in said[1]
    assert said[2] == 0  # not even Trystero was loaded

    # With one that does not answer: others are heard of, and no path of another kind is taken.
    turn = {"urls": "turn:127.0.0.1:9", "username": "u", "credential": "c"}
    plain = tabs.open().join(room=ROOM, relays=[relay.url])
    hidden.run(
        """window.made = [];
           const Native = RTCPeerConnection;
           window.RTCPeerConnection = class extends Native {
             constructor(...options) { super(...options); made.push(this); }
           };"""
    )
    hidden.join(room=ROOM, relays=[relay.url], relayOnly=True, iceServers=[turn])
    hidden.waits("made.some(({ remoteDescription }) => remoteDescription)")
    time.sleep(2)
    assert hidden.peers() == plain.peers() == set()
    paths = hidden.run(
        """const sdp = made.map(({ localDescription }) => localDescription?.sdp ?? '').join('');
           return [made.length > 0, sdp.includes('a=candidate')];"""
    )
    assert paths == [True, False]


def test_who_hides_after_others_were_met_uses_no_connection_of_before(
    tabs: Tabs, relay: BareRelay
) -> None:
    turn = {"urls": "turn:127.0.0.1:9", "username": "u", "credential": "c"}
    hidden, plain = tabs.join(2, room=ROOM, relays=[relay.url])
    hidden.run(
        """window.made = [];
           const Native = RTCPeerConnection;
           window.RTCPeerConnection = class extends Native {
             constructor(...options) { super(...options); made.push(this); }
           };
           await network.leave();"""
    )
    hidden.join(room=ROOM, relays=[relay.url], relayOnly=True, iceServers=[turn])
    hidden.waits("made.some(({ remoteDescription }) => remoteDescription)", seconds=20)
    time.sleep(2)
    assert hidden.peers() == plain.peers() == set()
    policies = hidden.run("return made.map((one) => one.getConfiguration().iceTransportPolicy)")
    assert set(policies) == {"relay"}


# Leaving --------------------------------------------------------------------------------------
def test_who_leaves_is_known_to_within_a_second_and_can_come_back(
    tabs: Tabs, relay: BareRelay
) -> None:
    ann, *others = tabs.join(4, room=ROOM, relays=[relay.url])
    ways = [
        lambda tab: tab.page.goto(tabs.url),
        lambda tab: tab.page.close(),
        lambda tab: tab.run(
            "navigator.sendBeacon('/left', `${Date.now()}`); await network.leave()"
        ),
    ]
    for other, leave in zip(others, ways, strict=True):
        leave(other)
        why, at = ann.leaves(other, 5)
        ann.page.wait_for_timeout(200)  # the page's last word to the host
        assert (why, at - tabs.left.pop() < 1) == ("left", True)
    assert ann.peers() == set()
    back = others[-1].join(room=ROOM, relays=[relay.url])
    all_meet(ann, back)
    again = back.run("return network.join({ room: 'other' }).catch(({ code }) => code)")
    assert again == "joined-already"


def test_a_killed_tab_is_gone_within_10_seconds_and_nobody_else_is(
    tabs: Tabs, relay: BareRelay
) -> None:
    ann, bob, killed = tabs.join(3, room=ROOM, relays=[relay.url])
    began = time.time()
    with pytest.raises(Error, match="ERR_ABORTED"):
        killed.page.goto("chrome://crash")
    for tab in (ann, bob):
        why, at = tab.leaves(killed, 12)
        assert (why, at - began < 10) == ("silent", True)
    all_meet(ann, bob)


def test_a_page_that_stays_after_a_download_stays_in_the_room(
    tabs: Tabs, two: list[Tab], relay: BareRelay
) -> None:
    ann, bob = two
    with ann.page.expect_download():
        ann.run("location.href = 'pictures.zip'")
    # Trystero by itself is out of the room by now, and nobody new would meet it.
    carol = tabs.open().join(room=THEIRS, relays=[relay.url])
    all_meet(ann, bob, carol)
    assert ann.log("leave") == bob.log("leave") == []
    assert len(bob.log("peer")) == 2
    carol.run("await network.leave()")
    all_meet(ann, bob)


# Relays that come and go -----------------------------------------------------------------------
def test_after_an_outage_of_the_relay_others_can_join_within_30_seconds(
    tabs: Tabs, bare_relay: BareRelay
) -> None:
    ann, bob = tabs.join(2, room=ROOM, relays=[bare_relay.url])
    bare_relay.stop()
    ann.waits("network.state.signalling === 'lost'")
    late = tabs.open().join(room=ROOM, relays=[bare_relay.url])  # and finds no relay
    late.waits("network.state.relays[0].state === 'closed'")
    bare_relay.start()
    all_meet(ann, bob, late, seconds=30)
    assert ann.log("leave") == bob.log("leave") == []
    assert [len(tab.log("peer")) for tab in (ann, bob, late)] == [2, 2, 2]  # nobody twice


def test_after_an_outage_longer_than_trysteros_patience_too(
    tabs: Tabs, bare_relay: BareRelay
) -> None:
    """Trystero by itself tries five times within about 100 s, and then never again."""
    two = tabs.join(2, own_clock=True, room=ROOM, relays=[bare_relay.url])
    bare_relay.stop()
    for _ in range(30):
        pass_seconds(two, 5)
        time.sleep(0.1)  # to try and to fail
    set_clocks(two)
    bare_relay.start()
    late = tabs.open().join(room=ROOM, relays=[bare_relay.url])
    all_meet(*two, late, seconds=30)
    assert [tab.log("leave") for tab in two] == [[], []]


def test_a_relay_that_hangs_is_left_and_met_again_when_it_answers(
    tabs: Tabs, bare_relay: BareRelay
) -> None:
    two = tabs.join(2, own_clock=True, room=ROOM, relays=[bare_relay.url])
    with bare_relay.hanging():
        for seconds in (16, 11):  # silence, and a question that is not answered
            pass_seconds(two, seconds)
            time.sleep(1.2)
        for tab in two:
            tab.waits("network.state.relays[0].reason === 'It does not answer.'")
        set_clocks(two)
    late = tabs.open().join(room=ROOM, relays=[bare_relay.url])
    all_meet(*two, late, seconds=30)
    assert [tab.log("leave") for tab in two] == [[], []]


def pass_seconds(tabs: list[Tab], seconds: int) -> None:
    for tab in tabs:
        tab.page.clock.fast_forward(1000 * seconds)


def set_clocks(tabs: list[Tab]) -> None:
    """The right time of day again: a relay refuses events from the future."""
    for tab in tabs:
        tab.page.clock.set_system_time(datetime.now())


def test_a_relay_that_refused_is_met_again_and_nobody_notices(
    tabs: Tabs, careless_relay: CarelessRelay
) -> None:
    """Trystero leaves such a relay for the life of the page."""
    ann, bob = tabs.join(2, room=ROOM, relays=[careless_relay.url])
    careless_relay.refuse()
    for tab in (ann, bob):
        tab.waits("network.state.relays[0].state === 'refused'")
    assert ann.run("return network.state.relays[0].reason") == "error: shutting down"
    careless_relay.refuses = False
    late = tabs.open().join(room=ROOM, relays=[careless_relay.url])
    all_meet(ann, bob, late, seconds=30)
    assert ann.log("leave") == bob.log("leave") == []
    ann.run("network.broadcast({ type: 'still.here' })")
    for tab in (bob, late):
        tab.waits("log.filter(({ what }) => what === 'message').length === 1")


def test_a_relay_that_has_refused_for_long_is_met_within_30_seconds_where_it_is_the_only_one(
    tabs: Tabs, careless_relay: CarelessRelay
) -> None:
    """With another one open there is time: after eight refusals it would be 15 minutes."""
    two = tabs.join(2, own_clock=True, room=ROOM, relays=[careless_relay.url])
    careless_relay.refuse()
    refused = "log.filter(({ state }) => state?.relays[0].state === 'refused').length"
    for times in range(1, 9):
        for tab in two:
            tab.waits(f"{refused} >= args[0]", times)
        pass_seconds(two, 20)
    careless_relay.refuses = False
    late = tabs.open().join(room=ROOM, relays=[careless_relay.url])
    all_meet(*two, late, seconds=30)
    assert [tab.log("leave") for tab in two] == [[], []]


def test_a_relay_that_refuses_is_left_alone_for_longer_while_another_is_open(tabs: Tabs) -> None:
    times = tabs.open().run(
        """const { Supervisor } = await import('room/supervisor.js');
           let now = 0;
           const sockets = new Map(); // by address
           const rejoined = [];
           const socketOf = (address) => {
             if (!sockets.has(address)) {
               sockets.set(address, Object.assign(
                 new EventTarget(), { readyState: WebSocket.OPEN, send() {} }));
             }
             return sockets.get(address);
           };
           const nostr = {
             pauseRelayReconnection() {}, resumeRelayReconnection() {},
             getRelaySockets: () => new Proxy({}, { get: (_, address) => socketOf(address) }),
           };
           const supervisor = new Supervisor({
             nostr, relays: ['wss://good.example/', 'wss://bad.example/'],
             announcement: async () => '', onState() {}, rejoin: () => rejoined.push(now / 1000),
             now: () => now,
           });
           const hear = (socket, words) =>
             socket.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(words) }));
           for (; now < 400_000; now += 1000) {
             supervisor.tick();
             for (const [address, socket] of sockets) {
               if (address.includes('bad')) hear(socket, ['CLOSED', '', 'error: no']);
               else hear(socket, ['OK', '1', true, '']);
             }
           }
           return rejoined;"""
    )
    assert times == [5, 16, 37, 78, 159, 320]  # each time twice as long, and a tick


# Strangers ------------------------------------------------------------------------------------
def test_hostile_announcements_do_no_harm(tabs: Tabs, careless_relay: CarelessRelay) -> None:
    ann = tabs.open().join(room=ROOM, relays=[careless_relay.url])
    ann.waits("network.state.signalling === 'open'")
    time.sleep(0.5)  # it listens
    ids = [
        '"__proto__"',
        '"constructor"',
        '"toString"',
        "null",
        "7",
        "{}",
        '"short"',
        f'"{"x" * 9999}"',
    ]
    for peer_id in ids:
        for more in ("", ',"offer":"x"', ',"answer":"x"', ',"candidate":"x"', ',"offer":{}'):
            careless_relay.publish(f'{{"peerId":{peer_id}{more}}}')
    for content in (
        "",
        "not JSON",
        "null",
        "[]",
        '"text"',
        "{" * 5000,
        '{"__proto__":{"peerId":1}}',
    ):
        careless_relay.publish(content)
    bob = tabs.open().join(room=ROOM, relays=[careless_relay.url])
    all_meet(ann, bob)
    assert ann.run("return [Object.keys(Object.prototype), ({}).connectedPeer ?? null]") == [
        [],
        None,
    ]
    # Trystero itself trips over keys that every object has; the error ends with the announcement.
    assert all("undefined" in error or "null" in error for error in tabs.errors), tabs.errors
    tabs.errors.clear()


def test_a_stranger_who_speaks_otherwise_is_shown_as_plain_text_or_shut_out(
    two: list[Tab], tabs: Tabs, relay: BareRelay
) -> None:
    ann, bob = two
    stranger = tabs.open()
    stranger.run(
        """const { joinRoom } = await import('@trystero-p2p/nostr');
           const { APP_ID } = await import('room/trystero.js');
           const room = joinRoom({ appId: APP_ID, rtcConfig: { iceServers: [] },
             relayConfig: { urls: [args[0]] } }, args[1]);
           window.channels = [];
           room.onPeerJoin = (id) => {
             const channel = room.getPeers()[id].createDataChannel(
               'room', { negotiated: true, id: 10 });
             channels.push(channel);
             channel.onopen = () => channel.send(JSON.stringify({ type: 'net.hello', protocol: 2,
               name: '<b>' + 'ü'.repeat(9000), about: { big: 'x'.repeat(5000) } }));
           };""",
        relay.url,
        THEIRS,
    )
    here = "log.some(({ what, name }) => what === 'peer' && name.startsWith('<b>'))"
    for tab in (ann, bob):
        tab.waits(here)
        entry = next(entry for entry in tab.log("peer") if entry["name"])
        assert entry["name"] == "<b>" + "ü" * 37
        assert entry["about"] == {}
    stranger.run("for (const channel of channels) channel.send('{\"type\": 5}')")
    for tab in (ann, bob):
        tab.waits("log.some(({ what, why }) => what === 'leave' && why === 'misbehaved')")
    all_meet(ann, bob)
