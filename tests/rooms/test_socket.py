"""The room WebSocket: what a page is sent, what it may send, and how lost hints are made good."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async

from genqueue import actions, events, presence, roster
from genqueue.kinds import ChunkKind
from genqueue.models import Room
from rooms import feed, room_socket
from tests.rooms.sockets import Tab

pytestmark = pytest.mark.django_db(transaction=True)


async def change(function, *arguments, hint=True, **names):
    """Do something in the database, and send its hint as the site does."""
    result = await sync_to_async(function)(*arguments, **names)
    if hint:
        await events.send_hint("kitchen", 0)
    return result


async def test_the_whole_room_comes_first_and_then_only_what_changed(alice, bob, kitchen, studio):
    made = await change(studio.made, kitchen, alice, "a snowman", hint=False)
    async with Tab(bob) as tab:
        state = await tab.next("room.state")
        assert [job["id"] for job in state["jobs"]] == [str(made.pk)]
        assert state["room"]["owner"] == alice.label
        assert state["peer"] in [peer["id"] for peer in state["peers"]]
        job = await change(studio.ask, kitchen, bob)
        changed = await tab.next("room.changed")
        assert changed["since"] == state["revision"] < changed["revision"]
        assert [entry["id"] for entry in changed["jobs"]] == [str(job.pk)]
        assert changed["jobs"][0]["position"] == 1
        lease = await sync_to_async(studio.work)(until=ChunkKind.DENOISE)
        await change(studio.step, lease, 3)
        entry = await tab.changed(lambda job: job["images"][0]["step"] == 3)
        assert entry["images"][0]["preview_url"].endswith("preview.webp?step=3")
        await change(studio.finish, lease)
        await change(studio.work)
        entry = await tab.changed(lambda job: job["state"] == "done")
        assert entry["images"][0]["url"].endswith("/images/0.png")


async def test_what_is_removed_is_named_as_gone(alice, kitchen, studio):
    job = await change(studio.made, kitchen, alice, hint=False)
    async with Tab(alice) as tab:
        await tab.next("room.state")
        job_id = str(job.pk)
        await change(actions.delete_job, job)
        assert (await tab.next("room.changed"))["gone"] == [job_id]


async def test_a_lost_hint_is_made_good_by_the_next_beat(alice, kitchen, studio, monkeypatch):
    monkeypatch.setattr(feed, "CHECK_SECONDS", 0)
    async with Tab(alice) as tab:
        state = await tab.next("room.state")
        await change(studio.ask, kitchen, alice, hint=False)
        await tab.say(type="peer.beat", revision=state["revision"])
        changed = await tab.next("room.changed")
        assert len(changed["jobs"]) == 1
        await tab.say(type="peer.beat", revision=changed["revision"])
        assert (await tab.next("peer.beat"))["revision"] == changed["revision"]


async def test_a_workers_change_of_state_reaches_every_room_without_a_beat(
    alice, bob, kitchen, studio, settings
):
    settings.EMBEDDED = False  # the hint goes through the channel layer
    async with Tab(alice) as tab, Tab(bob, room="nowhere") as other:
        for page in (tab, other):
            [worker] = (await page.next("room.state"))["room"]["workers"]
            assert worker["state"] == "ready"
        await sync_to_async(roster.set_state)(studio.worker.pk, "ready", "loading")
        for page in (tab, other):
            [worker] = (await page.next("room.changed"))["room"]["workers"]
            assert worker["state"] == "loading"
        await sync_to_async(roster.set_state)(studio.worker.pk, "loading", "gone")
        for page in (tab, other):
            assert (await page.next("room.changed"))["room"]["workers"] == []


async def test_a_burst_of_hints_costs_few_readings(alice, kitchen, studio, monkeypatch):
    async with Tab(alice) as tab, Tab(alice):
        await tab.next("room.state")
        await asyncio.sleep(0.3)
        readings = []
        load = feed.state.load
        monkeypatch.setattr(feed.state, "load", lambda *a: readings.append(1) or load(*a))
        await asyncio.gather(*(events.send_hint(kitchen, 0) for _ in range(50)))
        await asyncio.sleep(0.5)
        assert 1 <= len(readings) <= 10


async def test_a_resync_sends_everything_anew(alice, kitchen, studio):
    await change(studio.made, kitchen, alice, hint=False)
    async with Tab(alice) as tab:
        first = await tab.next("room.state")
        await tab.say(type="room.resync")
        assert (await tab.next("room.state"))["jobs"] == first["jobs"]


async def test_others_see_labels_and_never_client_ids(alice, bob, kitchen, studio):
    await change(studio.made, kitchen, bob, hint=False)
    async with Tab(bob), Tab(alice) as tab:
        text = json.dumps(await tab.next("room.state"))
        assert bob.label in text
        assert bob.client_id not in text
        assert alice.client_id not in text


async def test_everybody_is_told_who_comes_and_goes(alice, bob, kitchen):
    async with Tab(alice) as tab:
        await tab.next("room.state")
        async with Tab(bob):
            while len((await tab.next("room.peers"))["peers"]) != 2:
                pass
            assert await sync_to_async(presence.peers)(kitchen) == 2
        while len((await tab.next("room.peers"))["peers"]) != 1:
            pass


async def closed_with(tab: Tab) -> int:
    """The code with which the site has closed its socket."""
    while (message := await tab.socket.receive_output(timeout=5))["type"] != "websocket.close":
        pass
    return message["code"]


async def test_a_name_is_seen_by_all_until_its_tab_goes_and_is_only_a_line(alice, bob, kitchen):
    async with Tab(alice) as tab, Tab(bob) as theirs:
        await theirs.next("room.state")
        await theirs.say(type="peer.name", name=" <b>Bob</b>\n\u202e the  builder ")
        while "name" not in (peer := (await tab.next("room.peers"))["peers"][-1]):
            pass
        assert (peer["name"], peer["client"]) == ("<b>Bob</b> the builder", bob.label)
        await theirs.say(type="peer.name", name="")
        while "name" in (await tab.next("room.peers"))["peers"][-1]:
            pass


async def test_who_is_called_something_else_all_the_time_is_closed(alice, kitchen):
    async with Tab(alice) as tab:
        for number in range(7):
            await tab.say(type="peer.name", name=f"number {number}")
        assert await closed_with(tab) == room_socket.CLOSE_FLOOD


async def test_a_tab_that_says_nothing_is_gone(alice, kitchen, monkeypatch):
    monkeypatch.setattr(room_socket, "GONE_AFTER_SECONDS", 0.5)
    async with Tab(alice) as tab:
        assert await closed_with(tab) == room_socket.CLOSE_GONE


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("no json", "not-json"),
        ("[]", "not-an-object"),
        ("[" * 4000, "not-json"),
        ("{}", "unknown-type"),
        ('{"type": 1}', "unknown-type"),
        ('{"type": "room"}', "unknown-type"),
        ('{"type": "peer.dance"}', "unknown-type"),
        ('{"type": "peer.beat"}', "bad-message"),
        ('{"type": "peer.beat", "revision": true}', "bad-message"),
        ('{"type": "peer.beat", "revision": "1"}', "bad-message"),
        ('{"type": "peer.name"}', "bad-message"),
        ('{"type": "peer.name", "name": ["x"]}', "bad-message"),
        ('{"type": "peer.name", "name": "' + "x" * 161 + '"}', "bad-message"),
        ('"' + "x" * 5000 + '"', "too-long"),
        (b"bytes", "unexpected-bytes"),
    ],
)
async def test_what_is_no_message_is_refused_by_code_and_the_socket_lives(
    alice, kitchen, sent, code
):
    async with Tab(alice) as tab:
        await tab.next("room.state")
        if isinstance(sent, bytes):
            await tab.socket.send_to(bytes_data=sent)
        else:
            await tab.socket.send_to(text_data=sent)
        assert (await tab.next("error"))["code"] == code
        await tab.say(type="room.resync")
        await tab.next("room.state")


async def test_who_says_again_and_again_how_they_are_is_closed_and_who_repeats_it_is_not(
    alice, bob, kitchen
):
    async with Tab(alice) as tab, Tab(bob) as theirs:
        for _ in range(12):
            await tab.say(type="peer.status", status="loading")
        await tab.say(type="peer.beat", revision=0)
        await tab.next("peer.beat")
        for status in ["hidden", "battery"] * 4:
            await theirs.say(type="peer.status", status=status)
        assert await closed_with(theirs) == room_socket.CLOSE_FLOOD


async def test_whom_a_tab_helps_is_seen_by_everybody_until_it_does_not(alice, bob, kitchen):
    async with Tab(alice) as tab, Tab(bob) as theirs:
        for more in ({"helps": 7}, {"helps": "x" * 65}, {"status": "away", "helps": "w"}):
            await theirs.say(type="peer.status", **{"status": "helping", **more})
            assert (await theirs.next("error"))["code"] == "bad-message"
        await theirs.say(type="peer.status", status="helping", helps="w")
        await until_peer(tab, bob, {"status": "helping", "helps": "w"})
        await theirs.say(type="peer.status", status="away")
        await until_peer(tab, bob, {"status": "away"})


async def until_peer(tab, person, expected):
    while True:
        peers = (await tab.next("room.peers"))["peers"]
        told = [{n: one[n] for n in ("status", "helps") if n in one} for one in peers
                if one["client"] == person.label]  # fmt: skip
        if told == [expected]:
            return


async def test_a_flood_of_messages_closes_the_socket(alice, kitchen):
    async with Tab(alice) as tab:
        for _ in range(room_socket.MESSAGE_BURST + 5):
            await tab.socket.send_to(text_data="{}")
        assert await closed_with(tab) == room_socket.CLOSE_FLOOD


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://testserver", "testserver", True),
        ("http://testserver:80", "testserver", True),
        ("http://testserver:8000", "testserver:8000", True),
        ("https://testserver", "testserver", False),
        ("http://testserver:8001", "testserver:8000", False),
        ("http://evil.example", "testserver", False),
        ("http://evil.example", "evil.example", False),
        ("http://testserver.evil.example", "testserver", False),
        ("null", "testserver", False),
        ("", "testserver", False),
        (None, "testserver", False),
        ("https://rooms.example:8443", "testserver", True),
        ("https://rooms.example", "testserver", False),
    ],
)
async def test_only_pages_of_this_very_origin_may_connect(
    alice, kitchen, settings, origin, host, allowed
):
    settings.CSRF_TRUSTED_ORIGINS = ["https://rooms.example:8443"]
    tab = Tab(alice, origin=origin, host=host)
    accepted, _ = await tab.socket.connect(timeout=5)
    assert accepted is allowed
    await tab.socket.disconnect()


async def test_a_proxy_that_is_trusted_may_say_that_it_was_https(alice, kitchen, settings):
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    tab = Tab(alice, origin="https://testserver")
    tab.socket.scope["headers"].append((b"x-forwarded-proto", b"https"))
    assert (await tab.socket.connect(timeout=5))[0]
    await tab.socket.disconnect()


async def test_a_room_that_nobody_used_is_empty_and_looking_does_not_make_it(bob):
    async with Tab(bob, room="nowhere") as tab:
        state = await tab.next("room.state")
        assert (state["revision"], state["jobs"], state["room"]["owner"]) == (0, [], None)
    assert not await Room.objects.filter(pk="nowhere").aexists()
