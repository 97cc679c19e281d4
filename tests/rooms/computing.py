"""A tab that computes, played in Python: the real messages over its socket, torch as its engine."""

import asyncio
import secrets
from pathlib import Path

import numpy as np
from asgiref.sync import sync_to_async
from safetensors import numpy as safetensors_numpy

from diffusion.backends import Backend
from diffusion.noise import initial_noise
from diffusion.packaging import manifest
from genqueue import actions
from genqueue.models import Job
from rooms.uploads import pieces_of
from tests.rooms.sockets import Tab
from tests.studio import settings_of

WORK = (
    "work.lease", "work.tensors", "work.lost", "work.done", "work.dismissed", "work.welcome",
    "error",
)  # fmt: skip


class ComputingTab(Tab):
    """Says hello when it is entered. `hello` changes members of that message."""

    def __init__(
        self, person, package: Path, backend: Backend | None = None, room="kitchen", **hello
    ):
        super().__init__(person, room)
        self.backend = backend
        self.hello = {
            "type": "work.hello", "key": secrets.token_hex(16), "device": "Test GPU (pytest)",
            "software": False, "packages": [package_id(package)], "kernels": "few 64x64x4",
            **hello,
        }  # fmt: skip
        self.conditionings: dict[str, dict[str, np.ndarray]] = {}
        self.latents: dict[tuple[str, int], tuple[int, np.ndarray]] = {}
        self.worker = ""

    async def __aenter__(self):
        await super().__aenter__()
        await self.say(**self.hello)
        self.worker = (await self.next("work.welcome"))["worker"]
        return self

    async def heard(self, timeout: float = 5):
        """The next message about work, and its bytes."""
        while True:
            message = await self.socket.receive_json_from(timeout)
            if message["type"] not in WORK:
                continue
            data = b""
            while len(data) < message.get("bytes", 0):
                data += await self.piece()
            return message, safetensors_numpy.load(data) if data else {}

    async def piece(self) -> bytes:
        output = await self.socket.receive_output(5)
        assert "bytes" in output, "nothing comes between a message and its bytes"
        return output["bytes"]

    async def claim(self, **more) -> None:
        await self.say(
            type="work.claim",
            **more,
            conditionings=list(self.conditionings),
            latents=[[job, image, step] for (job, image), (step, _) in self.latents.items()],
        )

    async def leased(self, timeout: float = 5):
        """Claim, and wait for the lease: its message, with what came along as `tensors`."""
        await self.claim()
        message, tensors = await self.heard(timeout)
        assert message["type"] == "work.lease", message
        return message | {"tensors": tensors}

    async def send(self, message: dict, tensors: dict[str, np.ndarray] | bytes | None = None):
        data = b""
        if tensors is not None:
            data = tensors if isinstance(tensors, bytes) else safetensors_numpy.save(tensors)
            message = {**message, "bytes": len(data)}
        await self.say(**message)
        for piece in pieces_of(data):
            await self.socket.send_to(bytes_data=piece)

    # Computing ---------------------------------------------------------------------------------
    async def step(self, lease, step: int, latent=None, preview=None) -> None:
        tensors = {"latent": latent} if latent is not None else {}
        if preview is not None:
            tensors["preview"] = preview
        await self.send(
            {
                **named(lease, "work.step"), "step": step,
                "latent": latent is not None, "preview": preview is not None,
            },
            tensors or None,
        )  # fmt: skip

    async def finish(self, lease) -> None:
        """Compute and hand in; the server has taken it."""
        tensors = await sync_to_async(self.compute, thread_sensitive=False)(lease)
        await self.send({**named(lease, "work.complete"), "seconds": 0.25}, tensors)
        answer, _ = await self.heard()
        assert answer == named(lease, "work.done")

    def compute(self, lease) -> dict[str, np.ndarray]:
        """The tensors of the result."""
        wanted, job = lease["settings"], lease["job"]
        if lease["kind"] == "encode":
            found = self.backend.encode(
                wanted["prompt"], wanted["negative_prompt"], wanted["guidance"]
            )
            if not lease["fresh"]:
                self.conditionings[job] = found
            return found
        latent = self.latent(lease)
        if lease["kind"] == "decode":
            return {"picture": self.backend.decode(latent)}
        latent = self.backend.denoise(
            self.conditioning(lease), latent, steps=wanted["steps"], guidance=wanted["guidance"],
            start=lease["start"], stop=lease["stop"],
        )  # fmt: skip
        if not lease["fresh"]:
            self.latents[job, lease["image"]] = lease["stop"], latent
        return {"latent": latent}

    def conditioning(self, lease):
        sent = {name: lease["tensors"][name] for name in lease["tensors"] if name != "latent"}
        if lease["fresh"]:
            return sent
        if sent:
            assert lease["job"] not in self.conditionings, "it was at hand"
            self.conditionings[lease["job"]] = sent
        return self.conditionings[lease["job"]]

    def latent(self, lease):
        wanted = lease["settings"]
        step = lease["start"] if lease["kind"] == "denoise" else wanted["steps"]
        if "latent" in lease["tensors"]:
            return lease["tensors"]["latent"]
        if step == 0:
            shape = self.backend.folder.latent_shape(wanted["width"], wanted["height"])
            return initial_noise(lease["seed"], shape)
        known, latent = self.latents[lease["job"], lease["image"]]
        assert known == step
        return latent

    async def work(self, chunks: int) -> list[str]:
        """Do so many chunks; their kinds."""
        kinds = []
        for _ in range(chunks):
            lease = await self.leased()
            kinds.append(lease["kind"])
            await self.finish(lease)
        return kinds

    async def work_until(self, kind: str):
        """Do what comes before a chunk of this kind; its lease."""
        while (lease := await self.leased())["kind"] != kind:
            await self.finish(lease)
        return lease


def named(lease, type_: str) -> dict:
    return {"type": type_, "chunk": lease["chunk"], "attempt": lease["attempt"]}


def package_id(package: Path) -> str:
    return manifest.package_id((package / manifest.FILE_NAME).read_bytes())


async def eventually(look, seconds: float = 5):
    """The first true value of a query that is asked again and again."""
    for _ in range(int(seconds / 0.02)):
        if found := await sync_to_async(look)():
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


def ask(person, room="kitchen", **changes) -> Job:
    return actions.submit_job(room, person.client_id, settings_of(steps=4, **changes))[0]
