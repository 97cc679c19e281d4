"""Which tabs may compute, and how little a hostile one can do."""

import time
from datetime import timedelta

import numpy as np
import pytest
from asgiref.sync import sync_to_async
from django.core.files.storage import default_storage
from django.utils import timezone

from genqueue import actions, fairness, protocol, sweeper, tabs
from genqueue.models import Checkpoint, Chunk, Job, Room, Worker
from genqueue.representation import room_workers
from rooms import room_socket, work
from rooms.budget import Budget
from tests.rooms.computing import ask, eventually, named
from tests.rooms.sockets import Tab

pytestmark = pytest.mark.django_db(transaction=True)

LATENT = {"latent": np.zeros((16, 8, 8), np.float32)}
NOT_A_LATENT = {"latent": np.full((16, 8, 8), np.nan, np.float32)}


# Admission ------------------------------------------------------------------------------------
async def dismissed(tab: Tab) -> str:
    """What a tab is told that is no worker, or no more: the code."""
    return (await tab.next("work.dismissed"))["code"]


async def knock(tab) -> str:
    """Say hello; the code of the refusal."""
    accepted, _ = await tab.socket.connect(timeout=5)
    assert accepted
    await tab.say(**tab.hello)
    code = await dismissed(tab)
    await tab.socket.disconnect()
    return code


async def test_a_package_that_is_not_here_is_refused(tab):
    assert await knock(tab(packages=["0" * 64])) == "unknown-package"
    assert not await Worker.objects.aexists()


async def test_the_owner_may_keep_tabs_from_computing(tab, alice, bob, hints):
    await sync_to_async(ask)(alice)
    async with tab(bob) as theirs:
        lease = await theirs.leased()
        room = await Room.objects.aget(pk="kitchen")
        await sync_to_async(actions.let_tabs_help)(room, False)
        assert await dismissed(theirs) == "tabs-not-wanted"
        chunk = await Chunk.objects.aget(pk=lease["chunk"])
        assert (chunk.state, chunk.faults) == ("pending", 0)
        await theirs.send({**named(lease, "work.complete"), "seconds": 1}, LATENT)
        assert (await theirs.next("error"))["code"] == "not-a-worker"
    assert await knock(tab(bob)) == "tabs-not-wanted"
    await sync_to_async(actions.let_tabs_help)(room, True)
    async with tab(bob) as theirs:
        assert (await theirs.leased())["kind"] == "encode"


async def test_who_is_removed_from_the_room_computes_there_no_more(tab, alice, bob, hints):
    await sync_to_async(ask)(alice)
    async with tab(bob) as theirs:
        await theirs.leased()
        room = await Room.objects.aget(pk="kitchen")
        await sync_to_async(actions.remove_client)(room, bob.label)
        assert await dismissed(theirs) == "client-removed"
    assert await knock(tab(bob)) == "client-removed"


async def test_a_tab_is_given_nothing_of_other_rooms(tab, alice, bob):
    await sync_to_async(ask)(alice, room="elsewhere")
    async with tab(bob) as theirs:
        await theirs.claim()
        await theirs.say(type="peer.beat", revision=0)
        assert await quiet_about_work(theirs)


async def quiet_about_work(tab) -> bool:
    while not await tab.socket.receive_nothing(0.2):
        message = await tab.socket.receive_json_from(1)
        assert not message["type"].startswith("work."), message
    return True


async def test_only_so_many_tabs_compute(tab, alice, bob, settings):
    settings.P2PWEB_LIMITS = {**settings.P2PWEB_LIMITS, "client_tabs": 1}
    async with tab(alice):
        assert await knock(tab(alice)) == "too-many-tabs"
        async with tab(bob):
            settings.P2PWEB_LIMITS = {**settings.P2PWEB_LIMITS, "client_tabs": 8, "room_tabs": 2}
            assert await knock(tab(alice)) == "too-many-tabs"


async def test_a_tab_keeps_its_id_over_reloads_and_a_copy_of_it_gets_its_own(tab, alice, bob):
    key = "0123456789abcdef" * 2
    async with tab(alice, key=key) as first:
        async with tab(alice, key=key) as copy:
            assert copy.worker != first.worker
        async with tab(bob, key=key) as other:
            assert other.worker != first.worker
    async with tab(alice, key=key) as reloaded:
        assert reloaded.worker == first.worker


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "x"}, {"key": None}, {"device": ""}, {"device": "a\nb"}, {"device": "x" * 121},
        {"packages": []}, {"packages": "f" * 64}, {"packages": ["f"]}, {"packages": None},
        {"packages": ["f" * 64] * 17}, {"kernels": "x" * 121}, {"kernels": "few\n"},
    ],
)  # fmt: skip
async def test_a_hello_that_makes_no_sense_is_refused(tab, alice, wrong):
    mine = tab(alice, **wrong)
    await mine.socket.connect(timeout=5)
    await mine.say(**mine.hello)
    assert (await mine.next("error"))["code"] == "bad-message"
    await mine.socket.disconnect()


async def test_who_said_no_hello_is_no_worker(alice, kitchen):
    async with Tab(alice) as page:
        for command in ("claim", "renew", "step", "complete", "fail"):
            await page.say(type=f"work.{command}", chunk=1, attempt=0)
            assert (await page.next("error"))["code"] == "not-a-worker"
        await page.say(type="work.dance")
        assert (await page.next("error"))["code"] == "not-a-worker"


# Holding a chunk --------------------------------------------------------------------------------
async def test_what_a_tab_has_failed_at_goes_to_others(tab, alice, bob):
    job = await sync_to_async(ask)(alice)
    async with tab(bob) as evil:
        for _ in range(2):
            lease = await evil.leased()
            await evil.say(**named(lease, "work.fail"), fault="computation-failed", detail="no")
        async with tab(alice) as good:  # before the third fault, which would fail the job
            assert (await good.leased())["kind"] == "encode"
            await evil.claim()
    assert (await Job.objects.aget(pk=job.pk)).state == "running"


async def test_a_tab_that_only_fails_is_a_worker_no_more(tab, alice, bob):
    for number in range(3):
        await sync_to_async(ask)(alice, seed=number)
    async with tab(bob) as evil:
        for _ in range(3):
            lease = await evil.leased()
            await evil.send({**named(lease, "work.complete"), "seconds": 1}, NOT_A_LATENT)
            assert (await evil.heard())[0]["code"] == "refused"
        assert await dismissed(evil) == "too-many-faults"
        assert (await Worker.objects.aget(pk=evil.worker)).state == "gone"


async def test_too_little_memory_is_told_and_no_reason_to_send_a_tab_away(tab, alice, bob):
    """As long as somebody else is there who may have more, who gets such pictures."""
    async with tab(alice) as large, tab(bob) as small:
        for number, side in enumerate((128, 112, 96, 80)):
            await sync_to_async(ask)(alice, seed=number, width=side, height=side)
            lease = await small.work_until("denoise")
            assert lease["settings"]["width"] == side
            await small.say(**named(lease, "work.fail"), fault="out-of-memory", detail="")
        assert (await large.leased())["settings"]["width"] in (128, 112, 96, 80)
        await sync_to_async(ask)(bob, width=64, height=64)
        assert (await small.work_until("denoise"))["settings"]["width"] == 64
        row = await Worker.objects.aget(pk=small.worker)
        assert row.lacks == {"denoise": 80 * 80}
        chunks = Chunk.objects.filter(kind="denoise", job__width__gt=64)
        assert {(chunk.attempt, chunk.faults) async for chunk in chunks} == {(1, 0)}
        [told] = [
            one for one in await sync_to_async(workers_of)("kitchen") if one["id"] == small.worker
        ]
        assert told["lacks"] == row.lacks


def workers_of(room: str) -> list:
    return room_workers(Room.objects.get(pk=room))


async def test_the_last_try_is_the_servers_so_that_tabs_cannot_fail_a_job(tab, alice, bob, charlie):
    job = await sync_to_async(ask)(alice)
    server = await Worker.objects.acreate(name="server", state="ready", model_names=["tiny"])
    for person in (bob, charlie):
        async with tab(person) as evil:
            lease = await evil.leased()
            await evil.send({**named(lease, "work.complete"), "seconds": 1}, NOT_A_LATENT)
            assert (await evil.heard())[0]["code"] == "refused"
    [chunk] = [entry async for entry in Chunk.objects.all()]
    assert (chunk.state, chunk.faults) == ("pending", 2)
    async with tab(alice) as third:
        row = await Worker.objects.aget(pk=third.worker)
        assert not await sync_to_async(lambda: fairness.has_open(row))()
    lease = await sync_to_async(protocol.claim)(server.pk)
    assert lease.job_id == job.pk


@pytest.mark.parametrize("detail", ["\0", "\ud800", "x" * 3000, None, [], "<b>"])
async def test_whatever_a_tab_says_of_its_failure_is_kept_for_the_admin(tab, alice, detail):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.leased()
        await mine.say(**named(lease, "work.fail"), fault=["no code"], detail=detail)
        chunk = await eventually(lambda: Chunk.objects.filter(pk=lease["chunk"], faults=1).first())
        assert chunk.error.startswith("computation-failed: ")
        assert len(chunk.error) < 600


async def test_who_reports_nothing_for_long_loses_the_chunk(tab, alice, monkeypatch):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.leased()
        before = await Chunk.objects.aget(pk=lease["chunk"])
        await mine.say(**named(lease, "work.renew"))
        await eventually(lambda: Chunk.objects.get(pk=before.pk).deadline > before.deadline)
        monkeypatch.setattr(work, "STALLED_AFTER_SECONDS", 0)
        await mine.say(**named(lease, "work.renew"))
        assert (await mine.heard())[0] == {**named(lease, "work.lost"), "code": "stalled"}
        assert (await Chunk.objects.aget(pk=before.pk)).faults == 1


async def test_one_step_reported_again_and_again_is_no_progress(tab, alice, monkeypatch):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until("denoise")
        monkeypatch.setattr(work, "STALLED_AFTER_SECONDS", 0)
        await mine.step(lease, 1)
        await mine.step(lease, 1)
        assert (await mine.heard())[0]["code"] == "stalled"


async def test_a_tab_whose_site_died_is_swept(tab, alice):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.leased()
        long_ago = timezone.now() - timedelta(minutes=1)
        await Worker.objects.filter(pk=mine.worker).aupdate(last_seen_at=long_ago)
        await Chunk.objects.filter(pk=lease["chunk"]).aupdate(deadline=long_ago)
        swept = await sync_to_async(sweeper.sweep)()
        assert (swept.leases, swept.workers) == (1, 1)
        await mine.say(type="peer.beat", revision=0)  # it was alive after all
        lost, _ = await mine.heard()
        assert lost == {**named(lease, "work.lost"), "code": "lost"}
        assert (await Worker.objects.aget(pk=mine.worker)).state == "ready"
        again = await mine.leased()
        assert again["attempt"] == lease["attempt"] + 1


async def test_a_lost_file_costs_the_tab_nothing(tab, alice):
    job = await sync_to_async(ask)(alice)
    async with tab() as mine:
        await mine.finish(await mine.work_until("denoise"))
        latent = await Checkpoint.objects.aget(image__job=job)
        await sync_to_async(default_storage.delete)(latent.latent)
        mine.latents.clear()
        again = await mine.leased()
        assert (again["kind"], again["start"]) == ("denoise", 0), "from the noise once more"
        await mine.finish(again)


# Bytes ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("nbytes", [0, 2**12 + 4097, 2**26, 2**52])
async def test_more_bytes_than_a_result_can_have_are_never_taken(tab, alice, nbytes):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until("denoise")
        await mine.say(**named(lease, "work.complete"), seconds=1, bytes=nbytes)
        assert (await mine.heard())[0]["code"] == "refused"
        if nbytes:
            await mine.socket.send_to(bytes_data=bytes(min(nbytes, 2**18)))  # swallowed
        await mine.say(type="room.resync")
        await mine.next("room.state")


async def test_bytes_of_a_wrong_length_are_not_taken_and_the_tab_goes_on(tab, alice):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until("denoise")
        await mine.say(**named(lease, "work.complete"), seconds=1, bytes=4200)
        for piece in (bytes(4201), bytes(4200)):
            await mine.socket.send_to(bytes_data=piece)
            assert (await mine.next("error"))["code"] == "unexpected-bytes"
        await mine.say(**named(lease, "work.complete"), seconds=1, bytes=4200)
        await mine.say(**named(lease, "work.complete"), seconds=1, bytes=4200)
        assert (await mine.next("error"))["code"] == "bytes-missing"


async def test_a_flood_of_bytes_closes_the_socket_and_gives_the_chunk_back(tab, alice, monkeypatch):
    monkeypatch.setattr(room_socket, "BYTE_BURST", 2**20)
    await sync_to_async(ask)(alice)
    mine = tab()
    await mine.__aenter__()
    lease = await mine.work_until("denoise")
    for _ in range(20):
        await mine.socket.send_to(bytes_data=bytes(2**16))
    while (message := await mine.socket.receive_output(timeout=5))["type"] != "websocket.close":
        pass
    assert message["code"] == room_socket.CLOSE_FLOOD
    await mine.socket.disconnect()  # as a server does after closing
    await eventually(lambda: Chunk.objects.get(pk=lease["chunk"]).state == "pending")


@pytest.mark.parametrize(
    ("kind", "tensors"),
    [
        ("encode", {"prompt": np.zeros((257, 48), np.float32), "negative": np.zeros((0, 48), np.float32)}),  # noqa: E501
        ("encode", {"prompt": np.zeros((3, 48), np.float32)}),
        ("encode", {"prompt": np.zeros((3, 49), np.float32), "negative": np.zeros((1, 48), np.float32)}),  # noqa: E501
        ("decode", {"picture": np.zeros((64, 65, 3), np.uint8)}),
        ("decode", {"picture": np.zeros((64, 64, 4), np.uint8)}),
        ("decode", {"picture": np.zeros((64, 64, 3), np.int8)}),
        ("decode", b"\x89PNG\r\n\x1a\n" + bytes(64)),
    ],
)  # fmt: skip
async def test_texts_and_pictures_are_checked_as_well(tab, alice, kind, tensors):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until(kind)
        await mine.send({**named(lease, "work.complete"), "seconds": 1}, tensors)
        assert (await mine.heard())[0]["code"] == "refused"
        assert (await Chunk.objects.aget(pk=lease["chunk"])).state == "pending"


@pytest.mark.parametrize("step", [0, 3, -1, 1.5, "1", None, True])
async def test_a_step_outside_the_chunk_changes_nothing(tab, alice, step):
    job = await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until("denoise")  # of an unmeasured worker: steps 0 to 2
        await mine.say(**named(lease, "work.step"), step=step, latent=False, preview=False)
        assert (await mine.next("error"))["code"] == "bad-message"
        assert (await job.images.aget()).step == 0
        assert await sync_to_async(tabs.holds)(await held(lease, mine))


async def held(lease, tab) -> protocol.Lease:
    """The server's lease of what a tab was told."""
    chunk = await Chunk.objects.aget(pk=lease["chunk"])
    assert str(chunk.worker_id) == tab.worker
    return type("Held", (), {"chunk_id": chunk.pk, "fence": {"attempt": lease["attempt"]}})


@pytest.mark.parametrize("said", [1e300, 10**400, -1, float("nan"), "1", None, True, {}])
async def test_seconds_that_nobody_believes_are_those_that_passed(tab, alice, said):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.leased()
        tensors = await sync_to_async(mine.compute)(lease)
        await mine.send({**named(lease, "work.complete"), "seconds": said}, tensors)
        assert (await mine.heard())[0]["type"] == "work.done"
        assert (await Chunk.objects.aget(pk=lease["chunk"])).seconds < 60


def test_a_budget_fills_up_again(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = Budget(a_second=10, burst=20)
    assert budget.spend(20)
    assert not budget.spend(1)
    now = 101.0
    assert budget.spend(9)
    now = 1000.0
    assert budget.spend(20)
    assert not budget.spend(1)
