"""Whose pages may use the site's relay."""

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator

from rooms.routing import websocket_urlpatterns

# Who refuses a socket is a consumer of Channels, which looks after database connections.
pytestmark = pytest.mark.django_db

application = URLRouter(websocket_urlpatterns)
OWN, OTHER = "https://testserver", "https://pages.example"


@pytest.fixture(autouse=True)
def host(settings):
    settings.ALLOWED_HOSTS = ["testserver"]


async def opens(origin: str | None, path: str = "/relay/") -> bool:
    headers = [(b"host", b"testserver")]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    socket = WebsocketCommunicator(application, path, headers)
    socket.scope["scheme"] = "wss"
    accepted, _ = await socket.connect(timeout=5)
    if accepted:
        await socket.send_json_to(["REQ", "a", {"#x": ["topic"]}])
        assert await socket.receive_json_from(timeout=5) == ["EOSE", "a"]
    await socket.disconnect()
    return accepted


@pytest.mark.parametrize("origin", [OWN, OTHER, "null", None])
@pytest.mark.parametrize("path", ["/relay/", "/relay", "/relay/?again=2"])
async def test_pages_of_every_origin_may_use_it_unless_told_otherwise(origin, path):
    assert await opens(origin, path)


@pytest.mark.parametrize(
    ("origin", "may"),
    [
        (OWN, True),
        (OTHER, True),
        ("https://pages.example:444", False),
        ("http://pages.example", False),
        ("https://evil.example", False),
        ("null", False),
        (None, False),
    ],
)
async def test_with_a_list_of_origins_only_those_and_its_own_pages_may(settings, origin, may):
    settings.P2PWEB_RELAY_ORIGINS = [OTHER]
    assert await opens(origin) is may


@pytest.mark.parametrize(("origin", "may"), [(OWN, True), (OTHER, False)])
async def test_it_may_be_kept_for_its_own_pages(settings, origin, may):
    settings.P2PWEB_RELAY_ORIGINS = ["same-origin"]
    assert await opens(origin) is may


async def test_rooms_stay_closed_to_other_origins():
    headers = [(b"host", b"testserver"), (b"origin", OTHER.encode())]
    socket = WebsocketCommunicator(application, "/ws/rooms/kitchen/", headers)
    accepted, _ = await socket.connect(timeout=5)
    assert not accepted


@pytest.mark.parametrize(
    ("method", "accept", "kind"),
    [
        ("get", "application/nostr+json", "application/nostr+json"),
        ("get", "text/html, application/nostr+json;q=0.9", "application/nostr+json"),
        ("get", "text/html", "text/plain"),
        ("head", "application/nostr+json", "application/nostr+json"),
    ],
)
def test_a_plain_request_is_answered_for_every_origin_and_sets_no_cookie(
    client, method, accept, kind
):
    answer = getattr(client, method)("/relay/", headers={"accept": accept, "origin": OTHER})
    assert answer.status_code == 200
    assert answer["Content-Type"] == kind
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert not answer.cookies


def test_a_preflight_is_granted(client):
    answer = client.options("/relay/", headers={"origin": OTHER})
    assert answer.status_code == 204
    assert answer["Access-Control-Allow-Headers"] == "*"
