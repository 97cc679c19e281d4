"""What Python says of Trystero's, beside what the vendored source makes. That both meet is shown by
tests/js/room/test_python_peer.py."""

import pytest

from rooms.remote.webrtc import trystero
from rooms.remote.webrtc.strangers import is_peer_id, read_claim, read_message, rightful


def test_an_id_is_a_peers_and_larger_than_those_of_tabs():
    ids = {trystero.large_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(is_peer_id(id_) and id_ > "zzz9" for id_ in ids)


def test_what_was_sealed_is_opened_with_the_same_password_only():
    sealed = trystero.Cipher("kitchen", "secret").seal("Grüße")
    assert trystero.Cipher("kitchen", "secret").open(sealed) == "Grüße"
    for room, password in (("kitchen", ""), ("cellar", "secret")):
        with pytest.raises(trystero.SealError):
            trystero.Cipher(room, password).open(sealed)


@pytest.mark.parametrize(
    "text", ["", "$", "1,2$AAAA", "1,2,x$AAAA", "300$AAAA", f"{'1,' * 15}1$!", "1" * 5000]
)
def test_what_was_never_sealed_is_an_error(text):
    with pytest.raises(trystero.SealError):
        trystero.Cipher("kitchen", "").open(text)


def test_frames_of_other_rooms_and_of_nothing_are_passed_over():
    channel = trystero.Channel("kitchen")
    frame = channel.frame(trystero.HANDSHAKE, {"c": 1})
    assert channel.read(frame) == (trystero.HANDSHAKE, {"c": 1})
    assert channel.read(channel.frame(trystero.READY)) == (trystero.READY, "")
    assert trystero.Channel("cellar").read(frame) is None
    for wrong in ("text", b"", frame[:40], frame[:-1], frame + b"\xff"):
        assert channel.read(wrong) is None


@pytest.mark.parametrize(
    "data",
    [b"{}", "{", "[]", "null", '{"type":1}', '{"type":"A"}', '{"type":"a..b"}', '{"type":"a\\n"}',
     '{"type":"a","more":"' + "x" * 16_384 + '"}', "[" * 16_000],
)  # fmt: skip
def test_messages_that_are_none_are_not_read(data):
    assert read_message(data) is None
    assert read_message('{"type":"net.beat","number":1}') == {"type": "net.beat", "number": 1}


@pytest.mark.parametrize(
    "about",
    [None, [], {}, {"queue": 1}, {"queue": {"holds": "true", "term": True}},
     {"queue": {"term": 2**31}}, {"queue": {"term": -1}}, {"queue": {"term": 1.5}}],
)  # fmt: skip
def test_claims_that_are_none_claim_nothing(about):
    claim = read_claim("a", about)
    assert (claim.holds, claim.term) == (False, 0)


def test_the_highest_term_is_followed_and_of_equal_ones_the_lowest_id():
    def claim(id_: str, term: int, holds: bool = True, **more: object):
        return read_claim(id_, {"queue": {"holds": holds, "term": term, **more}})

    assert rightful([claim("c", 2), claim("b", 2), claim("a", 1)]).id == "b"
    assert rightful([claim("a", 2, capable=False), claim("b", 2)]).id == "b"
    assert rightful([claim("a", 3, capable=False), claim("b", 2)]).id == "a"
    assert rightful([claim("a", 9, holds=False)]) is None
