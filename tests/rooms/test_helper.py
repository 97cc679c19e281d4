"""A helper on another machine: the real program, against the real site, over real sockets."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone
from PIL import Image as Picture

from diffusion.backends import open_backend
from diffusion.model_folder import read_model_folder
from diffusion.noise import initial_noise
from genqueue import actions, protocol
from genqueue.check_models import Check
from genqueue.identity import identity
from genqueue.kinds import WorkerKind
from genqueue.models import Checkpoint, Chunk, Job, Room, Worker
from genqueue.runner import Runner
from genqueue.transitions import WorkerState
from rooms.remote.address import Admission, NotLetInError, join, room_address
from rooms.remote.conversation import LineClosedError
from rooms.remote.helper import DismissedError, Helper, Models
from rooms.remote.line import Line
from tests.genqueue.processes import until
from tests.halves import KERNELS, Halved
from tests.js.site import LiveSite
from tests.liars import Liar
from tests.rooms.computing import ask
from tests.studio import settings_of

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(live_site: LiveSite, transactional_db, settings, model, data_folder) -> Iterator[LiveSite]:
    settings.MODEL_ROOTS = [model.parent]
    settings.DATA_DIR = data_folder
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
    live_site.blocked = False
    yield live_site
    live_site.let_go()


class Running:
    """A helper in a thread; `ended` holds what ended it."""

    def __init__(
        self, site: LiveSite, model: Path, *, steps_held=None, wrapped=None, opened=False,
        room="kitchen",
    ) -> None:  # fmt: skip
        """wrapped: makes the backend that is asked of an honest one. opened: before it joins."""
        folder = read_model_folder(model)
        self.models = Models({identity(folder): folder}, partial(self._open, steps_held, wrapped))
        if opened:
            self.models.backend(identity(folder))
        address = room_address(f"{site.url}/rooms/{room}/")
        self.described = {
            "name": "attic", "device": "Test CPU", "software": True, "variant": "f32",
            "models": list(self.models.folders),
        }  # fmt: skip
        self.said: list[str] = []
        self.helper = Helper(
            self.models, lambda: join(address, self.described), Line, self.said.append
        )
        self.ended: BaseException | None = None
        self.steps = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _open(self, steps_held, wrapped, folder):
        backend = open_backend("torch", folder)
        if wrapped is not None:
            return wrapped(backend)
        if steps_held is not None:
            backend.denoise = partial(self._held, backend.denoise, steps_held)
        return backend

    def _held(self, denoise, steps_held, *args, on_step, **kwargs):
        """Computes as ever, and lets the test look on after each step."""

        def watched(step, latent):
            self.steps += 1
            on_step(step, latent)
            steps_held(self.steps)

        return denoise(*args, on_step=watched, **kwargs)

    def _run(self) -> None:
        try:
            self.helper.run()
        except (NotLetInError, DismissedError) as error:
            self.ended = error
        finally:
            self.models.close()

    def wait(self, seconds: float = 20) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        self.helper.stop()
        self.wait()


@pytest.fixture
def helper(site, model):
    """helper(): a helper of the kitchen, at work until the test ends."""
    started: list[Running] = []

    def start(**options) -> Running:
        started.append(Running(site, model, **options))
        return started[-1]

    yield start
    for running in started:
        running.stop()


def finished(job: Job) -> bool:
    job.refresh_from_db()
    return job.state == "done"


def torchs_latent(backend, job: Job) -> np.ndarray:
    wanted = protocol.settings_of(job)
    return backend.denoise(
        backend.encode(wanted.prompt, wanted.negative_prompt, wanted.guidance),
        initial_noise(wanted.seed, backend.folder.latent_shape(wanted.width, wanted.height)),
        steps=wanted.steps, guidance=wanted.guidance, start=0, stop=wanted.steps,
    )  # fmt: skip


def picture_of(job: Job) -> np.ndarray:
    """As the API serves it."""
    url = Client().get(f"/api/jobs/{job.pk}").json()["images"][0]["url"]
    response = Client().get(url)
    data = b"".join(response.streaming_content) if response.streaming else response.content
    with Picture.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def is_torchs(picture: np.ndarray, expected: np.ndarray) -> bool:
    """The same but for what rounds to the other side: threads may sum in another order."""
    return bool(np.abs(picture.astype(int) - expected).max() <= 1)


def test_it_makes_torchs_picture_and_the_room_sees_who(site, helper, backend, kitchen, alice):
    helper()
    row = until(lambda: Worker.objects.filter(state=WorkerState.READY).first())
    assert (row.kind, row.name, row.device) == (WorkerKind.REMOTE, "attic", "Test CPU")
    assert (row.room_id, row.model_names) == ("kitchen", ["tiny"])
    job = ask(alice)
    until(lambda: finished(job))
    answer = Client().get(f"/api/jobs/{job.pk}").json()["images"][0]
    assert answer["worker"]["name"] == "attic"
    assert answer["worker"]["kind"] == "remote"
    assert is_torchs(picture_of(job), backend.decode(torchs_latent(backend, job)))


def test_a_broken_connection_costs_no_more_than_a_chunk(site, helper, backend, kitchen, alice):
    cut = threading.Event()

    def after(steps: int) -> None:
        if steps == 2 and not cut.is_set():
            cut.set()
            site.drop_sockets()
            time.sleep(0.3)

    running = helper(steps_held=after)
    job = ask(alice)
    until(lambda: finished(job))
    assert cut.is_set()
    assert running.said.count("Ready: waiting for work.") == 2
    assert Worker.objects.count() == 1  # the same one came back
    chunks = Chunk.objects.filter(job=job).exclude(kind="check")  # nobody is there to check
    assert set(chunks.values_list("state", "faults")) == {("done", 0)}
    assert is_torchs(picture_of(job), backend.decode(torchs_latent(backend, job)))


def test_asked_to_stop_it_leaves_a_checkpoint_and_goes(site, helper, kitchen, alice):
    reached = threading.Event()

    def after(steps: int) -> None:
        if steps == 3:  # in the middle of a chunk: the first ones of a worker have two steps
            reached.set()
            time.sleep(0.2)

    running = helper(steps_held=after)
    job = actions.submit_job("kitchen", alice.client_id, settings_of(steps=8))[0]
    assert reached.wait(20)
    running.stop()
    assert running.steps == 4
    until(lambda: Checkpoint.objects.filter(image__job=job, step=4).exists())
    waiting = Chunk.objects.filter(job=job, state="pending").exclude(kind="check")
    chunk = until(waiting.first)
    assert (chunk.kind, chunk.attempt, chunk.faults) == ("denoise", 1, 0)


def loading_server() -> Worker:
    return Worker.objects.create(
        name="server", state=WorkerState.LOADING, device="cpu", model_names=["tiny"]
    )


def checked_by(server: Worker, job: Job) -> None:
    """Others have computed steps of it; then the server comes, checks them and helps."""
    until(lambda: Check.objects.filter(kind="denoise", state="open").first())
    Worker.objects.filter(pk=server.pk).update(state=WorkerState.READY)
    runner = Runner(lambda: False)

    def done() -> bool:
        Worker.objects.filter(pk=server.pk).update(last_seen_at=timezone.now())
        lease = protocol.claim(server.pk)
        if lease is not None:
            runner.run(lease)
        return finished(job)

    until(done)
    runner.close()


@pytest.mark.parametrize("told", ["in its hello", "when the model is open"])
def test_one_that_multiplies_in_f16_is_held_to_that_and_everybody_sees_it(
    site, helper, kitchen, alice, admin_client, told
):
    server = loading_server()
    running = helper(wrapped=Halved, opened=told == "in its hello")
    job = ask(alice)
    checked_by(server, job)
    distances = Check.objects.filter(kind="denoise").values_list("distance", "limit", "variant")
    assert {(limit, variant) for _, limit, variant in distances} == {(0.02, "f16 half")}
    assert all(0.0025 < distance < 0.0053 for distance, _, _ in distances)
    assert running.ended is None
    answer = Client().get("/api/queue/kitchen").json()
    assert answer["shut_out"] == []
    [worker] = [one for one in answer["workers"] if one["kind"] == "remote"]
    assert (worker["kernels"], worker["device"]) == (KERNELS, Halved.device)
    row = Worker.objects.get(kind=WorkerKind.REMOTE)
    assert (row.kernels, row.variant) == (KERNELS, "f16")
    chunks = Chunk.objects.filter(worker=row, state="done")
    assert set(chunks.values_list("kernels", flat=True)) == {KERNELS}
    entries = Client().get(f"/api/jobs/{job.pk}/images/0/timeline").json()["entries"]
    by_it = [one["worker"]["kernels"] for one in entries if one["worker"]["kind"] == "remote"]
    assert by_it == [KERNELS] * len(by_it) != []
    for table in ("worker", "chunk"):
        assert KERNELS in admin_client.get(f"/admin/queue/{table}/").content.decode()


def test_what_it_computes_with_after_a_restart_is_what_it_is_held_to(site, helper, kitchen, alice):
    """The process of wgpu ended, and the trial of the next one chose otherwise."""
    server = loading_server()
    made: list[Halved] = []

    def wrapped(backend) -> Halved:
        made.append(Halved(backend))
        made[0].kernels = "baseline"
        denoise = made[0].denoise

        def restarted(*args, **kwargs):
            made[0].kernels = KERNELS
            return denoise(*args, **kwargs)

        made[0].denoise = restarted
        return made[0]

    running = helper(wrapped=wrapped)
    job = ask(alice)
    checked_by(server, job)
    assert running.ended is None
    assert set(Check.objects.filter(kind="denoise").values_list("variant", flat=True)) == {
        "f16 half"
    }
    assert Check.objects.get(kind="encode").variant == "f16"


def test_a_helper_that_does_not_say_what_it_computes_with_is_as_it_joined(site, helper, kitchen):
    running = helper()
    running.stop()
    address = room_address(f"{site.url}/rooms/kitchen/")
    with Line(join(address, running.described | {"variant": "bf16"})) as line:
        line.say({"type": "work.device"})
        assert line.hear()[0]["code"] == "not-a-worker"
        line.say({"type": "work.hello"})
        worker = line.hear()[0]["worker"]
        assert Worker.objects.get(pk=worker).variant == "bf16"
        right = {"device": "GPU", "software": False, "kernels": "", "stores": "f16"}
        for wrong in (
            {"stores": "f17"}, {"stores": ""}, {"kernels": "x" * 121}, {"kernels": "a\nb"},
            {"device": ""}, {"device": None},
        ):  # fmt: skip
            time.sleep(0.2)  # each counts as eleven messages
            line.say({"type": "work.device", **right, **wrong})
            assert line.hear()[0]["code"] == "bad-message"
        line.say({"type": "work.device", **right})
        line.say({"type": "work.claim", "conditionings": [], "latents": []})
        until(lambda: Worker.objects.get(pk=worker).variant == "f16")
        line.say({"type": "work.goodbye"})


def test_one_that_lies_is_shut_out_and_everybody_sees_why(site, helper, backend, kitchen, alice):
    """The server's own worker checks it and does its work again."""
    server = loading_server()
    liar = helper(wrapped=partial(Liar, "3 % added noise"))
    job = ask(alice)
    checked_by(server, job)
    liar.wait()
    assert isinstance(liar.ended, DismissedError)
    assert "was found wrong" in str(liar.ended)
    assert is_torchs(picture_of(job), backend.decode(torchs_latent(backend, job)))
    [shut_out] = Client().get("/api/queue/kitchen").json()["shut_out"]
    assert shut_out["name"] == "attic"
    assert shut_out["reason"].startswith("steps 1 to 2 differed from what others computed: by ")
    again = helper()
    again.wait()
    assert isinstance(again.ended, NotLetInError)
    assert "at your network address" in str(again.ended)


def test_a_cancelled_job_stops_within_a_step(site, helper, kitchen, alice):
    job_of: list[Job] = []

    def after(steps: int) -> None:
        if steps == 1:
            actions.cancel_job(job_of[0])
            time.sleep(0.5)

    running = helper(steps_held=after)
    until(lambda: Worker.objects.filter(state=WorkerState.READY).exists())
    job_of.append(ask(alice))
    until(lambda: running.steps)
    second = ask(alice)
    until(lambda: finished(second))
    assert running.steps <= 2 + STEPS


def test_the_owner_can_send_it_home(site, helper, kitchen):
    running = helper()
    until(lambda: Worker.objects.filter(state=WorkerState.READY).exists())
    actions.let_tabs_help(Room.objects.get(), False)
    running.wait()
    assert isinstance(running.ended, DismissedError)
    assert "does not let tabs compute" in str(running.ended)
    again = helper()
    again.wait()
    assert isinstance(again.ended, NotLetInError)


def test_a_worker_that_the_server_has_forgotten_joins_anew(site, helper, kitchen):
    running = helper()
    first = until(lambda: Worker.objects.filter(state=WorkerState.READY).first())
    Worker.objects.all().delete()
    site.drop_sockets()
    second = until(lambda: Worker.objects.filter(state=WorkerState.READY).first())
    assert second.pk != first.pk
    assert running.ended is None


def test_what_fails_is_told_and_left_to_others(site, helper, kitchen, alice):
    def after(steps: int) -> None:
        raise MemoryError("not a real one")

    helper(steps_held=after)
    job = ask(alice)
    until(lambda: Chunk.objects.filter(job=job, faults__gt=0).exists())
    assert "MemoryError" in Chunk.objects.get(job=job, kind="denoise").error


@pytest.mark.parametrize("token", ["", "wrong"])
def test_without_its_token_nobody_comes_in(site, helper, kitchen, token):
    running = helper()
    row = until(lambda: Worker.objects.filter(state=WorkerState.READY).first())
    running.stop()
    socket = f"{site.url.replace('http', 'ws')}/ws/rooms/kitchen/helpers/{row.pk}/"
    line = Line(Admission(str(row.pk), token, socket, {}))
    with pytest.raises(LineClosedError) as refused, line:
        pass
    assert refused.value.refused


def test_a_token_opens_its_own_room_only(site, helper, kitchen):
    address = room_address(f"{site.url}/rooms/kitchen/")
    running = helper()
    running.stop()
    admission = join(address, running.described)
    elsewhere = admission.socket.replace("/kitchen/", "/cellar/")
    with pytest.raises(LineClosedError) as refused, Line(replace(admission, socket=elsewhere)):
        pass
    assert refused.value.refused
    with Line(admission) as line:
        line.say({"type": "work.hello"})
        assert line.hear()[0]["type"] == "work.welcome"


@pytest.mark.parametrize(
    ("backend", "device", "kernels"), [("torch", "cpu", ""), ("wgpu", "wgpu ", "few ")]
)
def test_the_command_joins_computes_and_leaves_when_asked(
    site, kitchen, alice, model, backend, device, kernels
):
    job = ask(alice)
    process = subprocess.Popen(
        [
            sys.executable, "manage.py", "helper", f"{site.url}/rooms/kitchen/",
            "--name", "attic", "--model", str(model), "--backend", backend,
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        until(lambda: finished(job), 60)
        process.terminate()
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert f"Computing for kitchen on {device}" in said
    row = Worker.objects.get()
    assert row.device.startswith(device)
    assert row.kernels[:4] == kernels
    assert row.variant == "f32"
    done = Chunk.objects.filter(job=job, state="done").values_list("kernels", flat=True)
    assert set(done) == {row.kernels}
    assert said.rstrip().endswith("Left the room.")


@pytest.mark.parametrize(
    "wrong", ["kitchen", "ftp://x/rooms/kitchen/", "https:///rooms/a/", "http://x/rooms/a b/"]
)
def test_what_is_no_address_of_a_room_is_said(wrong):
    with pytest.raises(ValueError, match="is not the address of a room"):
        room_address(wrong)
