"""Tabs as workers: what they make is what the server makes, and nothing that they say does harm."""

import io
from uuid import uuid4

import numpy as np
import pytest
from asgiref.sync import sync_to_async
from PIL import Image as Picture

from diffusion.pictures import settings_from_png
from diffusion.tensors import from_bytes
from genqueue import actions, files, protocol, timeline, timeline_json
from genqueue.check_models import ShutOut
from genqueue.models import Checkpoint, Chunk, Image, Job, Worker
from genqueue.representation import room_as_json
from genqueue.runner import Runner
from tests.liars import Liar
from tests.rooms.computing import ask, eventually, named
from tests.rooms.sockets import Tab
from tests.studio import settings_of

pytestmark = pytest.mark.django_db(transaction=True)


def made_by_a_celery_worker(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Latent and picture of a job, computed by the runner of Celery workers."""
    server = Worker.objects.create(name="server", state="ready", model_names=["tiny"])
    runner = Runner(stopping=lambda: False)
    while (lease := protocol.claim(server.pk)).kind != "decode":
        runner.run(lease)
    latent = latent_of(job)
    runner.run(lease)
    server.delete()
    return latent, picture_of(job)


def latent_of(job: Job) -> np.ndarray:
    newest = Checkpoint.objects.filter(image__job=job).order_by("-step").first()
    return from_bytes(files.read(newest.latent), {"latent": (16, 8, 8)})["latent"]


def picture_of(job: Job) -> np.ndarray:
    png = files.read(Image.objects.get(job=job).picture)
    return np.asarray(Picture.open(io.BytesIO(png)))


async def test_a_tab_makes_the_picture_that_a_celery_worker_makes(tab, alice, bob, backend):
    theirs = await sync_to_async(ask)(bob, room="elsewhere")
    latent, pixels = await sync_to_async(made_by_a_celery_worker)(theirs)
    job = await sync_to_async(ask)(alice)
    async with tab() as mine:
        decode = await mine.work_until("decode")
        assert np.abs(await sync_to_async(latent_of)(job) - latent).max() < 1e-4
        await mine.finish(decode)
        image = await Image.objects.select_related("worker", "job").aget(job=job)
        assert (image.state, image.job.state) == ("done", "done")
        assert str(image.worker.pk) == mine.worker
        assert image.worker.device == "Test GPU (pytest)"
        variants = {chunk.kernels async for chunk in image.job.chunks.exclude(kind="check")}
        assert variants == {image.worker.kernels} == {"few 64x64x4"}
        difference = await sync_to_async(picture_of)(job) - pixels.astype(int)
        assert np.abs(difference).max() <= 1
        png = await sync_to_async(files.read)(image.picture)
        assert settings_from_png(png) == settings_of(steps=4).as_dict()


# Leases ---------------------------------------------------------------------------------------
async def test_an_idle_tab_is_given_a_chunk_as_soon_as_there_is_one(tab, alice, hints):
    async with tab() as mine:
        await mine.claim()
        job = await sync_to_async(ask)(alice)
        lease, tensors = await mine.heard()
        assert (lease["type"], lease["kind"], lease["job"]) == ("work.lease", "encode", str(job.pk))
        assert lease["settings"]["prompt"] == job.prompt
        assert tensors == {}


async def test_whose_jobs_come_first_is_what_the_tab_said_last(tab, alice, bob, hints, unchecked):
    def begun_after(lease):
        actions.cancel_job(Job.objects.get(pk=lease["job"]))
        return Job.objects.get(pk=lease["job"]).client

    async def served(mine, **more):
        await mine.claim(**more)
        lease, _tensors = await mine.heard()
        client = await sync_to_async(begun_after)(lease)
        assert (await mine.heard())[0]["type"] == "work.lost"
        return client

    # Alice has been served last, so that by the order of turns Bob would be next.
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        assert await served(mine) == alice.client_id
        for who in (bob, bob, alice, alice):
            await sync_to_async(ask)(who)
        assert await served(mine, own_first=True) == alice.client_id
        await mine.say(type="work.goodbye")
    async with tab(own_first=True) as mine:
        assert await served(mine) == alice.client_id
        assert (await Worker.objects.aget(pk=mine.worker)).own_first
        await sync_to_async(ask)(alice)
        assert await served(mine, own_first=False) == bob.client_id
        assert not (await Worker.objects.aget(pk=mine.worker)).own_first


async def test_what_the_tab_has_at_hand_is_not_sent_again(tab, alice):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        first = await mine.work_until("denoise")
        assert first["bytes"] == 0, "it has encoded the prompt itself, and step 0 is noise"
        await mine.finish(first)
        mine.latents.clear()
        lease = await mine.leased()
        assert lease["tensors"].keys() == {"latent"}
        await mine.finish(lease)


async def test_a_closed_socket_gives_its_chunk_back_and_another_goes_on_from_the_checkpoint(
    tab, alice, bob, backend, unchecked
):
    job = await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until("denoise")
        half = backend.denoise(
            mine.conditioning(lease), mine.latent(lease), steps=4, guidance=4.0, start=0, stop=1
        )
        await mine.step(lease, 1, latent=half, preview=np.zeros((8, 8, 3), np.uint8))
        await eventually(lambda: Checkpoint.objects.filter(image__job=job).exists())
        holder = mine.worker
    chunk = await Chunk.objects.aget(pk=lease["chunk"])
    assert (chunk.state, chunk.faults, chunk.attempt) == ("pending", 0, lease["attempt"] + 1)
    assert (await Worker.objects.aget(pk=holder)).state == "gone"
    async with tab(bob) as theirs:
        again = await theirs.leased()
        assert (again["kind"], again["start"]) == ("denoise", 1)
        assert np.array_equal(again["tensors"]["latent"], half)
        await theirs.finish(again)
        await theirs.finish(await theirs.work_until("decode"))
    assert (await Job.objects.aget(pk=job.pk)).state == "done"


async def test_a_cancelled_job_is_said_before_the_next_step(tab, alice, hints):
    job = await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until("denoise")
        await sync_to_async(actions.cancel_job)(job)
        lost, _ = await mine.heard()
        assert lost == {**named(lease, "work.lost"), "code": "lost"}


async def test_steps_and_previews_are_seen_by_everybody(tab, alice, bob, hints):
    await sync_to_async(ask)(alice)
    async with tab() as mine, Tab(bob) as other:
        lease = await mine.work_until("denoise")
        await mine.step(lease, 1, preview=np.full((8, 8, 3), 200, np.uint8))
        seen = await other.changed(lambda job: job["images"][0]["step"] == 1)
        [image] = seen["images"]
        assert image["worker"]["kind"] == "tab"
        assert image["worker"]["client"] == alice.label
        assert image["worker"]["device"] == "Test GPU (pytest)"
        assert image["worker"]["kernels"] == "few 64x64x4"
        job = await Job.objects.aget(pk=lease["job"])
        webp = await sync_to_async(files.read)(files.preview_name(Image(job=job, index=0), 1))
        assert Picture.open(io.BytesIO(webp)).size == (8, 8)


async def test_a_worker_is_shown_as_the_peer_that_it_is(tab, alice, bob):
    async with Tab(bob) as other:
        await other.next("room.state")
        async with tab() as mine:
            while not (peers := worker_of(await other.next("room.peers"), alice.label)):
                pass
            assert peers == [mine.worker]
            await mine.say(type="work.goodbye")
            while worker_of(await other.next("room.peers"), alice.label):
                pass
        assert (await Worker.objects.aget(pk=mine.worker)).state == "gone"


def worker_of(message, label):
    peers = (peer for peer in message["peers"] if peer["client"] == label)
    return [peer["worker"] for peer in peers if peer["worker"]]


# Messages that do not fit ------------------------------------------------------------------------
async def test_late_and_forged_messages_change_nothing(tab, alice, bob):
    """Another tab's chunk, another attempt, a chunk that is done, none at all."""
    await sync_to_async(ask)(alice)
    latent = {"latent": np.zeros((16, 8, 8), np.float32)}
    async with tab() as mine, tab(bob) as evil:
        lease = await mine.work_until("denoise")
        chunk = await Chunk.objects.aget(pk=lease["chunk"])
        done = await Chunk.objects.aget(kind="encode")
        forged = [
            named(lease, "work.complete"),
            {**named(lease, "work.complete"), "attempt": lease["attempt"] + 1},
            {"type": "work.complete", "chunk": done.pk, "attempt": done.attempt},
            {"type": "work.complete", "chunk": 10**9, "attempt": 0},
        ]
        for message in forged:
            await evil.send({**message, "seconds": 0.1}, latent)
            assert (await evil.heard())[0]["type"] == "work.lost"
        for type_ in ("work.renew", "work.fail"):
            await evil.say(**named(lease, type_))
            assert (await evil.heard())[0]["type"] == "work.lost"
        assert await same(chunk)
        for message in forged[1:]:  # the holder itself, with what is not its lease
            await mine.send({**message, "seconds": 0.1}, latent)
            assert (await mine.heard())[0]["type"] == "work.lost"
        assert await same(chunk)
        await mine.finish(lease)
        await mine.send({**named(lease, "work.complete"), "seconds": 0.1}, latent)  # once more
        assert (await mine.heard())[0]["type"] == "work.lost"
        assert await Chunk.objects.filter(kind="denoise").acount() == 2


async def test_who_has_helped_is_in_the_timeline_and_what_is_none_is_no_message(
    tab, alice, bob, charlie, unchecked
):
    job = await sync_to_async(ask)(alice)
    async with tab() as mine, tab(bob) as other, tab(charlie, room="another") as stranger:
        lease = await mine.work_until("denoise")
        steps = lease["stop"] - lease["start"]
        good = {"worker": other.worker, "steps": 1, "received": 10, "sent": 20}
        complete = {**named(lease, "work.complete"), "seconds": 0.1}
        result = await sync_to_async(mine.compute)(lease)
        for partners in (
            {}, 7, [7], [None], [{**good, "worker": "x"}], [{**good, "steps": steps + 1}],
            [{**good, "steps": True}], [{**good, "sent": -1}], [{**good, "received": "7"}],
            [good, good], [{**good, "steps": steps}, {**good, "worker": stranger.worker}],
            [{**good, "worker": str(uuid4()), "steps": 0} for _ in range(9)],
        ):  # fmt: skip
            await mine.send({**complete, "partners": partners}, result)
            error, _ = await mine.heard()
            assert (error["type"], error["code"]) == ("error", "bad-message")
            assert error["detail"].startswith("partners: ")
        others = [{**good, "worker": one, "steps": 0} for one in (mine.worker, stranger.worker)]
        await mine.send({**complete, "partners": [good, *others]}, result)
        assert (await mine.heard())[0] == named(lease, "work.done")
        image = await Image.objects.select_related("job").aget(job=job)
        entry = (await sync_to_async(timeline_json.as_json)(image))["entries"][-1]
        [helped] = entry["partners"]
        assert helped["worker"]["id"] == other.worker
        assert helped["worker"]["client"] == bob.label
        assert (helped["how"], helped["steps"]) == ("half", 1)
        assert (helped["received"], helped["sent"]) == (10, 20)
        assert timeline.steps_by(image.timeline["entries"]) == {
            mine.worker: steps - 0.5, other.worker: 0.5,
        }  # fmt: skip


async def same(chunk: Chunk) -> bool:
    now = await Chunk.objects.aget(pk=chunk.pk)
    columns = ("state", "attempt", "faults", "worker_id")
    return all(getattr(now, name) == getattr(chunk, name) for name in columns)


async def test_a_result_after_the_lease_was_taken_back_is_refused_by_the_queue_itself(tab, alice):
    """No message has told this socket: the hint is lost."""
    job = await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until("denoise")
        held = Chunk.objects.filter(pk=lease["chunk"])
        assert await sync_to_async(protocol.take_back)(held) == 1
        tensors = await sync_to_async(mine.compute)(lease)
        await mine.send({**named(lease, "work.complete"), "seconds": 0.1}, tensors)
        lost, _ = await mine.heard()
        assert lost == {**named(lease, "work.lost"), "code": "lost"}
        assert not await Checkpoint.objects.filter(image__job=job).aexists()


SHAPE = (16, 8, 8)


@pytest.mark.parametrize(
    "data",
    [
        {"latent": np.full(SHAPE, np.nan, np.float32)},
        {"latent": np.full(SHAPE, np.inf, np.float32)},
        {"latent": np.zeros((16, 8, 9), np.float32)},
        {"latent": np.zeros((15, 8, 8), np.float32)},
        {"latent": np.zeros(SHAPE, np.float64)},
        {"latent": np.zeros(SHAPE, np.float16)},
        {"other": np.zeros(SHAPE, np.float32)},
        {"latent": np.zeros(SHAPE, np.float32), "more": np.zeros(1, np.float32)},
        b"\xff" * 64,
        bytes(2**16),
        b"\x00",
    ],
    ids=lambda data: "bytes" if isinstance(data, bytes) else "tensors",
)
async def test_a_latent_that_is_none_is_refused_and_the_chunk_goes_to_others(tab, alice, data):
    await sync_to_async(ask)(alice)
    async with tab() as mine:
        lease = await mine.work_until("denoise")
        await mine.send({**named(lease, "work.complete"), "seconds": 0.1}, data)
        lost, _ = await mine.heard()
        assert lost == {**named(lease, "work.lost"), "code": "refused"}
        chunk = await Chunk.objects.aget(pk=lease["chunk"])
        assert (chunk.state, chunk.faults) == ("pending", 1)
        assert chunk.error.startswith("result-refused")
        assert not await Checkpoint.objects.aexists()


# Checks ---------------------------------------------------------------------------------------
async def test_a_tab_that_lies_is_dismissed_and_another_does_its_work(tab, alice, bob, backend):
    job = await sync_to_async(ask)(alice)
    async with tab(bob, backend=Liar("a skipped step", backend)) as liar, tab() as honest:
        await liar.finish(await liar.leased())  # the encoding, as it should be
        await honest.finish(await honest.leased())  # its check
        await liar.finish(await liar.leased())
        lease = await honest.leased()
        assert (lease["kind"], lease["start"], lease["fresh"]) == ("denoise", 0, True)
        assert lease["tensors"].keys() == {"prompt", "negative"}
        await honest.finish(lease)  # both differ: a third one says who is right
        server = await Worker.objects.acreate(name="server", state="ready", model_names=["tiny"])
        runner = Runner(stopping=lambda: False)
        await sync_to_async(runner.run)(await sync_to_async(protocol.claim)(server.pk))
        await liar.claim()
        dismissed, _ = await liar.heard()
        assert (dismissed["type"], dismissed["code"]) == ("work.dismissed", "shut-out")
        image = await Image.objects.aget(job=job)
        assert (image.state, image.step) == ("running", 0)
        await server.adelete()
        await honest.finish(await honest.work_until("decode"))
        await liar.say(**liar.hello)
        again, _ = await liar.heard()
        assert again["code"] == "shut-out"
    shut_out = await sync_to_async(room_as_json)("kitchen")
    assert [one["client"] for one in shut_out["shut_out"]] == [bob.label]


async def test_tabs_of_one_network_are_held_off_together_for_a_while(tab, alice, bob, charlie):
    async with tab(bob) as theirs:
        worker = await Worker.objects.aget(pk=theirs.worker)
        assert len(worker.network) == 32
        await ShutOut.objects.acreate(
            room_id="kitchen", label=bob.label, network=worker.network, name="it", kind="decode",
            distance=1, limit=0.1,
        )  # fmt: skip
    refused = tab(charlie)
    await Tab.__aenter__(refused)
    await refused.say(**refused.hello)
    said, _ = await refused.heard()
    assert (said["type"], said["code"]) == ("work.dismissed", "network-shut-out")
    await refused.__aexit__()
