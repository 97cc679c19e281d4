"""Who is there and cannot be met, and a clock that is wrong: known as long as it is true."""

import time
from datetime import datetime, timedelta

import pytest

from tests.js.room.conftest import bare_relay, careless_relay, relay, rtc_chromium, tabs
from tests.js.room.relays import CarelessRelay
from tests.js.room.tabs import Tab, Tabs, all_meet
from tests.relay import ROOT, BareRelay

__all__ = ["bare_relay", "careless_relay", "relay", "rtc_chromium", "tabs"]

ROOM = "kitchen"

# Two networks with nothing in between: no end learns where the other one is.
NO_WAY = """window.apart = true;
const Native = RTCPeerConnection;
window.RTCPeerConnection = class extends Native {
  addIceCandidate(candidate) {
    return apart ? Promise.resolve() : super.addIceCandidate(candidate);
  }
  setRemoteDescription({ type, sdp }) {
    const heard = apart ? sdp.replaceAll(/^a=candidate.*\\r\\n/gm, '') : sdp;
    return super.setRemoteDescription({ type, sdp: heard }).then(() => { window.heard = true; });
  }
};"""


def problem(tab: Tab) -> str | None:
    """The code of the newest."""
    told = tab.log("problem")
    return told[-1]["problem"] and told[-1]["problem"]["code"] if told else None


def has(tab: Tab, code: str | None, seconds: float = 15) -> None:
    newest = "log.filter(({ what }) => what === 'problem').at(-1)?.problem?.code ?? null"
    tab.waits(f"({newest}) === args[0]", code, seconds=seconds)


def pass_seconds(tabs: list[Tab], seconds: int) -> None:
    for tab in tabs:
        tab.page.clock.fast_forward(1000 * seconds)


def test_no_way_through_the_networks_is_known_until_one_is_found(
    tabs: Tabs, careless_relay: CarelessRelay
) -> None:
    two = [tabs.open(own_clock=True) for _ in range(2)]
    for tab in two:
        tab.run(NO_WAY)
        tab.join(room=ROOM, relays=[careless_relay.url])
    for tab in two:
        tab.waits("window.heard")
    assert [problem(tab) for tab in two] == [None, None], "it is being tried"
    pass_seconds(two, 24)
    for tab in two:
        has(tab, "no-way")
        assert "a TURN server is needed." in tab.log("problem")[-1]["problem"]["message"]
    time.sleep(3)
    assert [problem(tab) for tab in two] == ["no-way", "no-way"]
    for tab in two:
        tab.run("window.apart = false;")
    pass_seconds(two, 61)  # until they announce themselves again
    all_meet(*two)
    for tab in two:
        has(tab, None)


def test_another_version_of_the_page_is_named_and_not_met(tabs: Tabs, relay: BareRelay) -> None:
    source = (ROOT / "static/js/room/peer.js").read_text()
    assert "PROTOCOL = 2;" in source
    old, new = tabs.open(), tabs.open()
    new.page.route(
        "**/js/room/peer.js",
        lambda route: route.fulfill(
            body=source.replace("PROTOCOL = 2;", "PROTOCOL = 3;"), content_type="text/javascript"
        ),
    )
    for tab in (old, new):
        tab.join(room=ROOM, relays=[relay.url])
    for tab in (old, new):
        has(tab, "other-version")
        assert "another version of this page" in tab.log("problem")[-1]["problem"]["message"]
        assert tab.peers() == set()


def test_what_nobody_has_seen_for_a_while_is_over(tabs: Tabs) -> None:
    said = tabs.open().page.evaluate(
        """async () => {
          const { Unmet } = await import('room/unmet.js');
          const said = [];
          const unmet = new Unmet((problem) => said.push(problem?.code ?? null));
          const pass = (seconds) => { for (let n = 0; n < seconds; n += 1) unmet.tick(); };
          unmet.add('a', { code: 'no-way' });
          unmet.add('b', { code: 'no-way' });
          pass(60);
          unmet.add('b', { code: 'other-version' });
          pass(60); // a is forgotten
          unmet.met('a');
          pass(30);
          unmet.add('b', { code: 'other-version' }); // seen again
          pass(99);
          said.push('still');
          pass(2);
          unmet.add('c', { code: 'no-way' });
          unmet.met('c');
          return said;
        }"""
    )
    assert said == ["no-way", "other-version", "still", None, "no-way", None]


@pytest.mark.parametrize("hours", [2, -50])
def test_a_wrong_clock_is_known_with_by_how_much_until_it_is_right(
    tabs: Tabs, relay: BareRelay, hours: int
) -> None:
    tab = tabs.open(own_clock=True)
    tab.page.clock.set_system_time(datetime.now() + timedelta(hours=hours))
    tab.join(room=ROOM, relays=[relay.url])
    tab.waits("network.state.clock")
    ahead = tab.run("return network.state.clock.aheadS")
    assert abs(ahead - hours * 3600) < 30
    assert tab.run("return network.state.signalling") == "open"
    tab.page.clock.set_system_time(datetime.now())
    tab.page.clock.fast_forward(16_000)  # silence: the relay is told again that this tab is here
    tab.waits("network.state.clock === null")
    assert tab.log("state")[-1]["state"]["clock"] is None


def test_a_relay_that_takes_what_is_said_outweighs_one_that_blames_the_clock(
    tabs: Tabs, relay: BareRelay, careless_relay: CarelessRelay
) -> None:
    tab = tabs.open(own_clock=True)
    tab.page.clock.set_system_time(datetime.now() + timedelta(days=3))
    tab.join(room=ROOM, relays=[relay.url, careless_relay.url])
    tab.waits("network.state.relays.every(({ state }) => state === 'open')")
    time.sleep(1)
    assert tab.run("return network.state.clock") is None


WORDS = [
    ['["OK","1",false,"invalid: created_at too late"]', {"aheadS": None}],
    ['["OK","1",false,"invalid: event too much in the future"]', {"aheadS": None}],
    ['["NOTICE","clock: created_at is 90 s behind this relay\'s clock"]', {"aheadS": -90}],
    ['["NOTICE","your subscription has 3 filters"]', None],
    ['["OK","1",false,"blocked: nobody"]', None],
    ['["NOTICE",7]', None],
    ["[]", None],
]


def test_relays_say_it_in_words_of_their_own(tabs: Tabs) -> None:
    said = tabs.open().page.evaluate(
        """async (all) => {
          const { Supervisor } = await import('room/supervisor.js');
          return all.map((words) => {
            const socket = Object.assign(
              new EventTarget(), { readyState: WebSocket.OPEN, send() {} });
            const nostr = {
              pauseRelayReconnection() {}, resumeRelayReconnection() {},
              getRelaySockets: () => new Proxy({}, { get: () => socket }),
            };
            const supervisor = new Supervisor({
              nostr, relays: ['wss://relay.example/'], announcement: async () => '', onState() {},
              rejoin() {},
            });
            supervisor.tick();
            socket.dispatchEvent(new MessageEvent('message', { data: words }));
            return supervisor.state.clock;
          });
        }""",
        [words for words, _ in WORDS],
    )
    assert said == [clock for _, clock in WORDS]
