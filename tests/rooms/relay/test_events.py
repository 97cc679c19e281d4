"""What may be published, and that nothing else is."""

import json

import pytest
from coincurve import PrivateKey

from rooms.relay.events import RefusedError, SkewedError, read_event, signed_event
from rooms.relay.limits import DEFAULT
from tests.rooms.relay.events import KIND, TOPIC, content, event

OTHER_KEY = PrivateKey(b"\x08" * 32)


def read(value):
    found = read_event(value, DEFAULT)
    found.verify()
    return found


@pytest.mark.parametrize("kind", [20_000, 22_083, 23_150, 29_999])
def test_what_trystero_sends_is_taken(kind):
    offer = content(offerId="x" * 20, offer="255,0," * 4 + "$" + "A" * 6000, passive=True)
    sent = event(kind=kind, content=offer)
    found = read(sent)
    assert (found.id, found.kind, found.topics) == (sent["id"], kind, (TOPIC,))


@pytest.mark.parametrize(
    "text", ["é漢😀", 'quote " and \\ back', "\n\r\t\b\f", "\x00\x01\x1f\x7f", "\u2028\u2029"]
)
def test_an_id_is_counted_over_every_kind_of_character(text):
    assert read(event(content=content(name=text), tags=[["x", text], ["y"]])).topics == (text,)


def test_an_event_is_passed_on_as_it_was_signed_and_with_nothing_added():
    sent = event()
    assert json.loads(read({**sent, "extra": "secret"}).text) == sent


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": 1}, "only kinds 20000 to 29999"),
        ({"kind": 30_000}, "only kinds"),
        ({"kind": 19_999}, "only kinds"),
        ({"kind": float(KIND)}, "kind must be a whole number"),
        ({"kind": True}, "kind must be a whole number"),
        ({"created_at": 1e9}, "created_at must be a whole number"),
        ({"created_at": -1}, "created_at must be a whole number"),
        ({"created_at": 10**400}, "created_at must be a whole number"),
        ({"tags": []}, "needs a tag"),
        ({"tags": [["x"]]}, "needs a tag"),
        ({"tags": [["y", TOPIC]]}, "needs a tag"),
        ({"tags": {}}, "tags must be a list"),
        ({"tags": [["x", TOPIC]] * 17}, "tags must be a list of at most 16"),
        ({"tags": [[]]}, "a tag must be a list"),
        ({"tags": ["x"]}, "a tag must be a list"),
        ({"tags": [["x", 7]]}, "a tag has strings"),
        ({"tags": [["x", "t" * 257]]}, "a tag has strings of at most 256"),
        ({"content": content(offer="\ud800")}, ""),  # escaped: fine, as in JavaScript
        ({"content": '{"peerId":"\ud800"}'}, "peerId"),
        ({"content": content() + " \ud800"}, "peerId"),
        ({"tags": [["x", "\ud800"]]}, "valid Unicode"),
        ({"content": ""}, "peerId"),
        ({"content": "[]"}, "peerId"),
        ({"content": "null"}, "peerId"),
        ({"content": '{"peerId":7}'}, "peerId"),
        ({"content": '{"peerId":"__proto__"}'}, "peerId"),
        ({"content": '{"peerId":"' + "a" * 19 + '"}'}, "peerId"),
        ({"content": '{"peerId":"' + "a" * 20 + '\\n"}'}, "peerId"),
        ({"content": '{"peerId":"' + "é" * 20 + '"}'}, "peerId"),
        ({"content": "[" * 5000}, "peerId"),
        ({"content": content(offer="A" * 16_384)}, "content must be a string of at most 16384"),
        ({"content": {"peerId": "a" * 20}}, "content must be a string"),
    ],
)
def test_an_event_that_is_wrong_is_refused_although_its_signature_is_right(fields, reason):
    sent = event(**fields)
    if not reason:
        read(sent)
        return
    with pytest.raises(RefusedError, match=reason):
        read(sent)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": "0" * 64}, "id is not the SHA-256"),
        ({"content": content(offer="forged")}, "id is not the SHA-256"),
        ({"tags": [["x", "elsewhere"]]}, "id is not the SHA-256"),
        ({"sig": "0" * 128}, "signature"),
        ({"sig": "f" * 128}, "signature"),
        ({"sig": event(OTHER_KEY)["sig"]}, "signature"),
        ({"sig": "A" * 128}, "sig must be lower-case"),
        ({"sig": None}, "sig must be lower-case"),
        ({"id": "a" * 63}, "id must be lower-case"),
        ({"pubkey": "a" * 64 + "\n"}, "pubkey must be lower-case"),
    ],
)
def test_an_event_that_was_changed_after_it_was_signed_is_refused(fields, reason):
    with pytest.raises(RefusedError, match=reason):
        read({**event(), **fields})


def test_a_key_that_is_none_is_refused():
    with pytest.raises(RefusedError, match="not on the curve"):
        read(event(pubkey="f" * 64))


@pytest.mark.parametrize("value", [None, [], "event", 7])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(RefusedError, match="JSON object"):
        read(value)


NOW = 1_795_000_000


@pytest.mark.parametrize("off", [-60, 0, 60])
def test_a_clock_that_is_a_little_off_is_right_enough(off):
    read(event(created_at=NOW + off)).check_clock(NOW, DEFAULT)


@pytest.mark.parametrize(
    ("off", "said"), [(-61, "61 s behind"), (61, "61 s ahead"), (2**40, "1099511627776 s ahead")]
)
def test_a_clock_that_is_wrong_is_named_with_its_seconds(off, said):
    with pytest.raises(SkewedError, match=said):
        read(event(created_at=NOW + off)).check_clock(NOW, DEFAULT)


def test_an_event_of_ours_is_right():
    found = read(signed_event(OTHER_KEY, KIND, TOPIC, content(more="ü\u2028"), 1_800_000_000))
    assert (found.kind, found.topics, found.created_at) == (KIND, (TOPIC,), 1_800_000_000)
