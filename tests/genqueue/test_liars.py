"""Real steps of a real model, honest and not: every lie is found, and honest workers never refused.

The workers are Python's own, with the torch backend; tabs and helpers get the same leases.
"""

import io
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from diffusion.backends import Backend, open_backend
from diffusion.model_folder import read_model_folder
from diffusion.random_model import write_random_model
from genqueue import actions, files, protocol
from genqueue import checks as queue_checks
from genqueue.check_models import Check, ShutOut
from genqueue.models import Job, Worker
from tests.diffusion.plan.rounded import write_rounded_model
from tests.faults.fault import injected, lots_of
from tests.genqueue.conftest import settings_of
from tests.genqueue.volunteers import Computing, server, volunteer
from tests.liars import LIES, Liar

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def backends(tmp_path_factory) -> dict[str, Backend]:
    """The same weights, written in f32, as workers of each variant have them."""
    place = tmp_path_factory.mktemp("variants")
    exact = write_random_model(place / "f32", dtype=torch.float32)
    folders = {"f32": exact}
    for variant in ("f16", "int8"):
        folders[variant] = write_rounded_model(exact, place / variant, variant)
    return {name: open_backend("torch", read_model_folder(path)) for name, path in folders.items()}


@pytest.fixture(autouse=True)
def model(settings, tmp_path, backends) -> None:
    """The site has the exact one, under the name of the tests."""
    shutil.copytree(Path(backends["f32"].folder.path), tmp_path / "models" / "tiny")
    settings.MODEL_ROOTS = [tmp_path / "models"]


def work(*workers: Computing) -> None:
    while sum(worker.do_next() for worker in workers):
        pass


def submit(person, **changes) -> Job:
    return actions.submit_job("kitchen", person.client_id, settings_of(**changes))[0]


def picture_of(job: Job) -> np.ndarray:
    with Picture.open(io.BytesIO(files.read(job.images.get().picture))) as picture:
        return np.asarray(picture).astype(int)


def honest_picture(backend: Backend, job: Job) -> np.ndarray:
    from diffusion.noise import initial_noise

    wanted = protocol.settings_of(job)
    latent = backend.denoise(
        backend.encode(wanted.prompt, wanted.negative_prompt, wanted.guidance),
        initial_noise(wanted.seed, backend.folder.latent_shape(wanted.width, wanted.height)),
        steps=wanted.steps, guidance=wanted.guidance, start=0, stop=wanted.steps,
    )  # fmt: skip
    return backend.decode(latent).astype(int)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(("says", "checks"), [("f32", "f32"), ("f16", "f32"), ("f32", "f16")])
def test_every_lie_is_found_and_done_again(
    request, settings, alice, bob, backends, lie, says, checks
):
    settings.CHUNK_SECONDS = 0.001  # a range of two steps, then of one each
    honest_ranges = lots_of(request).randrange(5)
    tab = volunteer(bob, variant=says)
    liar = Computing(tab, Liar(lie, backends[says], backends["int8"], honest_ranges))
    job = submit(alice, steps=6)
    server()  # somebody could check: the picture waits
    work(liar)
    injected(request, "liar at the site", f"range {honest_ranges} of 5 ({lie})")
    work(Computing(server(), backends[checks]))
    assert ShutOut.objects.get().label == bob.label
    wrong = Check.objects.get(state="wrong")
    assert wrong.kind == "denoise"
    assert wrong.distance > wrong.limit
    # Before the first range there is no latent to be stale
    first = max(honest_ranges, 1) if lie == "a stale latent" else honest_ranges
    assert wrong.start == (first + 1 if first else 0)
    job.refresh_from_db()
    assert job.state == "done"
    assert np.abs(picture_of(job) - honest_picture(backends[checks], job)).max() <= 2


def test_an_encoding_of_another_prompt_is_found(alice, bob, backends):
    class Misreader:
        def __getattr__(self, name):
            return getattr(backends["f32"], name)

        def encode(self, prompt, negative_prompt, guidance):
            return backends["f32"].encode("a cactus", negative_prompt, guidance)

    liar = Computing(volunteer(bob, variant="f32"), Misreader())
    job = submit(alice, steps=4)
    ours = Computing(server(), backends["f32"])
    work(liar, ours)
    job.refresh_from_db()
    assert Check.objects.get(state="wrong").kind == "encode"
    assert np.abs(picture_of(job) - honest_picture(backends["f32"], job)).max() <= 2


def test_a_picture_that_was_not_decoded_is_found(alice, bob, backends):
    class Painter:
        def __getattr__(self, name):
            return getattr(backends["f32"], name)

        def decode(self, latent):
            return backends["f32"].decode(np.ascontiguousarray(np.flip(latent, axis=2)))

    liar = Computing(volunteer(bob, variant="f32"), Painter())
    server()  # somebody could check: the picture waits
    job = submit(alice, steps=4)
    work(liar)
    work(Computing(server(), backends["f32"]))
    job.refresh_from_db()
    assert Check.objects.get(state="wrong").kind == "decode"
    assert np.abs(picture_of(job) - honest_picture(backends["f32"], job)).max() <= 2


def test_honest_workers_of_f32_and_f16_never_refuse_each_other(
    alice, bob, charlie, backends, settings, monkeypatch
):
    settings.CHUNK_SECONDS = 0.001  # a step each
    monkeypatch.setattr(queue_checks, "PROVEN", 10_000)  # all of them are checked
    crowd = [
        Computing(volunteer(person, variant=variant), backends[variant])
        for person, variant in ((alice, "f16"), (bob, "f32"), (charlie, "f16"))
    ]
    for seed, guidance, steps in itertools.product(range(4), (1.0, 4.0), (3, 8)):
        submit(alice, seed=seed, guidance=guidance, steps=steps, num_images=1)
        work(*crowd)
    checks = Check.objects.exclude(state="spared")
    assert checks.count() >= 50
    assert set(checks.values_list("state", flat=True)) == {"agreed"}
    assert not ShutOut.objects.exists()
    assert Worker.objects.filter(valid__gt=0).count() == 3
    worst = max(check.distance / check.limit for check in checks)
    assert worst < 0.6, "there is room for other devices"
