"""What a client is answered, without sockets."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rooms import budget
from rooms.relay.client import Client, CrowdedError
from rooms.relay.hub import Hub
from rooms.relay.limits import DEFAULT
from rooms.relay.outbox import TOO_MUCH, Outbox
from tests.rooms.relay.events import KEY, KIND, TOPIC, content, event, request

FREE = re.compile(r"(rate-limited|duplicate): ")  # of OK false: others end Trystero's use of us


class Talk:
    """One client of a hub, and what it hears."""

    def __init__(self, hub: Hub, address: str = "192.0.2.1") -> None:
        self.outbox = Outbox(hub.limits)
        self.client = Client(hub, address, self.outbox)

    def say(self, *messages: object) -> list[list]:
        """What is heard at once."""
        for message in messages:
            raw = message if isinstance(message, str | bytes) else json.dumps(message)
            self.client.receive(raw)
        return self.heard()

    def heard(self) -> list[list]:
        waiting = [json.loads(text) for text in self.outbox._waiting]
        self.outbox._waiting.clear()
        self.outbox._bytes = 0
        return waiting


@pytest.fixture
def clock(monkeypatch):
    """Budgets see a clock that stands still until it is moved."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def hub():
    return Hub()


@pytest.fixture
def alice(hub):
    return Talk(hub)


@pytest.fixture
def bob(hub):
    return Talk(hub, "192.0.2.2")


# Listening ------------------------------------------------------------------------------------
def test_an_event_is_heard_by_those_who_listen_to_its_topic_the_sender_too(alice, bob):
    assert alice.say(request("a")) == [["EOSE", "a"]]
    bob.say(request("b"), request("elsewhere", "another topic"))
    sent = event()
    assert bob.say(["EVENT", sent]) == [["OK", sent["id"], True, ""], ["EVENT", "b", sent]]
    assert alice.heard() == [["EVENT", "a", sent]]


def test_nothing_is_kept_for_those_who_come_later(alice, bob):
    bob.say(["EVENT", event()])
    assert alice.say(request("a")) == [["EOSE", "a"]]


def test_a_request_of_the_same_name_takes_the_place_of_the_first(alice, bob):
    alice.say(request("a"), request("a", "another topic"))
    alice.heard()
    bob.say(["EVENT", event()])
    assert alice.heard() == []
    other = event(tags=[["x", "another topic"]])
    bob.say(["EVENT", other])
    assert alice.heard() == [["EVENT", "a", other]]


def test_a_subscription_ends_with_close_and_with_the_connection(hub, alice, bob):
    alice.say(request("a"), ["CLOSE", "a"], ["CLOSE", "never opened"])
    alice.heard()
    bob.say(request("b"))
    bob.client.leave()
    assert hub._listening == {}
    carol = Talk(hub)
    carol.say(["EVENT", event()])
    assert alice.heard() == []


def test_250_topics_fit_into_one_request_and_each_is_heard(alice, bob):
    topics = [f"{number:040}" for number in range(250)]
    assert alice.say(request("s" * 64, *topics)) == [["EOSE", "s" * 64]]
    for topic in topics[::83]:
        bob.say(["EVENT", event(tags=[["x", topic]])])
    assert [tag for _, _, heard in alice.heard() for tag in heard["tags"]] == [
        ["x", topic] for topic in topics[::83]
    ]


def test_an_event_of_several_topics_is_heard_once_a_subscription(alice, bob):
    alice.say(request("a", "one", "two"), request("b", "two"))
    alice.heard()
    bob.say(["EVENT", event(tags=[["x", "one"], ["x", "two"], ["x", "two"]])])
    assert sorted(message[1] for message in alice.heard()) == ["a", "b"]


PUBLIC = KEY.public_key.format()[1:].hex()
NOW = 1_795_000_000


@pytest.mark.parametrize(
    ("more", "hears"),
    [
        ({}, True),
        ({"kinds": [KIND + 1]}, False),
        ({"kinds": [KIND + 1, KIND]}, True),
        ({"kinds": []}, False),
        ({"authors": [PUBLIC]}, True),
        ({"authors": ["0" * 64]}, False),
        ({"ids": ["0" * 64]}, False),
        ({"limit": 0}, True),
        ({"#x": []}, False),
        ({"since": NOW + 110}, True),  # both clocks may be a minute off
        ({"since": NOW + 3600}, False),
        ({"until": NOW - 110}, True),
        ({"until": NOW - 3600}, False),
    ],
)
def test_a_filter_lets_pass_what_it_names(more, hears):
    hub = Hub(now=lambda: NOW)
    alice, bob = Talk(hub), Talk(hub)
    alice.say(request("a", **{"since": NOW, **more}))
    alice.heard()
    bob.say(["EVENT", event(created_at=NOW)])
    assert bool(alice.heard()) is hears


def test_any_one_of_several_filters_is_enough(alice, bob):
    alice.say(["REQ", "a", {"#x": ["elsewhere"]}, {"#x": [TOPIC]}])
    alice.heard()
    bob.say(["EVENT", event()])
    assert len(alice.heard()) == 1


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ([{}], "must name its topics"),
        ([{"kinds": [KIND]}], "must name its topics"),
        ([{"#x": [TOPIC]}, {}], "must name its topics"),
        ([{"#x": [TOPIC], "#e": ["a"]}], "filters by #e are not supported"),
        ([{"#x": [TOPIC], "search": "a"}], "filters by search"),
        ([{"#x": TOPIC}], "must be a list of str"),
        ([{"#x": [7]}], "must be a list of str"),
        ([{"#x": [TOPIC], "kinds": [True]}], "must be a list of int"),
        ([{"#x": [TOPIC], "since": "now"}], "since must be a whole number"),
        ([{"#x": [str(number) for number in range(251)]}], "at most 250 values"),
        ([{"#x": ["t" * 257]}], "at most 256 characters"),
        ([7], "a filter is a JSON object"),
        ([{"#x": [TOPIC]}] * 9, "at most 8 filters"),
    ],
)
def test_a_filter_that_is_not_understood_hears_nothing_and_is_told_why(alice, bob, filters, reason):
    notice, eose = alice.say(["REQ", "a", *filters])
    assert notice[0] == "NOTICE"
    assert reason in notice[1]
    assert eose == ["EOSE", "a"]
    bob.say(["EVENT", event()])
    assert alice.heard() == []


# Publishing -----------------------------------------------------------------------------------
def test_an_event_that_comes_again_is_acknowledged_and_not_repeated(alice, bob):
    alice.say(request("a"))
    alice.heard()
    sent = event()
    assert bob.say(["EVENT", sent]) == [["OK", sent["id"], True, ""]]
    ((ok, id_, taken, reason),) = alice.say(["EVENT", sent])[1:]
    assert (ok, id_, taken) == ("OK", sent["id"], True)
    assert reason.startswith("duplicate: ")
    assert alice.heard() == []


def test_a_wrong_event_is_refused_with_a_word_that_trystero_survives_and_nobody_hears_it(
    alice, bob
):
    alice.say(request("a"))
    alice.heard()
    wrong = {**event(), "sig": "0" * 128}
    assert bob.say(["EVENT", wrong]) == [
        ["OK", wrong["id"], False,
         "duplicate: refused, the signature is not of this id by this pubkey"]
    ]  # fmt: skip
    assert alice.heard() == []
    right = event(created_at=wrong["created_at"])
    assert right["id"] == wrong["id"]
    assert bob.say(["EVENT", right])[0][2] is True
    assert len(alice.heard()) == 1


def test_a_client_with_a_wrong_clock_is_told_and_heard_again_when_it_is_right():
    hub = Hub(now=lambda: NOW)
    alice, bob = Talk(hub), Talk(hub)
    alice.say(request("a", since=NOW))
    alice.heard()
    late = event(created_at=NOW - 300)
    notice, ok = bob.say(["EVENT", late])
    assert notice[1].startswith("clock: created_at is 300 s behind ")
    assert ok[:3] == ["OK", late["id"], False]
    assert ok[3].startswith("duplicate: ")
    assert alice.heard() == []
    assert bob.say(["EVENT", event(created_at=NOW)])[0][2] is True
    assert len(alice.heard()) == 1


# Too much -------------------------------------------------------------------------------------
def test_who_says_too_much_is_told_to_wait_then_closed_and_has_time_to_recover(clock):
    limits = replace(DEFAULT, a_second=2, burst=3, patience=4, patience_a_second=1)
    talk = Talk(Hub(limits))
    events = [["EVENT", event(content=content(n=number))] for number in range(12)]
    answers = talk.say(*events[:5])
    assert [taken for _, _, taken, _ in answers] == [True] * 3 + [False] * 2
    assert answers[-1][3].startswith("rate-limited: ")
    clock.now += 10
    assert [taken for _, _, taken, _ in talk.say(*events[5:8])] == [True] * 3
    talk.say(*events[:2])
    assert talk.outbox.code is None
    talk.say(*events[:5])
    assert talk.outbox.code == TOO_MUCH
    assert talk.say(request("a")) == []


def test_a_household_shares_one_budget_and_others_have_their_own(clock):
    limits = replace(DEFAULT, address_burst=100, address_a_second=1, connection_cost=10)
    hub = Hub(limits)
    one, two = Talk(hub, "2001:db8::1"), Talk(hub, "2001:db8::ffff")
    neighbour = Talk(hub, "2001:db8:0:1::1")
    assert one.say(*[request("a")] * 80) == [["EOSE", "a"]] * 80
    assert two.say(request("a"))[0][0] == "NOTICE"
    assert neighbour.say(request("a")) == [["EOSE", "a"]]
    with pytest.raises(CrowdedError):
        Talk(hub, "2001:db8::2")
    for talk in (one, two):
        talk.client.leave()
    clock.now += 30
    assert Talk(hub, "2001:db8::3").say(request("a")) == [["EOSE", "a"]]


def test_connections_are_counted_by_address_and_altogether():
    hub = Hub(replace(DEFAULT, address_connections=2, connections=3))
    first, _second = Talk(hub), Talk(hub)
    with pytest.raises(CrowdedError):
        Talk(hub)
    Talk(hub, "192.0.2.2")
    with pytest.raises(CrowdedError):
        Talk(hub, "192.0.2.3")
    first.client.leave()
    first.client.leave()
    Talk(hub)


def test_a_client_has_so_many_subscriptions_and_may_replace_each(alice):
    assert len(alice.say(*[request(f"{number}") for number in range(32)])) == 32
    assert alice.say(request("0")) == [["EOSE", "0"]]
    assert alice.say(request("33"))[0][0] == "NOTICE"
    assert alice.say(["CLOSE", "1"], request("33")) == [["EOSE", "33"]]


def test_a_client_listens_to_so_many_topics_in_all(alice):
    topics = [f"{number}" for number in range(249)]
    asked = [request(f"{number}", *topics) for number in range(9)]
    answers = alice.say(*asked)
    assert [answer[0] for answer in answers] == ["EOSE"] * 8 + ["NOTICE", "EOSE"]
    assert alice.say(request("0", *topics)) == [["EOSE", "0"]]


def test_an_event_costs_the_more_the_more_hear_it(clock):
    hub = Hub(replace(DEFAULT, burst=10, a_second=1, listener_cost=0.25))
    listeners = [Talk(hub) for _ in range(12)]
    for listener in listeners:
        listener.say(request("a"))
    alice, bob = Talk(hub, "192.0.2.2"), Talk(hub, "192.0.2.3")
    heard = [alice.say(["EVENT", event(content=content(n=n))])[-1] for n in range(5)]
    assert [taken for _, _, taken, _ in heard] == [True, True, True, False, False]
    unheard = {"tags": [["x", "another topic"]]}
    answers = [bob.say(["EVENT", event(content=content(n=n), **unheard)])[0] for n in range(10)]
    assert all(taken for _, _, taken, _ in answers)


def test_a_client_that_does_not_read_is_dropped_and_nothing_is_kept_for_it(alice, bob):
    alice.say(request("a"))
    for number in range(100):
        bob.say(["EVENT", event(content=content(n=number, offer="A" * 16_000))])
        if alice.outbox.dropped.is_set():
            break
    assert 60 < number < 70  # a mebibyte of them
    assert alice.heard() == []
    assert alice.outbox.code == TOO_MUCH


RUBBISH = [
    b"\x00\xff", b"[]", "", "{", "null", "7", '"EVENT"', "{}", "[]", "[[]]", '["EVENT"]',
    '["EVENT",{}]', '["EVENT",{"id":7}]', '["EVENT",{},{}]', '["REQ"]', '["REQ","a"]',
    '["REQ","",{"#x":["t"]}]', '["REQ",7,{"#x":["t"]}]', '["CLOSE"]', '["CLOSE",7]', '["AUTH","a"]',
    '["COUNT","a",{}]', '["OK","a",true,""]', "[" * 10_000, "x" * 65_537, "é" * 40_000,
    "9" * 60_000, "[NaN,Infinity]", "\ud800", '["REQ","\\ud800",{"#x":["\\ud800"]}]',
]  # fmt: skip


@pytest.mark.parametrize("message", RUBBISH, ids=lambda message: repr(message[:24]))
def test_rubbish_is_answered_in_json_and_closed_in_the_end(hub, clock, message):
    talk = Talk(hub)
    answers = talk.say(message)
    assert answers
    assert {answer[0] for answer in answers} <= {"NOTICE", "EOSE"}
    if answers[0][0] == "NOTICE":
        talk.say(*[message] * DEFAULT.patience)
        assert talk.outbox.code == TOO_MUCH


names = st.sampled_from(["EVENT", "REQ", "CLOSE", "AUTH", ""])
text = st.text(max_size=12)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | text | names
anything = (
    leaves | st.lists(leaves, max_size=3) | st.lists(st.lists(leaves, max_size=2), max_size=2)
)
events = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("a" * 64) | anything,
        "pubkey": st.just("b" * 64) | anything,
        "sig": st.just("c" * 128) | anything,
        "kind": st.just(KIND) | anything,
        "created_at": st.just(NOW) | anything,
        "tags": st.just([["x", TOPIC]]) | anything,
        "content": st.just(content()) | anything,
    },
)
filters = st.dictionaries(
    st.sampled_from(["#x", "kinds", "ids", "authors", "since", "until", "limit", "#e"]), anything
)
said = (
    text
    | st.binary(max_size=12)
    | anything.map(json.dumps)
    | st.tuples(names, anything).map(json.dumps)
    | st.tuples(st.just("EVENT"), events).map(json.dumps)
    | st.tuples(st.just("REQ"), text, filters).map(json.dumps)
)


@settings(deadline=None)
@given(st.lists(said, min_size=1, max_size=8))
def test_whatever_is_said_is_answered_with_what_trystero_survives(messages):
    talk = Talk(Hub())
    for answer in talk.say(*messages):
        assert answer[0] in ("OK", "EOSE", "NOTICE")
        if answer[0] == "OK":
            _, id_, taken, reason = answer
            assert taken or FREE.match(reason)
            assert re.fullmatch("[0-9a-f]{64}", id_)
        else:
            assert isinstance(answer[1], str)
