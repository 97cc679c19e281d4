"""GET /api/stats in front of Django"""

import json

import pytest
from channels.testing import HttpCommunicator
from django.db import DatabaseError

from genqueue.api import stats
from genqueue.api.shortcut import StatsFirst


async def django(scope, receive, send):
    """Stands where Django stands, and says that it was asked."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def status_of(method="GET", path="/api/stats", headers=((b"host", b"localhost"),)):
    ask = HttpCommunicator(StatsFirst(django), method, path, headers=list(headers))
    return await ask.get_response()


@pytest.fixture(autouse=True)
def made(monkeypatch):
    monkeypatch.setattr(stats, "_snapshot", lambda: b'{"rooms": 7}')
    stats.newest.forget()


async def test_a_plain_poll_is_answered_there():
    response = await status_of()
    assert response["status"] == 200
    assert json.loads(response["body"]) == {"rooms": 7}
    headers = dict(response["headers"])
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"content-length"] == str(len(response["body"])).encode()


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "HEAD"},
        {"method": "POST"},
        {"path": "/api/health"},
        {"path": "/api/stats/"},
        {"headers": [(b"host", b"localhost"), (b"origin", b"https://front.example")]},
        {"headers": [(b"host", b"evil.example")]},
        {"headers": [(b"host", b"\xff")]},
        {"headers": []},
        {"headers": [(b"host", b"localhost"), (b"host", b"evil.example")]},
    ],
)
async def test_everything_else_is_djangos(asked, settings):
    settings.ALLOWED_HOSTS = ["localhost"]
    assert (await status_of(**asked))["status"] == 299


async def test_without_a_database_django_says_so(monkeypatch):
    def fail():
        raise DatabaseError

    monkeypatch.setattr(stats, "_snapshot", fail)
    assert (await status_of())["status"] == 299
