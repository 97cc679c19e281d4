"""The site on a real PostgreSQL without Redis: pages hear of every step, and limits hold."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from channels.layers import get_channel_layer
from psycopg.conninfo import conninfo_to_dict

from diffusion.random_model import write_random_model
from genqueue import clients
from genqueue.events import WORKERS_GROUP, room_group
from genqueue.watching import watch_postgresql
from tests.genqueue.processes import Site, until
from tests.genqueue.servers import has_postgres, postgres_server

ROOM_JOBS, CLIENT_JOBS = 5, 3


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    assert has_postgres(), "install postgresql"
    with postgres_server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="module")
def site(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    write_random_model(folder / "models" / "tiny")
    running = Site(
        folder / "data", folder / "models", folder / "log", DATABASE_URL=database,
        P2PWEB_MAX_JOBS_PER_ROOM=str(ROOM_JOBS), P2PWEB_MAX_JOBS_PER_CLIENT=str(CLIENT_JOBS),
        P2PWEB_JOBS_A_MINUTE_WITHOUT_COOKIE="1000",
    )  # fmt: skip
    try:
        yield running.ready()
    finally:
        running.stop()


@pytest.fixture
def execute(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection.execute


@pytest.fixture
def paused_room(execute):
    """Makes a room in which nothing is computed, so that its jobs stay unfinished."""

    def make(room: str) -> str:
        execute(
            "INSERT INTO queue_room (id, owner, title, listed, paused, server_helps, tabs_help,"
            " created_at, visited_at, revision, last_turn)"
            " VALUES (%s, '', '', false, true, true, true, now(), now(), 0, 0)",
            [room],
        )
        return room

    return make


async def heard(channel: str, job: dict) -> list[dict]:
    layer = get_channel_layer()
    hints = []
    while not hints or hints[-1]["revision"] < job["revision"]:
        hints.append(await asyncio.wait_for(layer.receive(channel), 30))
    return hints


async def test_every_change_is_hinted_at_and_a_lost_connection_made_again(site, database, execute):
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(room_group("kitchen"), channel)
    task = asyncio.create_task(watch_postgresql(conninfo_to_dict(database)))
    listeners = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'"

    def number_listening() -> int:
        return execute(f"SELECT count(*) {listeners}").fetchone()[0]

    def all_listen() -> None:
        until(lambda: number_listening() == 2, 20, "listening of the site and of this test")

    try:
        for _ in range(2):
            await asyncio.to_thread(all_listen)
            job = await asyncio.to_thread(site.submit)
            await asyncio.to_thread(site.finished, job)
            room = await asyncio.to_thread(site.get, "/api/queue/kitchen")
            hints = await heard(channel, room)
            assert {(hint["type"], hint["room"]) for hint in hints} == {("room.changed", "kitchen")}
            assert len(hints) > job["steps"]
            assert [hint["revision"] for hint in hints] == sorted(h["revision"] for h in hints)
            execute(f"SELECT pg_terminate_backend(pid) {listeners}")
            await asyncio.to_thread(until, lambda: number_listening() < 2, 20, "the loss")
    finally:
        task.cancel()
        await layer.group_discard(room_group("kitchen"), channel)


async def test_pages_hear_of_a_worker_that_ends_and_comes_back(site, database):
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(WORKERS_GROUP, channel)
    task = asyncio.create_task(watch_postgresql(conninfo_to_dict(database)))
    try:
        await asyncio.sleep(0.5)
        os.kill(site.worker_pid, signal.SIGKILL)
        for _ in range(3):  # gone, loading, ready
            hint = await asyncio.wait_for(layer.receive(channel), 60)
            assert hint == {"type": "workers.changed"}
    finally:
        task.cancel()
        await layer.group_discard(WORKERS_GROUP, channel)


def submitted(site, room: str, cookie: str = "") -> int:
    """The status of one more job."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.port}/api/queue/{room}",
        data=json.dumps({"prompt": "a rocket"}).encode(),
        headers={"Content-Type": "application/json", **({"Cookie": cookie} if cookie else {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def at_once(site, rooms: list[str], cookie: str = "") -> list[int]:
    with ThreadPoolExecutor(len(rooms)) as pool:
        return sorted(pool.map(lambda room: submitted(site, room, cookie), rooms))


def test_parallel_jobs_never_exceed_the_limit_of_a_room(site, execute, paused_room):
    for number in range(3):
        room = paused_room(f"crowd-{number}")
        statuses = at_once(site, [room] * 16)
        assert statuses == [201] * ROOM_JOBS + [429] * (16 - ROOM_JOBS)
        jobs = "SELECT count(*) FROM queue_job WHERE room_id = %s"
        assert execute(jobs, [room]).fetchone()[0] == ROOM_JOBS


def test_parallel_jobs_in_several_rooms_never_exceed_the_limit_of_a_client(site, paused_room):
    for number in range(3):
        rooms = [paused_room(f"place-{number}-{place}") for place in range(12)]
        with urllib.request.urlopen(f"http://127.0.0.1:{site.port}/", timeout=20) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert cookie.startswith(clients.COOKIE_NAME)
        statuses = at_once(site, rooms, cookie)
        assert statuses == [201] * CLIENT_JOBS + [429] * (12 - CLIENT_JOBS)
