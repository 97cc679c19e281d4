"""The embedded site with its real worker process: start, pictures, crashes, cancel, stop."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from diffusion.backends import open_backend
from diffusion.model_folder import find_models
from diffusion.pictures import settings_from_png
from diffusion.pipeline import generate
from diffusion.random_model import write_random_model
from diffusion.tensors import from_bytes
from tests.genqueue.conftest import settings_of
from tests.genqueue.processes import Site, alive, memory_mb, until

LONG = {"width": 384, "height": 384, "steps": 100}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def site(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    running = Site(
        folder / "data", models, folder / "log", P2PWEB_BACKEND="auto", P2PWEB_CHUNK_SECONDS="60",
        P2PWEB_CHECKPOINT_SECONDS="0",  # after every step: on a quick machine all takes a second
    )  # fmt: skip
    try:
        yield running.ready()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def undisturbed(models):
    """The pictures that this process makes of the same settings, without any queue."""
    backend = open_backend("torch", find_models(models)["tiny"])
    return lambda **changes: generate(backend, settings_of(**changes))


def test_a_job_becomes_the_picture_that_the_model_makes(site, undisturbed):
    job = site.finished(site.submit(num_images=2))
    assert job["state"] == "done"
    for image, picture in zip(job["images"], undisturbed(num_images=2), strict=True):
        assert site.get(image["url"]) == picture.png()
        assert settings_from_png(site.get(image["url"]))["seed"] == image["seed"]
        assert image["worker"]["device"] == "cpu"


def test_the_site_process_stays_small_and_knows_no_torch(site):
    maps = Path(f"/proc/{site.process.pid}/maps").read_text()
    assert "torch" not in maps
    assert memory_mb(site.process.pid) < 250


def step_of(site, job) -> int:
    return site.get(f"/api/jobs/{job['id']}")["images"][0]["step"]


def test_a_killed_worker_comes_back_and_the_image_goes_on_bit_for_bit(site, undisturbed):
    # Once its speed is known, the image is one range with checkpoints inside.
    site.finished(site.submit(**{**LONG, "steps": 4}))
    job = site.submit(**LONG)
    pk = job["id"].replace("-", "")
    of_job = "FROM queue_checkpoint c JOIN queue_image i ON c.image_id=i.id WHERE i.job_id=?"
    until(lambda: site.rows(f"SELECT 1 {of_job} AND c.step < 60", pk), 60, "a checkpoint")
    killed = site.worker_pid
    os.kill(killed, signal.SIGKILL)
    assert site.get("/api/health")["database"]["status"] == "ok"
    leases = "SELECT attempt FROM queue_chunk WHERE job_id=? AND state='leased' AND attempt > 0"
    assert until(lambda: site.rows(leases, pk), 60, "the resumption") == [(1,)]
    assert step_of(site, job) > 0, "it went on from its checkpoint"

    # A paused room starts no decoding, so that the last latent can be looked at.
    site.write("UPDATE queue_room SET paused=1")
    last = f"SELECT c.latent {of_job} AND c.step=100"
    [(name,)] = until(lambda: site.rows(last, pk), 60, "the last checkpoint")
    [expected] = undisturbed(**LONG)
    stored = (site.data / "media" / name).read_bytes()
    latent = from_bytes(stored, {"latent": expected.latent.shape})["latent"]
    assert np.array_equal(latent, expected.latent)
    site.write("UPDATE queue_room SET paused=0")

    done = site.finished(job)
    assert site.get(done["images"][0]["url"]) == expected.png()
    assert site.worker_pid != killed


def test_cancel_stops_the_worker_within_a_step(site):
    job = site.submit(**LONG)
    until(lambda: step_of(site, job) >= 5, 60, "step 5")
    site.call("DELETE", f"/api/jobs/{job['id']}", token=job["token"])
    reached = step_of(site, job)
    following = site.submit()
    assert site.finished(following, 20)["state"] == "done"
    assert step_of(site, job) <= reached + 1
    assert site.get(f"/api/jobs/{job['id']}")["state"] == "cancelled"


def test_a_second_start_listens_within_five_seconds_and_a_signal_stops_everything(models, tmp_path):
    first = Site(tmp_path / "data", models, tmp_path / "log")
    first.listening()
    worker = first.worker_pid
    assert first.stop(signal.SIGINT) == 0
    assert not alive(worker)
    second = Site(tmp_path / "data", models, tmp_path / "log")
    try:
        assert second.listening() < 5
        worker = second.worker_pid
    finally:
        assert second.stop() == 0
    assert not alive(worker)
    printed = (tmp_path / "log").read_text()
    assert f"Open http://127.0.0.1:{second.port}/" in printed
    assert "createsuperuser" in printed
    assert (tmp_path / "data" / "secret-key").stat().st_mode & 0o777 == 0o600


def test_the_worker_of_a_killed_site_ends_itself(models, tmp_path):
    site = Site(tmp_path / "data", models, tmp_path / "log")
    try:
        site.ready()
        worker = site.worker_pid
    finally:
        site.stop(signal.SIGKILL)
    until(lambda: not alive(worker), 15, "the worker's end")


def test_a_taken_port_is_said_in_one_sentence(models, tmp_path, site):
    unlucky = Site(tmp_path / "data", models, tmp_path / "log", "--port", str(site.port))
    assert unlucky.process.wait(30) != 0
    assert "is another server using it?" in (tmp_path / "log").read_text()
