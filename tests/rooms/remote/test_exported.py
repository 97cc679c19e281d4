"""What the address of an exported room leads to, and what is no such address."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from django.core.management import CommandError, call_command

from rooms.remote.address import NotLetInError
from rooms.remote.exported import (
    Package,
    checked_relay,
    choose,
    exported_room,
    packages_of,
    private_room,
    relays_of,
)

PAGE = "https://example.org/some/where/room.html"
PASSWORD = "a-password-of-24-letters"
MODEL, PACKAGE = "a" * 64, "b" * 64


@pytest.mark.parametrize("fragment", ["kitchen", "kitchen/", "kitchen/?like=1/2"])
def test_the_room_stands_after_the_number_sign(fragment):
    found = exported_room(f"{PAGE}#{fragment}")
    assert (found.page, found.room, found.password) == (PAGE, "kitchen", "")


def test_a_private_room_has_its_password_behind_it():
    room = private_room(PASSWORD)
    found = exported_room(f"{PAGE}#{room}/?key={PASSWORD}")
    assert (found.room, found.password) == (room, PASSWORD)


def test_a_room_of_a_site_is_none():
    assert exported_room("https://example.org/rooms/kitchen/") is None
    assert exported_room("https://example.org/rooms/kitchen/#main") is None


@pytest.mark.parametrize("url", [f"{PAGE}#a b", f"{PAGE}#{'x' * 65}", "ftp://x/#a", "room.html#a"])
def test_what_is_no_address_of_a_room_is_said(url):
    with pytest.raises(ValueError, match="is not the address of a room"):
        exported_room(url)


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        (f"kitchen/?key={PASSWORD}", "belongs to no room of this name"),
        (private_room(PASSWORD), "This room is private"),
        (f"{private_room(PASSWORD)}/?key={PASSWORD[:-1]}", "not that of this room"),
        (f"{private_room('short')}/?key=short", "not that of this room"),
    ],
)
def test_a_link_without_its_own_password_is_told_apart(fragment, said):
    with pytest.raises(ValueError, match=said):
        exported_room(f"{PAGE}#{fragment}")


class Host:
    """Serves `files` by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = host.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                """pytest shows what failed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.page = f"http://127.0.0.1:{self.server.server_port}/p2p/room.html"


@pytest.fixture
def host():
    host = Host()
    thread = Thread(target=host.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield host
    host.server.shutdown()
    host.server.server_close()
    thread.join()


def test_relays_are_those_of_the_page(host):
    host.files["/p2p/room.html"] = b'<p data-relays="x"><body data-relays="wss://a/ wss://b/">'
    assert relays_of(host.page) == ["wss://a/", "wss://b/"]
    host.files["/p2p/room.html"] = b'<body data-relays="https://a/">'
    with pytest.raises(NotLetInError, match="wss://host/"):
        relays_of(host.page)
    host.files["/p2p/room.html"] = b"<body>"
    with pytest.raises(NotLetInError, match="names no relay") as alone:
        relays_of(host.page)
    assert alone.value.final


def test_packages_are_those_of_the_page_and_only_known_ones(host):
    entries = [
        {"model": "tiny", "model_id": MODEL, "package_id": PACKAGE},
        {"model": "tiny", "model_id": None, "package_id": None},
    ]
    host.files["/p2p/packages.json"] = json.dumps({"packages": entries}).encode()
    assert packages_of(host.page) == [Package("tiny", MODEL, PACKAGE)]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"packages":[1]}', b'{"packages":[{}]}', b"[" * 99999]
)
def test_what_lists_no_packages_is_said(host, body):
    host.files["/p2p/packages.json"] = body
    with pytest.raises(NotLetInError, match="lists no packages"):
        packages_of(host.page)


def test_a_page_that_is_not_there_or_has_no_end_is_said(host):
    with pytest.raises(NotLetInError, match="answered 404") as gone:
        packages_of(host.page)
    assert gone.value.final
    host.files["/p2p/packages.json"] = bytes(2**22 + 1)
    with pytest.raises(NotLetInError, match="too long"):
        packages_of(host.page)
    with pytest.raises(NotLetInError, match="does not answer") as away:
        packages_of("http://127.0.0.1:9/room.html")
    assert not away.value.final


def test_only_models_with_the_same_weights_are_chosen():
    packages = [Package("tiny", MODEL, PACKAGE), Package("large", PACKAGE, MODEL)]
    assert choose(packages, {MODEL}) == packages[:1]
    with pytest.raises(NotLetInError, match="large, tiny"):
        choose(packages, {"c" * 64})


def test_a_relay_is_checked():
    assert checked_relay("wss://relay.example/") == "wss://relay.example/"
    with pytest.raises(NotLetInError):
        checked_relay("relay.example")


def test_without_aiortc_the_command_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "rooms.remote.webrtc.line", raising=False)
    monkeypatch.setitem(sys.modules, "aiortc", None)
    with pytest.raises(
        CommandError, match=r"needs aiortc: pip install -r requirements-webrtc\.txt"
    ):
        call_command("helper", f"{PAGE}#kitchen")
