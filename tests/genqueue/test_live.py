"""What changes by itself: hints to pages, presence, statistics."""

import asyncio
import contextlib
import sqlite3
from datetime import timedelta

import pytest
from channels.layers import get_channel_layer
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from genqueue import actions, presence, roster, statistics
from genqueue.events import WORKERS_GROUP, room_group
from genqueue.models import Presence, Worker
from genqueue.representation import room_as_json
from genqueue.watching import watch_sqlite
from tests.genqueue.conftest import new_worker, settings_of


@pytest.mark.django_db
class TestStatistics:
    def test_count_jobs_and_images_by_state(self, alice, worker):
        actions.submit_job("kitchen", alice.client_id, settings_of(num_images=2))
        worker.do_all()
        actions.submit_job("cellar", alice.client_id, settings_of())
        stats = statistics.snapshot()
        assert stats["rooms"] == 2
        assert (stats["jobs"]["done"], stats["jobs"]["queued"]) == (1, 1)
        assert (stats["images"]["done"], stats["images"]["queued"]) == (2, 1)
        assert (stats["images_last_minute"], stats["images_in_all"]) == (2, 2)
        assert (stats["steps_last_minute"], stats["steps_in_all"]) == (16, 16)
        assert stats["helpers_online"] == 1
        assert stats["wait_seconds"]["median"] is not None
        assert stats["run_seconds"]["p95"] is not None

    def test_are_read_once_a_second_however_many_ask(self, alice, django_assert_num_queries):
        first = statistics.snapshot()
        with django_assert_num_queries(0):
            assert [statistics.snapshot() for _ in range(100)] == [first] * 100

    def test_count_what_has_ended_the_more_seldom_the_longer_that_takes(self, alice, monkeypatch):
        def ended_and_queued():
            monkeypatch.setattr(statistics, "_latest", None)
            jobs = statistics.snapshot()["jobs"]
            return jobs["cancelled"], jobs["queued"]

        job, _token = actions.submit_job("kitchen", alice.client_id, settings_of())
        assert ended_and_queued() == (0, 1)
        monkeypatch.setattr(statistics, "COUNTING_PAUSE", 10**6)
        statistics.forget()
        assert ended_and_queued() == (0, 1)
        actions.cancel_job(job)
        assert ended_and_queued() == (0, 0), "live ones are always counted"
        statistics.forget()
        assert ended_and_queued() == (1, 0)

    def test_remember_what_was_removed(self, alice, worker):
        actions.submit_job("kitchen", alice.client_id, settings_of())
        worker.do_all()
        actions.clear_finished()
        stats = statistics.snapshot()
        assert (stats["jobs"]["done"], stats["images_in_all"], stats["steps_in_all"]) == (0, 1, 8)


@pytest.mark.django_db
class TestPresence:
    def test_is_the_sum_over_sites_and_of_the_room_only(self, alice, monkeypatch):
        presence.set_peers("kitchen", 2)
        presence.set_peers("cellar", 1)
        monkeypatch.setattr(presence, "SITE", "another")
        presence.set_peers("kitchen", 3)
        assert room_as_json("kitchen")["peers"] == 5
        assert presence.rooms_and_peers() == (2, 6)

    def test_of_a_dead_site_is_forgotten(self):
        presence.set_peers("kitchen", 2)
        Presence.objects.update(seen_at=timezone.now() - timedelta(seconds=31))
        assert presence.peers("kitchen") == 0
        presence.repeat()
        assert presence.peers("kitchen") == 2, "this site lives and says so"

    def test_changes_the_rooms_revision_only_when_it_is_news(self, alice):
        actions.make_room("kitchen", alice.client_id)
        presence.set_peers("kitchen", 1)
        before = room_as_json("kitchen")["revision"]
        presence.set_peers("kitchen", 1)
        assert room_as_json("kitchen")["revision"] == before
        presence.set_peers("kitchen", 0)
        assert room_as_json("kitchen")["revision"] > before


@pytest.mark.django_db(transaction=True)
async def test_the_site_sees_the_workers_commits_in_the_database(alice):
    """Embedded, the worker is another process: nothing but the database connects the two."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(room_group("kitchen"), channel)
    await asyncio.to_thread(actions.make_room, "kitchen", alice.client_id)
    watching = asyncio.create_task(watch_sqlite(str(connection.settings_dict["NAME"])))
    try:
        await asyncio.sleep(0.1)
        before = asyncio.get_running_loop().time()

        def in_another_thread():
            try:
                actions.submit_job("kitchen", alice.client_id, settings_of())
                new_worker()
            finally:
                connection.close()

        await asyncio.to_thread(in_another_thread)
        hint = await asyncio.wait_for(layer.receive(channel), 5)
        assert hint["type"] == "room.changed"
        assert hint["room"] == "kitchen"
        assert hint["revision"] > 0
        assert asyncio.get_running_loop().time() - before < 2
    finally:
        watching.cancel()
        await layer.group_discard(room_group("kitchen"), channel)


@pytest.mark.django_db(transaction=True)
async def test_the_site_sees_a_worker_load_and_be_ready_in_the_database():
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(WORKERS_GROUP, channel)
    hand = await asyncio.to_thread(in_a_thread, new_worker, state="loading")
    watching = asyncio.create_task(watch_sqlite(str(connection.settings_dict["NAME"])))
    try:
        await asyncio.sleep(0.1)
        for old, new in (("loading", "ready"), ("ready", "gone"), ("gone", "loading")):
            await asyncio.to_thread(in_a_thread, roster.set_state, hand.id, old, new)
            assert await asyncio.wait_for(layer.receive(channel), 5) == {"type": "workers.changed"}
        await asyncio.to_thread(in_a_thread, seen_now)
        with pytest.raises(TimeoutError):  # its heartbeat is no news
            await asyncio.wait_for(layer.receive(channel), 0.3)
    finally:
        watching.cancel()
        await layer.group_discard(WORKERS_GROUP, channel)


def in_a_thread(function, *arguments, **names):
    try:
        return function(*arguments, **names)
    finally:
        connection.close()


def seen_now():
    assert Worker.objects.update(last_seen_at=timezone.now()) == 1


async def test_the_database_may_lie_in_a_folder_of_any_name(tmp_path):
    path = tmp_path / "100% mine? #1" / "p2pweb.sqlite3"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE queue_room (id TEXT, revision INTEGER)")
        database.execute("CREATE TABLE queue_worker (id TEXT, state TEXT, device, started_at)")
        database.commit()
    watching = asyncio.create_task(watch_sqlite(str(path)))
    done, _ = await asyncio.wait([watching], timeout=0.2)
    watching.cancel()
    assert not done  # it would have ended with an error


@pytest.mark.django_db
def test_the_migrations_are_complete():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
