"""Where tabs of the site meet: what the page and its policy say of it, and how to switch it off."""

import pytest

from p2pweb import environment
from rooms.policy import origins


def connect_of(answer) -> str:
    policy = answer.headers["Content-Security-Policy"]
    [sources] = [part for part in policy.split("; ") if part.startswith("connect-src ")]
    return sources


def test_the_page_names_further_relays_and_its_policy_lets_it_connect_to_them(
    client, kitchen, settings
):
    settings.P2PWEB_RELAYS = ["wss://one.example/nostr", "wss://one.example/", "ws://[::1]:7777"]
    answer = client.get("/rooms/kitchen/")
    assert connect_of(answer) == "connect-src 'self' wss://one.example ws://[::1]:7777"
    named = 'data-mesh="wss://one.example/nostr wss://one.example/ ws://[::1]:7777"'
    assert named in answer.content.decode()


def test_without_further_relays_it_connects_to_this_site_alone(client, kitchen):
    answer = client.get("/rooms/kitchen/")
    assert connect_of(answer) == "connect-src 'self'"
    assert 'data-mesh=""' in answer.content.decode()
    assert 'id="meeting"' in answer.content.decode()


def test_switched_off_nothing_is_said_of_it(client, kitchen, settings):
    settings.P2PWEB_MESH, settings.P2PWEB_RELAYS = False, ["wss://one.example/"]
    answer = client.get("/rooms/kitchen/")
    assert connect_of(answer) == "connect-src 'self'"
    assert "data-mesh" not in answer.content.decode()
    assert 'id="meeting"' not in answer.content.decode()


@pytest.mark.parametrize("address", ["https://one.example", "one.example", "wss://", "wss:one"])
def test_an_address_that_is_none_names_its_variable(monkeypatch, address):
    monkeypatch.setenv("P2PWEB_RELAYS", f"wss://fine.example,{address}")
    with pytest.raises(ValueError, match="P2PWEB_RELAYS"):
        environment.sockets("P2PWEB_RELAYS")


def test_addresses_are_a_list_and_origins_are_each_named_once(monkeypatch):
    monkeypatch.setenv("P2PWEB_RELAYS", "wss://one.example/a, wss://one.example/b")
    addresses = environment.sockets("P2PWEB_RELAYS")
    assert addresses == ["wss://one.example/a", "wss://one.example/b"]
    assert origins(addresses) == ["wss://one.example"]
