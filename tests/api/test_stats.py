"""GET /api/stats"""

import asyncio

import pytest
from django.test import AsyncClient

from genqueue import actions, statistics
from genqueue.api import stats
from genqueue.models import Job
from genqueue.shapes import StatsJson
from tests.api.conftest import has_shape, post


@pytest.fixture(autouse=True)
def from_the_start():
    stats.newest.forget()
    statistics.forget()


@pytest.mark.django_db
def test_it_counts_what_there_is(alice):
    post(alice.browser, body={"prompt": "a rocket", "num_images": 3})
    actions.cancel_job(Job.objects.get(pk=post(alice.browser).json()["id"]))
    response = alice.browser.get("/api/stats")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert has_shape(response.json(), StatsJson)
    assert response.json()["rooms"] == 1
    assert response.json()["jobs"]["queued"] == 1
    assert response.json()["jobs"]["cancelled"] == 1
    assert response.json()["images"]["queued"] == 3


@pytest.mark.django_db
def test_polling_asks_the_database_once(client, django_assert_num_queries):
    client.get("/api/stats")
    with django_assert_num_queries(0):
        for _ in range(5):
            assert client.get("/api/stats").status_code == 200


async def test_nobody_waits_for_newer_statistics_while_there_are_usable_ones(monkeypatch):
    made = iter([b"1", b"2", b"3"])
    monkeypatch.setattr(stats, "_snapshot", lambda: next(made))
    newest = stats.Bytes()
    assert await newest.get() == b"1"
    assert await newest.get() == b"1"
    monkeypatch.setattr(stats, "FRESH_FOR_SECONDS", -1)
    assert await newest.get() == b"1"  # and starts the renewal
    await asyncio.sleep(0.05)
    monkeypatch.setattr(stats, "FRESH_FOR_SECONDS", 60)
    assert await newest.get() == b"2"
    monkeypatch.setattr(stats, "USABLE_FOR_SECONDS", -1)
    assert await newest.get() == b"3"


@pytest.mark.django_db(transaction=True)
async def test_it_works_in_an_asynchronous_site():
    assert (await AsyncClient().get("/api/stats")).json()["jobs"]["queued"] == 0
