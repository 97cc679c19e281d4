"""STUN and TURN servers of a site: what its owner may set, and how the rest is refused."""

import html
import json
import os
import re
import subprocess
import sys

import pytest

from p2pweb import environment
from tests.relay import ROOT

TURN = {
    "P2PWEB_TURN_SERVERS": "turn:turn.example:3478?transport=udp, turns:turn.example:5349",
    "P2PWEB_TURN_USERNAME": "site",
    "P2PWEB_TURN_PASSWORD": 'x"<&',
}


@pytest.fixture
def read(monkeypatch):
    """read(...): what comes of these variables alone."""

    def read_(**variables: str):
        for name in [*TURN, "P2PWEB_STUN_SERVERS", "P2PWEB_RELAY_ONLY"]:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return environment.ice_servers()

    return read_


def test_without_any_pages_ask_public_stun_servers_and_no_turn(read):
    assert read() == {
        "stun": [], "turn": [], "username": "", "credential": "", "relayOnly": False,
    }  # fmt: skip


def test_all_of_them_are_read(read):
    stun = "stun:a.example, stuns:[2001:db8::1]:5349"
    assert read(**TURN, P2PWEB_STUN_SERVERS=stun, P2PWEB_RELAY_ONLY="1") == {
        "stun": ["stun:a.example", "stuns:[2001:db8::1]:5349"],
        "turn": ["turn:turn.example:3478?transport=udp", "turns:turn.example:5349"],
        "username": "site", "credential": 'x"<&', "relayOnly": True,
    }  # fmt: skip
    assert read(P2PWEB_STUN_SERVERS="none")["stun"] is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("P2PWEB_STUN_SERVERS", "stun.example:3478"),
        ("P2PWEB_STUN_SERVERS", "turn:a.example"),
        ("P2PWEB_STUN_SERVERS", "stun:a.example,none"),
        ("P2PWEB_STUN_SERVERS", "stun:a.example:99999"),
        ("P2PWEB_STUN_SERVERS", "stun:a.example:0"),
        ("P2PWEB_STUN_SERVERS", "stun:a.example?transport=udp"),
        ("P2PWEB_STUN_SERVERS", "stun:me@a.example"),
        ("P2PWEB_STUN_SERVERS", "stun://a.example"),
        ("P2PWEB_STUN_SERVERS", f"stun:{'a' * 256}"),
        ("P2PWEB_STUN_SERVERS", ",".join(f"stun:{n}.example" for n in range(9))),
        ("P2PWEB_TURN_SERVERS", "stun:a.example"),
        ("P2PWEB_TURN_SERVERS", "turn:a.example?transport=sctp"),
        ("P2PWEB_TURN_SERVERS", "turn:"),
        ("P2PWEB_TURN_USERNAME", ""),
        ("P2PWEB_TURN_PASSWORD", ""),
        ("P2PWEB_TURN_PASSWORD", "x" * 513),
    ],
)
def test_what_is_wrong_names_its_variable(read, variable, value):
    with pytest.raises(ValueError, match=re.escape(variable)):
        read(**{**TURN, variable: value})


def test_what_is_of_no_use_without_a_turn_server_is_refused(read):
    for name in ("P2PWEB_TURN_USERNAME", "P2PWEB_TURN_PASSWORD", "P2PWEB_RELAY_ONLY"):
        with pytest.raises(ValueError, match=rf"{name}.*P2PWEB_TURN_SERVERS"):
            read(**{name: "1"})


def test_a_site_does_not_start_with_what_is_wrong():
    wrong = {**os.environ, "P2PWEB_STUN_SERVERS": "a.example"}
    check = [sys.executable, "manage.py", "check"]
    ended = subprocess.run(check, cwd=ROOT, env=wrong, capture_output=True, text=True)
    assert ended.returncode != 0
    last = ended.stderr.strip().splitlines()[-1]
    assert last == ("ValueError: P2PWEB_STUN_SERVERS: 'a.example' is none such as stun:host:port")


def ice_in(page: str) -> dict:
    [found] = re.findall(r'data-ice="([^"]*)"', page)
    return json.loads(html.unescape(found))


def test_the_room_page_carries_them_and_its_policy_stays_as_it_is(client, kitchen, settings, read):
    plain = client.get("/rooms/kitchen/")
    assert ice_in(plain.content.decode()) == read()
    settings.P2PWEB_ICE = read(**TURN)
    answer = client.get("/rooms/kitchen/")
    page = answer.content.decode()
    assert ice_in(page) == read(**TURN)
    assert 'id="hide-address"' in page

    def without_nonce(answer):
        return re.sub(r"'nonce-[^']+'", "", answer.headers["Content-Security-Policy"])

    assert without_nonce(answer) == without_nonce(plain), "no policy governs STUN and TURN"


@pytest.mark.parametrize("variables", [{}, {**TURN, "P2PWEB_RELAY_ONLY": "1"}])
def test_hiding_is_offered_only_where_there_is_a_choice(client, kitchen, settings, read, variables):
    settings.P2PWEB_ICE = read(**variables)
    assert 'id="hide-address"' not in client.get("/rooms/kitchen/").content.decode()


def test_switched_off_they_are_not_told(client, kitchen, settings, read):
    settings.P2PWEB_MESH, settings.P2PWEB_ICE = False, read(**TURN)
    page = client.get("/rooms/kitchen/").content.decode()
    assert "data-ice" not in page
    assert "turn.example" not in page
