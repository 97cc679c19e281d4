"""The deployment: Redis, PostgreSQL where it is installed, and separate Celery workers."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from channels_redis.core import RedisChannelLayer

from diffusion.backends import open_backend
from diffusion.model_folder import find_models
from diffusion.pipeline import generate
from diffusion.random_model import write_random_model
from tests.genqueue.conftest import settings_of
from tests.genqueue.processes import READY_SECONDS, ROOT, Site, alive, until
from tests.genqueue.servers import hanging, has_postgres, postgres_server, redis_server

pytestmark = pytest.mark.redis


class Deployment:
    """A site and as many workers as asked for, each a process of its own."""

    def __init__(self, site: Site, redis_url: str) -> None:
        self.site = site
        self.redis_url = redis_url
        self.workers: dict[int, subprocess.Popen[bytes]] = {}

    def start_worker(self, number: int, **env: str) -> None:
        command = (
            sys.executable, "-m", "celery", "-A", "p2pweb", "worker",
            "--hostname", f"w{number}@here", "--loglevel", "INFO",
        )  # fmt: skip
        self.workers[number] = self.site.spawn(*command, **env)

    def ready(self, number: int) -> None:
        until(
            lambda: self.site.get("/api/health")["worker"]["detail"] == f"{number} ready",
            READY_SECONDS,
            f"readiness of {number} workers",
        )

    def stop(self) -> None:
        for process in [*self.workers.values(), self.site.process]:
            process.terminate()
        for process in [*self.workers.values(), self.site.process]:
            process.wait(30)


@pytest.fixture(scope="module", params=["postgresql" if has_postgres() else "sqlite"])
def deployment(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployment")
    models = folder / "models"
    write_random_model(models / "tiny")
    shutil.copytree(models / "tiny", folder / "more models" / "tiny")
    shutil.copytree(models / "tiny", folder / "more models" / "rare")
    with contextlib.ExitStack() as stack:
        redis_url = stack.enter_context(redis_server(folder))
        env = {"REDIS_URL": redis_url, "P2PWEB_CHECKPOINT_SECONDS": "1"}
        if request.param == "postgresql":
            env["DATABASE_URL"] = stack.enter_context(postgres_server(folder))
        site = Site(folder / "data", folder / "more models", folder / "log", **env)
        running = Deployment(site, redis_url)
        stack.callback(running.stop)
        site.listening()
        running.start_worker(0, P2PWEB_MODELS_DIR=str(models))
        running.start_worker(1)
        running.ready(2)
        yield running


def test_celery_loads_the_projects_app_and_task():
    shown = subprocess.run(
        [sys.executable, "-c", "from p2pweb import celery_app as app\n"
         "app.loader.import_default_modules()\n"
         "print(app.main, sorted(name for name in app.tasks if name.startswith('queue.')))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "p2pweb.settings"},
    ).stdout  # fmt: skip
    assert shown.strip() == "p2pweb ['queue.work']"


def test_a_batch_spreads_over_the_workers_and_gives_the_models_pictures(deployment):
    site = deployment.site
    wanted = {"num_images": 4, "width": 128, "height": 128, "steps": 20}
    job = site.finished(site.submit(**wanted), 120)
    assert job["state"] == "done"
    assert {image["worker"]["name"] for image in job["images"]} == {"w0@here", "w1@here"}
    backend = open_backend("torch", find_models(*[deployment.site.data.parent / "models"])["tiny"])
    for image, picture in zip(job["images"], generate(backend, settings_of(**wanted)), strict=True):
        assert site.get(image["url"]) == picture.png()


def test_a_model_that_one_worker_has_is_left_to_it(deployment):
    site = deployment.site
    job = site.finished(site.submit(model="rare", num_images=3))
    assert job["state"] == "done"
    assert {image["worker"]["name"] for image in job["images"]} == {"w1@here"}


async def test_changes_are_hinted_at_through_redis(deployment):
    layer = RedisChannelLayer(hosts=[deployment.redis_url])
    channel = await layer.new_channel()
    await layer.group_add("room.hints", channel)
    deployment.site.submit("hints")
    seen = [await layer.receive(channel) for _ in range(3)]
    assert {hint["type"] for hint in seen} == {"room.changed"}
    revisions = [hint["revision"] for hint in seen]
    assert revisions == sorted(revisions)
    await layer.flush()
    await layer.close_pools()


def begun(site, **wanted):
    """A job whose image is being made, and the name of the worker that makes it."""
    job = site.submit(width=384, height=384, **wanted)
    path = f"/api/jobs/{job['id']}"
    until(lambda: site.get(path)["images"][0]["step"] >= 3, 60, "step 3")
    return job, site.get(path)["images"][0]["worker"]["name"]


def test_a_redis_that_hangs_holds_up_neither_requests_nor_steps(deployment):
    site = deployment.site
    job, _name = begun(site, steps=100)
    with hanging(deployment.redis_url):
        began = time.monotonic()
        asked = [site.submit() for _ in range(3)]
        # Without limits no answer would ever come; the first waits for Redis, the others do not.
        assert time.monotonic() - began < 10
        assert site.get("/api/health")["broker"]["status"] == "down"
        # Chunk after chunk, though no message about the next one gets through.
        assert site.finished(job, 60)["state"] == "done"
    for accepted in asked:
        assert site.finished(accepted, 60)["state"] == "done"


def test_a_stopped_workers_image_goes_on_at_once(deployment):
    site = deployment.site
    job, name = begun(site, steps=100)
    path = f"/api/jobs/{job['id']}"
    stopped = deployment.workers[int(name[1])]
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(20) == 0
    began = time.monotonic()
    until(
        lambda: (worker := site.get(path)["images"][0]["worker"]) and worker["name"] != name,
        20,
        "the other worker's turn",
    )
    # A lost wake-up is found by the sweep, after 5 s; a lease would have run out after 30 s.
    assert time.monotonic() - began < 4
    assert site.get(path)["images"][0]["step"] > 0, "it went on from its checkpoint"
    site.call("DELETE", path, token=job["token"])
    deployment.start_worker(int(name[1]))
    deployment.ready(2)


def test_a_killed_workers_image_is_finished_by_the_other(deployment):
    site = deployment.site
    job, name = begun(site, steps=60)
    victim = deployment.workers[int(name[1])]
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    assert not alive(victim.pid)
    # Its lease of 30 s runs out, the next sweep takes the chunk back, the other one goes on.
    done = site.finished(job, 90)
    assert done["state"] == "done"
    assert done["images"][0]["worker"]["name"] != name


def test_a_worker_that_starts_again_under_its_name_is_the_same_worker(deployment):
    workers = deployment.workers.items()
    deployment.start_worker(next(n for n, worker in workers if worker.poll() is not None))
    deployment.ready(2)
    workers = deployment.site.get("/api/queue/kitchen")["workers"]
    assert sorted(worker["name"] for worker in workers) == ["w0@here", "w1@here"]
