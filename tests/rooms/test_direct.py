"""What a tab may have directly from another one: named in its lease, and sent when it asks."""

import hashlib

import numpy as np
import pytest
from asgiref.sync import sync_to_async

from genqueue import handing, timeline, timeline_json
from genqueue.models import Chunk, Image
from rooms import presence
from tests.rooms.computing import ask, eventually, named

pytestmark = pytest.mark.django_db(transaction=True)

MINE, THEIRS = "a" * 20, "B1" * 10


async def meets(tab, mesh) -> None:
    await tab.say(type="peer.mesh", id=mesh)
    await eventually(lambda: mesh in [peer.get("mesh") for peer in presence.peers("kitchen")])


async def until_image_of_others(tab):
    """A lease of this tab that goes on from what another one has computed."""
    lease = await tab.leased()
    assert lease["kind"] == "denoise"
    return lease


@pytest.fixture
def two(tab, alice, bob, settings):
    """Two tabs; the first one has encoded a job of two pictures, and holds the first of them."""

    settings.P2PWEB_SPOT_CHECKS = False  # or the other tab is given the encoding to check

    class Two:
        async def __aenter__(self):
            self.mine = await tab().__aenter__()
            self.theirs = await tab(bob).__aenter__()
            return self

        async def begin(self):
            await sync_to_async(ask)(alice, num_images=2, negative_prompt="a snowman")
            await self.mine.finish(await self.mine.leased())
            self.lease = await self.mine.leased()
            return await until_image_of_others(self.theirs)

        async def __aexit__(self, *_):
            await self.mine.__aexit__()
            await self.theirs.__aexit__()

    return Two()


async def test_a_lease_names_the_tab_that_has_the_texts_and_their_digest(two):
    async with two:
        await meets(two.mine, MINE)
        await meets(two.theirs, THEIRS)
        lease = await two.begin()
        assert lease["bytes"] == 0
        assert {offer["name"] for offer in lease["direct"]} == {"prompt", "negative"}
        texts = two.mine.conditionings[lease["job"]]
        for offer in lease["direct"]:
            tensor = texts[offer["name"]]
            digest = hashlib.sha256(np.ascontiguousarray(tensor, "<f4").tobytes()).hexdigest()
            assert offer == {
                "name": offer["name"], "peer": MINE, "sha256": digest,
                "shape": list(tensor.shape),
            }  # fmt: skip


async def test_a_lease_names_the_tab_that_has_the_latent(two):
    async with two:
        await meets(two.mine, MINE)
        await meets(two.theirs, THEIRS)
        lease = await two.begin()
        two.theirs.conditionings[lease["job"]] = two.mine.conditionings[lease["job"]]
        await two.mine.finish(two.lease)
        made = two.mine.latents[lease["job"], two.lease["image"]][1]
        while lease["image"] != two.lease["image"]:
            await two.theirs.finish(lease)
            lease = await two.theirs.leased()
        [offer] = lease["direct"]
        assert (offer["name"], offer["peer"]) == ("latent", MINE)
        assert offer["sha256"] == hashlib.sha256(made.tobytes()).hexdigest()
        assert (offer["shape"], lease["bytes"]) == ([16, 8, 8], 0)


async def test_who_computes_no_more_is_not_asked(two, alice):
    async with two:
        await meets(two.mine, MINE)
        await meets(two.theirs, THEIRS)
        await sync_to_async(ask)(alice, num_images=2)
        await two.mine.finish(await two.mine.leased())
        await two.mine.say(type="work.goodbye")
        await eventually(lambda: not presence.peers("kitchen")[0]["worker"])
        lease = await two.theirs.leased()
        assert "direct" not in lease
        assert "prompt" in lease["tensors"]


@pytest.mark.parametrize("met", [(None, THEIRS), (MINE, None), (None, None)])
async def test_everything_is_sent_where_either_talks_to_nobody(two, met):
    async with two:
        for tab, mesh in zip((two.mine, two.theirs), met, strict=True):
            if mesh:
                await meets(tab, mesh)
        lease = await two.begin()
        assert "direct" not in lease
        assert lease["tensors"].keys() == {"prompt", "negative"}


async def test_what_is_not_given_is_sent_when_asked_for_once(two):
    async with two:
        await meets(two.mine, MINE)
        await meets(two.theirs, THEIRS)
        lease = await two.begin()
        await two.theirs.say(**named(lease, "work.fetch"), names=["negative"], why="timeout of x")
        message, tensors = await two.theirs.heard()
        assert (message["type"], message["chunk"]) == ("work.tensors", lease["chunk"])
        assert tensors.keys() == {"negative"}
        known = two.mine.conditionings[lease["job"]]["negative"]
        assert np.array_equal(tensors["negative"], known)
        for names in (["negative"], ["latent"], ["prompt", "negative"], [], "prompt"):
            await two.theirs.say(**named(lease, "work.fetch"), names=names, why="")
            error, _ = await two.theirs.heard()
            assert (error["type"], error["code"]) == ("error", "bad-message")
        await two.theirs.say(**named(lease, "work.fetch"), names=["prompt"], why="\0" * 500)
        assert (await two.theirs.heard())[1].keys() == {"prompt"}
        elsewhere = {"type": "work.fetch", "chunk": lease["chunk"], "attempt": 99}
        await two.theirs.say(**elsewhere, names=["prompt"], why="")
        assert (await two.theirs.heard())[0]["type"] == "work.lost"


async def test_what_came_directly_is_in_the_timeline_and_what_was_sent_after_all_is_received(two):
    async with two:
        await meets(two.mine, MINE)
        await meets(two.theirs, THEIRS)
        lease = await two.begin()
        await two.theirs.say(**named(lease, "work.fetch"), names=["negative"], why="late")
        await two.theirs.heard()
        texts = two.mine.conditionings[lease["job"]]
        two.theirs.conditionings[lease["job"]] = texts
        await two.theirs.finish(lease)
        image = await Image.objects.aget(job=lease["job"], index=lease["image"])
        entry = image.timeline["entries"][-1]
        assert entry["partners"] == [{
            "worker": two.mine.worker, "how": "gave", "steps": 0, "sent": 0,
            "received": texts["prompt"].nbytes,
        }]  # fmt: skip
        assert texts["negative"].nbytes < entry["received"] < texts["negative"].nbytes + 500
        said = (await sync_to_async(timeline_json.as_json)(await with_job(image)))["entries"][-1]
        assert said["partners"][0]["worker"]["id"] == two.mine.worker
        assert two.mine.worker not in timeline.steps_by(image.timeline["entries"])


async def with_job(image):
    return await Image.objects.select_related("job").aget(pk=image.pk)


async def test_a_file_that_is_lost_meanwhile_ends_the_lease_and_not_the_tab(two, monkeypatch):
    async with two:
        await meets(two.mine, MINE)
        await meets(two.theirs, THEIRS)
        lease = await two.begin()

        def gone(name: str) -> bytes:
            raise FileNotFoundError(name)

        monkeypatch.setattr("genqueue.files.read", gone)
        await two.theirs.say(**named(lease, "work.fetch"), names=["prompt"], why="")
        message, _ = await two.theirs.heard()
        assert message == {**named(lease, "work.lost"), "code": "lost"}
        chunk = await Chunk.objects.aget(pk=lease["chunk"])
        assert (chunk.state, chunk.faults) == ("pending", 1)
        assert chunk.error.startswith("file-lost")


async def test_a_model_that_is_removed_meanwhile_is_nobodys_fault(two, monkeypatch):
    async with two:
        await meets(two.mine, MINE)
        await meets(two.theirs, THEIRS)
        lease = await two.begin()

        def gone(*_):
            raise handing.ModelGoneError("tiny")

        monkeypatch.setattr(handing, "needed", gone)
        await two.theirs.say(**named(lease, "work.fetch"), names=["prompt"], why="")
        message, _ = await two.theirs.heard()
        assert message == {**named(lease, "work.lost"), "code": "lost"}
        chunk = await Chunk.objects.aget(pk=lease["chunk"])
        assert (chunk.state, chunk.faults) == ("pending", 0)


@pytest.mark.parametrize("mesh", ["", "short", "a" * 21, "../../../../../../..", 7, ["a" * 20]])
async def test_an_id_that_no_tab_has_is_refused(two, mesh):
    async with two:
        await two.mine.say(type="peer.mesh", id=mesh)
        message, _ = await two.mine.heard()
        assert (message["type"], message["code"]) == ("error", "bad-message")


async def test_everybody_is_told_who_is_met_under_which_id(two):
    async with two:
        await two.mine.say(type="peer.mesh", id=MINE)
        while MINE not in [p.get("mesh") for p in (await two.theirs.next("room.peers"))["peers"]]:
            pass
        await two.mine.say(type="peer.mesh", id=None)
        while any("mesh" in peer for peer in (await two.theirs.next("room.peers"))["peers"]):
            pass


async def test_who_says_it_again_and_again_is_closed(two):
    async with two:
        for number in range(20):
            await two.mine.say(type="peer.mesh", id=f"{number:020}")
        while (output := await two.mine.socket.receive_output(5))["type"] != "websocket.close":
            pass
        assert output["code"] == 4008
