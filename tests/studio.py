"""Rooms with work in every state, made by the queue's own protocol; only the pixels are ours."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from django.conf import settings as site
from PIL import Image as Picture

from diffusion.pictures import png_bytes
from diffusion.settings import Settings
from genqueue import actions, protocol
from genqueue.faults import Fault
from genqueue.kinds import ChunkKind
from genqueue.models import Job, Worker
from tests.cast import Person

MODEL_FILES = {
    "model_index.json": {"_class_name": "PRXPipeline", "default_sample_size": 256},
    "transformer/config.json": {"in_channels": 16, "patch_size": 2, "context_in_dim": 48},
    "vae/config.json": {
        "_class_name": "AutoencoderKL",
        "latent_channels": 16,
        "block_out_channels": [16, 16, 32, 32],
    },
    "p2pweb.json": {
        "title": "Tiny",
        "default_steps": 8,
        "default_guidance": 4,
        "min_side": 64,
        "max_side": 512,
        "examples": ["a rocket on a blue background", "a snowman on a red background"],
    },
    "vocabulary.json": {
        "names": ["rocket", "full moon", "full moon face", "snowman"],
        "colours": ["blue", "red"],
        "relations": ["above"],
        "words": ["a", "on", "background"],
    },
}


def write_model(root: Path, name: str = "tiny", files: dict[str, object] = MODEL_FILES) -> None:
    """A model that can be asked for: its configuration, without weights."""
    for file, content in files.items():
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def settings_of(prompt: str = "a rocket on a blue background", **changes) -> Settings:
    small = Settings(
        prompt=prompt, model="tiny", width=64, height=64, steps=8, guidance=4.0, seed=7
    )
    return replace(small, **changes)


class Studio:
    """One worker at the queue of the test's database."""

    def __init__(self) -> None:
        self.worker = Worker.objects.create(
            name="server", state="ready", device="cpu", model_names=["tiny"]
        )

    def ask(self, room: str, person: Person, prompt: str = "a rocket", **settings) -> Job:
        job, _token = actions.submit_job(room, person.client_id, settings_of(prompt, **settings))
        return job

    def work(self, until: ChunkKind | None = None) -> protocol.Lease | None:
        """Do every chunk there is; stop with a lease in hand at the first of the kind `until`."""
        while (lease := protocol.claim(self.worker.pk)) is not None:
            if lease.kind == until:
                return lease
            self.finish(lease)
        return None

    def finish(self, lease: protocol.Lease) -> None:
        result = picture(lease.settings, lease.seed or 0) if lease.kind == "decode" else b"latent"
        protocol.complete(lease, result, 0.5)

    def step(self, lease: protocol.Lease, step: int) -> None:
        """One step of a denoise lease, with its preview."""
        protocol.checkpoint(lease, step, preview=preview(lease.seed or 0, step))

    def made(self, room: str, person: Person, prompt: str = "a rocket", **settings) -> Job:
        """A finished job."""
        job = self.ask(room, person, prompt, **settings)
        self.work()
        job.refresh_from_db()
        return job

    def failed(self, room: str, person: Person, prompt: str = "a rocket", **settings) -> Job:
        job = self.ask(room, person, prompt, **settings)
        for _ in range(site.MAX_FAULTS):
            lease = protocol.claim(self.worker.pk)
            assert lease is not None
            protocol.fail(lease, Fault.COMPUTATION_FAILED, "ValueError: /srv/models is odd")
        job.refresh_from_db()
        return job


def _pixels(seed: int, width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.broadcast_to(rng.integers(0, 255, 3, np.uint8), (height, width, 3))


def picture(settings: Settings, seed: int) -> bytes:
    return png_bytes(
        np.ascontiguousarray(_pixels(seed, settings.width, settings.height)),
        {**settings.as_dict(), "seed": seed},
    )


def preview(seed: int, step: int) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(_pixels(seed + step, 8, 8))).save(file, "WEBP")
    return file.getvalue()
