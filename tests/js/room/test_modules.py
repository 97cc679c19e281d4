"""What the transport's small modules do by themselves, on an empty page."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import chromium
from tests.js.room.tabs import Tabs

__all__ = ["chromium"]

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def page(chromium: Browser) -> Iterator[Page]:
    with Tabs(chromium) as tabs:
        yield tabs.open("rooms/kitchen/").page
    assert tabs.errors == []


@pytest.fixture
def run(page: Page) -> Run:
    """run(module, body, *args): a function body with the module's exports as `m`."""

    def run_(module: str, body: str, *args: object) -> Any:
        return page.evaluate(
            "async ([module, args]) => { const m = await import(`room/${module}.js`);"
            " const code = (run) => { try { return run(); } catch (e) { return e.code; } };"
            f" return (async (...args) => {{ {body} }})(...args); }}",
            [module, list(args)],
        )

    return run_


# invitations ----------------------------------------------------------------------------------
SITE = "https://site.example/rooms/kitchen/"
FILES = "https://host.example/a/b/room.html"
KEY = "A1b2C3d4E5f6G7h8I9j0-_"
READ = "return code(() => m.readInvitation(args[0]));"


@pytest.mark.parametrize(
    ("invitation", "link"),
    [
        ({"page": SITE, "room": "kitchen"}, SITE),
        ({"page": f"{SITE}?prompt=cat#old", "room": "kitchen"}, SITE),
        ({"page": FILES, "room": "hall"}, f"{FILES}#hall"),
        ({"page": FILES, "room": "hall", "password": KEY}, f"{FILES}#hall/?key={KEY}"),
        ({"page": "https://host.example/rooms/room.html", "room": "hall"},
         "https://host.example/rooms/room.html#hall"),
    ],
)  # fmt: skip
def test_an_invitation_is_a_link_and_what_is_read_from_it_is_the_same(run, invitation, link):
    assert run("invitation", "return m.makeInvitation(args[0]);", invitation) == link
    assert run("invitation", READ, link) == {
        "room": invitation["room"],
        "password": invitation.get("password"),
    }


@pytest.mark.parametrize(
    ("link", "answer"),
    [
        (f"{SITE}?key={KEY}", "bad-invitation"),  # a server has seen it
        (f"{SITE}#key={KEY}", "bad-invitation"),  # a site has no private rooms
        (f"{SITE}#key=short", "bad-invitation"),
        (f"{FILES}#a b", "bad-room"),
        (f"{FILES}#{'x' * 65}", "bad-room"),
        (f"{FILES}#hall/?key=", "bad-password"),
        (f"{FILES}#hall/?key={KEY}%20", "bad-password"),
        ("kitchen", "bad-invitation"),
        (FILES, {"room": None, "password": None}),
        (f"{FILES}#hall/jobs/7/cancel/", {"room": "hall", "password": None}),
        (f"{FILES}#__proto__/?like=a/1&key={KEY}", {"room": "__proto__", "password": KEY}),
        (f"{SITE}#main", {"room": "kitchen", "password": None}),
    ],
)
def test_a_link_that_is_no_invitation_is_refused(run, link, answer):
    assert run("invitation", READ, link) == answer


def test_no_link_to_a_private_room_of_a_site_is_made(run):
    make = "return code(() => m.makeInvitation(args[0]));"
    invitation = {"page": SITE, "room": "kitchen", "password": KEY}
    assert run("invitation", make, invitation) == "bad-invitation"


def test_the_id_of_a_private_room_says_so_and_belongs_to_one_password(run):
    found = run(
        "invitation",
        """const [key, other] = [m.randomPassword(), m.randomPassword()];
           const room = await m.privateRoom(key);
           const entry = (...way) => m.checkEntry(...way).then(() => 'in', ({ code }) => code);
           return [room !== await m.privateRoom(other), room === await m.privateRoom(key),
             /^[A-Za-z0-9_-]{22}-private$/.test(room), m.isPrivate(room), m.isPrivate('kitchen'),
             m.isPrivate(m.randomRoom()), await entry(room, key), await entry(room, other),
             await entry(room, null), await entry(room, 'short'), await entry('kitchen', null),
             await entry('kitchen', key), await entry('a/b', null), await entry('', null)];""",
    )
    assert found == [
        True, True, True, True, False, False, "in", "wrong-password", "password-needed",
        "bad-password", "in", "no-password-needed", "bad-room", "bad-room",
    ]  # fmt: skip


def test_passwords_and_private_rooms_cannot_be_guessed(run):
    made = run(
        "invitation",
        """const many = (make) => Array.from({ length: 500 }, make);
           return [many(m.randomPassword), many(m.randomRoom)];""",
    )
    for texts, bits in zip(made, (192, 128), strict=True):
        assert len(set(texts)) == 500
        assert all(len(text) * 6 >= bits for text in texts)
        # Every character takes every value: nothing of it is fixed.
        used = [{text[at] for text in texts} for at in range(len(texts[0]) - 1)]
        assert min(map(len, used)) > 50
    assert run("invitation", "return m.checkPassword(args[0]);", made[0][0]) == made[0][0]


# settings -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("relays", "answer"),
    [
        (["wss://a.example", "wss://a.example/", " wss://b.example/x "],
         ["wss://a.example/", "wss://b.example/x"]),
        (["ws://localhost:7447", "ws://127.0.0.1:1/"], ["ws://localhost:7447/", "ws://127.0.0.1:1/"]),
        (["ws://house.example/relay/"], ["ws://house.example/relay/"]),  # the page's own host
        (["ws://other.example/"], "bad-relay"),
        (["wss://me:secret@a.example/"], "bad-relay"),
        (["https://a.example/"], "bad-relay"),
        (["wss://a.example/" + "x" * 300], "bad-relay"),
        ([7], "bad-relay"),
        ("wss://a.example/", "bad-relay"),
        ([f"wss://{n}.example/" for n in range(13)], "bad-relay"),
    ],
)  # fmt: skip
def test_relays_are_addresses_that_a_page_may_use(run, relays, answer):
    body = "return code(() => m.checkRelays(args[0], args[1]));"
    assert run("settings", body, relays, "http://house.example/rooms/x/") == answer


TURN = {"urls": ["turn:t.example:3478", "turns:t.example"], "username": "u", "credential": "c"}
STUN = {"urls": "stun:s.example"}


@pytest.mark.parametrize(
    ("chosen", "answer"),
    [
        ({"iceServers": []}, {"iceServers": []}),
        ({"iceServers": [STUN | {"extra": 1}]}, {"iceServers": [{"urls": ["stun:s.example"]}]}),
        ({"iceServers": [STUN, TURN], "relayOnly": True},
         {"iceServers": [TURN], "iceTransportPolicy": "relay"}),
        ({"iceServers": [STUN], "relayOnly": True}, "relay-only-without-turn"),
        ({"relayOnly": True}, "relay-only-without-turn"),
        ({"iceServers": [{"urls": "turn:t.example"}]}, "bad-ice-server"),
        ({"iceServers": [{"urls": "https://t.example"}]}, "bad-ice-server"),
        ({"iceServers": [{}]}, "bad-ice-server"),
        ({"iceServers": [None]}, "bad-ice-server"),
        ({"iceServers": [STUN] * 9}, "bad-ice-server"),
    ],
)  # fmt: skip
def test_stun_and_turn_servers_are_checked_and_only_turn_hides_an_address(run, chosen, answer):
    assert run("settings", "return code(() => m.rtcConfig(args[0]));", chosen) == answer


def test_what_others_see_is_said_in_one_sentence(run):
    says = "return m.whatOthersSee(args[0]);"
    public, private = run("settings", says, {}), run("settings", says, {"isPrivate": True})
    hidden = run("settings", says, {"relayOnly": True, "name": "Ann"})
    assert "prompts" in public
    assert "internet address" in public
    assert "whoever has the link" in private
    assert "the address of the TURN server instead of" in hidden
    assert "internet address" not in hidden
    assert "the name “Ann”" in hidden
    assert all(text.count(".") == 1 and text.endswith(".") for text in (public, private, hidden))


# strangers ------------------------------------------------------------------------------------
def test_only_what_trystero_makes_is_an_id(run):
    ids = [
        "0aB1cD2eF3gH4iJ5kL6m",
        "__proto__",
        "x" * 19,
        "x" * 21,
        "0aB1cD2eF3gH4iJ5kL6\n",
        "",
        None,
        5,
    ]
    assert run("strangers", "return args[0].map(m.isPeerId);", ids) == [True] + [False] * 7


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("  Ann \n\t B. ", "Ann B."),
        ("a\u202eb\u0000c\u200bd", "a b c d"),
        ("Zoë 👩\u200d🚀", "Zoë 👩\u200d🚀"),
        ("🚀" * 50, "🚀" * 40),
        ("\u200d\u200d", ""),
        ("<img src=x>", "<img src=x>"),  # text, and shown as text
        (None, ""),
        ({"a": 1}, ""),
    ],
)
def test_names_are_one_short_line(run, name, plain):
    assert run("strangers", "return m.plainName(args[0]);", name) == plain


@pytest.mark.parametrize(
    "data",
    [
        "", "{", "null", "[]", "7", '"text"', "{}", '{"type":1}', '{"type":""}', '{"type":"A"}',
        '{"type":".x"}', '{"type":"x."}', '{"type":"x y"}', '{"__proto__":{"type":"x"}}',
        json.dumps({"type": "x" * 65}), json.dumps({"type": "x", "text": "x" * 16_384}), "[" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_message_is_none(run, data):
    assert run("strangers", "return m.readMessage(args[0]);", data) is None
    assert run("strangers", "return m.readMessage(new ArrayBuffer(8));") is None


def test_messages_are_allowed_in_bursts_and_not_for_ever(run):
    spent = run(
        "strangers",
        """const allowance = new m.Allowance();
           let count = 0;
           while (allowance.spend()) count += 1;
           return count;""",
    )
    assert 1000 <= spent < 1200


# heartbeat ------------------------------------------------------------------------------------
CLOCK = """let now = 0;
const sent = [];
const heart = new m.Heartbeat((number) => sent.push([now, number]), () => now);
const tick = (ms = 1000) => { now += ms; return heart.tick(); };
"""


def test_it_beats_every_three_seconds_and_silence_ends_it_within_ten(run):
    result = run(
        "heartbeat",
        CLOCK
        + """let alive = 0;
           while (tick()) alive += 1;
           return [now, alive, sent.map(([at]) => at)];""",
    )
    assert result == [9000, 8, [1000, 4000, 7000]]


def test_whatever_comes_keeps_it_alive_and_answers_measure_the_way(run):
    result = run(
        "heartbeat",
        CLOCK
        + """for (let n = 0; n < 60; n += 1) { if (n % 8 === 0) heart.heard(); tick(); }
           const [at, number] = sent.at(-1);
           now += 25;
           heart.answered(number - 1);
           const before = heart.roundTripMs;
           heart.answered(number);
           now += 1000;
           heart.answered(number);
           return [tick(), before, heart.roundTripMs, sent.length, now - 1025 - at];""",
    )
    assert result[:2] == [True, None]
    assert result[2] == result[4] + 25 - 1000
    assert result[3] == 21  # one a second after it began, and one for every three seconds


def test_a_computer_that_slept_has_not_listened(run):
    result = run("heartbeat", CLOCK + "tick(); const awake = tick(3600e3); return [awake, tick()];")
    assert result == [True, True]
