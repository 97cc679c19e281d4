"""The site with a worker that computes on wgpu, in a process of its own that may die."""

import io
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion.backends import open_backend
from diffusion.backends.errors import BackendDiedError
from diffusion.model_folder import find_models
from diffusion.pipeline import generate
from diffusion.random_model import Shape, write_random_model
from genqueue.faults import Fault
from genqueue.runner import fault_of
from tests.genqueue.conftest import settings_of
from tests.genqueue.processes import Site, alive, until


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder / "tiny", Shape(sample_size=64))  # a small picture to warm up with
    return folder


@pytest.fixture(scope="module")
def site(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    running = Site(
        folder / "data", models, folder / "log",
        P2PWEB_BACKEND="wgpu", P2PWEB_PRECISION="f32", P2PWEB_CHECKPOINT_SECONDS="0",
        P2PWEB_CHUNK_SECONDS="60",  # an image in one range: no pause between two of them
    )  # fmt: skip
    try:
        yield running.ready()
    finally:
        running.stop()


def computing_pid(site: Site) -> int:
    """Of the process that the worker computes in."""
    pids = [
        int(pid)
        for thread in Path(f"/proc/{site.worker_pid}/task").glob("*/children")
        for pid in thread.read_text().split()
    ]
    [pid] = [pid for pid in pids if b"wgpu_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return pid


def test_a_job_becomes_the_picture_that_the_model_makes(site, models):
    job = site.finished(site.submit())
    assert job["state"] == "done"
    [image] = job["images"]
    assert image["worker"]["device"].startswith("wgpu Vulkan ")
    assert site.get("/api/health")["device"] == image["worker"]["device"]
    with Image.open(io.BytesIO(site.get(image["url"]))) as picture:
        pixels = np.asarray(picture).astype(int)
    [expected] = generate(open_backend("torch", find_models(models)["tiny"]), settings_of())
    assert np.abs(pixels - expected.pixels).max() <= 2


def test_the_workers_process_does_not_know_wgpu(site):
    assert "libwgpu_native" not in Path(f"/proc/{site.worker_pid}/maps").read_text()
    assert "libwgpu_native" in Path(f"/proc/{computing_pid(site)}/maps").read_text()


def test_a_death_while_computing_costs_one_attempt_and_neither_worker_nor_picture(site):
    job = site.submit(steps=100, seed=8)
    path = f"/api/jobs/{job['id']}"
    until(lambda: site.get(path)["images"][0]["step"] >= 5, 60, "step 5")
    worker, killed = site.worker_pid, computing_pid(site)
    os.kill(killed, signal.SIGKILL)
    assert site.finished(job)["state"] == "done"
    assert site.worker_pid == worker
    assert computing_pid(site) != killed
    chunks = site.rows(
        "SELECT kind, attempt, faults, error FROM queue_chunk WHERE job_id=? AND attempt > 0",
        job["id"].replace("-", ""),
    )
    [(kind, attempt, faults, error)] = chunks
    assert (kind, attempt, faults) == ("denoise", 1, 1)
    assert error.startswith("worker-lost: BackendDiedError: ")
    assert "SIGKILL" in error


def test_it_ends_with_the_site(site):  # the last test that needs the site
    pid = computing_pid(site)
    assert site.stop() == 0
    until(lambda: not alive(pid), 5, "its end")


def test_a_death_is_a_lost_worker():
    assert fault_of(BackendDiedError("The process that computes ended")) == Fault.WORKER_LOST
