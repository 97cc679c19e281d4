"""GET /api/health"""

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from genqueue.api.health import HealthJson
from genqueue.models import Worker
from genqueue.transitions import WorkerState

pytestmark = pytest.mark.django_db


def health(browser, status=200):
    response = browser.get("/api/health")
    assert response.status_code == status
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"] == "application/json"
    HealthJson.model_validate(response.json())
    return response.json()


def test_with_a_ready_worker_all_is_well(client):
    Worker.objects.create(name="server", state=WorkerState.READY, device="cuda NVIDIA H200")
    answer = health(client)
    assert answer["status"] == "ok"
    assert answer["device"] == "cuda NVIDIA H200"
    parts = ("database", "broker", "channel_layer", "worker")
    assert {answer[part]["status"] for part in parts} == {"ok"}


def test_while_the_model_loads_it_says_loading(client):
    Worker.objects.create(name="server", state=WorkerState.LOADING)
    answer = health(client)
    assert answer["status"] == answer["worker"]["status"] == "loading"


def test_without_a_worker_the_site_lives_but_is_degraded(client):
    long_ago = timezone.now() - timedelta(hours=1)
    Worker.objects.create(name="lost", state=WorkerState.READY, last_seen_at=long_ago)
    answer = health(client)
    assert answer["status"] == "degraded"
    assert answer["worker"]["status"] == "down"


def test_an_unreachable_redis_is_named_without_its_address(client, settings):
    settings.REDIS_URL = "redis://:secret@127.0.0.1:1/0"
    answer = health(client)
    assert answer["status"] == "degraded"
    assert answer["broker"]["status"] == answer["channel_layer"]["status"] == "down"
    assert "secret" not in str(answer)


def test_without_a_database_it_answers_503_in_the_same_form(client, monkeypatch):
    def fail(*args):
        raise DatabaseError("password of somebody")

    monkeypatch.setattr(connection, "cursor", fail)
    answer = health(client, 503)
    assert answer["status"] == answer["database"]["status"] == "down"
    assert "password" not in str(answer)


def test_a_broker_folder_that_cannot_be_written_is_down(client, settings, tmp_path):
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_in": str(tmp_path / "gone")}
    assert health(client)["broker"]["status"] == "down"
