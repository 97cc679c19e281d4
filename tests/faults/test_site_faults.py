"""Faults of the site with its own worker: one site, a picture for each fault."""

import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from diffusion.backends import open_backend
from diffusion.model_folder import find_models
from diffusion.pipeline import generate
from diffusion.random_model import write_random_model
from diffusion.settings import Settings
from diffusion.tensors import from_bytes
from tests.browser import chromium, listen_for_errors
from tests.faults.fault import Fault, each_time, injected, lots_of
from tests.faults.reference import GUIDANCE, PROMPT, TOLERANCE, Reference
from tests.genqueue.processes import Site, alive, until

__all__ = ["chromium"]

SIDE, STEPS, SEED = 256, 60, 11
OF_JOB = "FROM queue_checkpoint c JOIN queue_image i ON c.image_id = i.id WHERE i.job_id = ?"

# The room pauses before every decoding, so that the last latent can be looked at
PAUSE = """
CREATE TRIGGER pause_before_decoding AFTER INSERT ON queue_chunk WHEN NEW.kind = 'decode'
BEGIN UPDATE queue_room SET paused = 1; END
"""


class Running:
    """A site that is started again on the same port, with what it should make."""

    def __init__(self, site: Site, models: Path, page: Page) -> None:
        self.site = site
        self.page = page
        self.offline = page.locator("[data-notice=offline]")
        page.goto(f"http://127.0.0.1:{site.port}/rooms/kitchen/")
        site.write(PAUSE)
        folder = find_models(models)["tiny"]
        wanted = Settings(PROMPT, "tiny", SIDE, SIDE, steps=STEPS, guidance=GUIDANCE, seed=SEED)
        [self.expected] = generate(open_backend("torch", folder), wanted)
        self.reference = Reference(folder.path)
        assert self.reference.distance(self.expected.latent, SEED, STEPS, SIDE) <= TOLERANCE
        self.jobs: list[dict] = []

    def asks(self) -> str:
        wanted = {"prompt": PROMPT, "width": SIDE, "height": SIDE, "steps": STEPS, "seed": SEED}
        self.jobs.append(self.site.submit(guidance=GUIDANCE, **wanted))
        return self.jobs[-1]["id"].replace("-", "")

    def until(self, job: str, moment: float) -> str:
        step = int(moment * STEPS)
        if step:
            query = f"SELECT 1 {OF_JOB} AND c.step >= ?"
            until(lambda: self.site.rows(query, job, step), 60, f"step {step}")
        return f"step {step} of {STEPS}"

    def starts_again(self, how: signal.Signals, pause: float) -> None:
        self.site.stop(how)
        expect(self.offline).to_be_visible()
        expect(self.offline).to_contain_text("The connection is lost. Trying again")
        time.sleep(pause)
        self.site.process = self.site.spawn(sys.executable, "manage.py", "serve")
        self.site.ready()
        expect(self.offline).to_be_hidden(timeout=40_000)

    def holds(self, job: str) -> None:
        """The last latent is diffusers', each step was handed in once, all pictures are there."""
        done = f"SELECT c.latent {OF_JOB} AND c.step = ?"
        [(name,)] = until(lambda: self.site.rows(done, job, STEPS), 90, "the last step")
        stored = (self.site.data / "media" / name).read_bytes()
        latent = from_bytes(stored, {"latent": self.expected.latent.shape})["latent"]
        assert np.array_equal(latent, self.expected.latent)
        self.site.write("UPDATE queue_room SET paused = 0")
        assert self.site.finished(self.jobs[-1])["state"] == "done"
        ranges = self.site.rows(
            "SELECT start, stop FROM queue_chunk WHERE job_id = ? AND kind = 'denoise'"
            " AND state = 'done' ORDER BY start",
            job,
        )
        assert ranges[0][0] == 0
        assert ranges[-1][1] == STEPS
        assert all(one[1] == next_[0] for one, next_ in itertools.pairwise(ranges))
        for known in self.jobs:
            [image] = self.site.get(f"/api/jobs/{known['id']}")["images"]
            assert self.site.get(image["url"]) == self.expected.png()
        # The page that was open all the time says so, and of no failure
        expect(self.page.get_by_role("figure")).to_have_count(len(self.jobs))
        expect(self.page.get_by_role("list", name="Queue").locator("> li")).to_have_count(0)
        expect(self.offline).to_be_hidden()


@pytest.fixture(scope="module")
def running(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    models = folder / "models"
    write_random_model(models / "tiny")
    site = Site(folder / "data", models, folder / "log", P2PWEB_CHECKPOINT_SECONDS="0")
    errors: list[str] = []
    page = chromium.new_page()
    listen_for_errors(page, errors)
    try:
        yield Running(site.ready(), models, page)
    finally:
        page.close()
        site.stop()
    assert errors == []


def kill_the_celery_worker(running: Running, lots: random.Random) -> None:
    os.kill(running.site.worker_pid, signal.SIGKILL)


def restart_the_server(running: Running, lots: random.Random) -> None:
    running.starts_again(signal.SIGTERM, lots.random())


def kill_the_server(running: Running, lots: random.Random) -> None:
    """Without a word, and its worker goes with it."""
    worker = running.site.worker_pid
    running.starts_again(signal.SIGKILL, lots.random())
    until(lambda: not alive(worker), 60, "the end of the worker of the killed site")


FAULTS = [
    Fault("Celery worker killed", kill_the_celery_worker, times=4),
    Fault("server restarted", restart_the_server, times=2),
    Fault("server killed", kill_the_server, times=2),
]


@each_time(FAULTS)
def test_the_picture_is_diffusers_and_each_step_is_handed_in_once(running, fault, number, request):
    lots = lots_of(request)
    job = running.asks()
    moment = running.until(job, lots.random())
    fault.make(running, lots)
    injected(request, fault.name, moment)
    running.holds(job)
