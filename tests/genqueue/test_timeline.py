"""How a picture was made: kept with it, bounded, and the same for the API and the admin."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from genqueue import actions, lost_files, protocol, retention, timeline, timeline_json
from genqueue.clients import client_label
from genqueue.faults import Fault
from genqueue.models import Chunk, Image, Job, Worker
from genqueue.transitions import WorkerState
from tests.genqueue.conftest import settings_of


def entry(start=0, stop=0, worker="one", outcome="done", **more):
    return {
        "kind": "denoise", "outcome": outcome, "start": start, "stop": stop, "worker": worker,
        "kernels": "", "began": 0, "ended": 1, "seconds": 1.0 if outcome == "done" else None,
        "attempt": 0, "chunks": 1, "received": 10, "sent": 1, "fault": None, "partners": [],
        **more,
    }  # fmt: skip


def test_chunks_in_a_row_are_one_entry_and_their_sums():
    entries = timeline.added([entry(0, 2)], entry(2, 5, ended=7))
    assert entries == [entry(0, 5, ended=7, seconds=2.0, chunks=2, received=20, sent=2)]
    for other in (
        entry(2, 5, worker="two"), entry(2, 5, kernels="other"), entry(2, 5, attempt=1),
        entry(3, 5), entry(2, 2, outcome="returned"), entry(kind="decode"),
    ):  # fmt: skip
        assert timeline.added([entry(0, 2)], other) == [entry(0, 2), other]
    one, other = (entry(kind="encode", worker=name) for name in ("one", "one"))
    assert timeline.added([one], other) == [one, other]


def test_it_is_bounded_and_results_stay_longest():
    entries = []
    for number in range(timeline.MOST_ENTRIES):
        entries = timeline.added(entries, entry(number, number + 1, worker=str(number % 2)))
        entries = timeline.added(entries, entry(number + 1, number + 1, outcome="returned"))
    assert len(entries) == timeline.MOST_ENTRIES
    assert [one["outcome"] for one in entries[:-1]] == ["done"] * (len(entries) - 1)
    assert entries[0]["start"] == 1  # the newest is never given up for an older one
    assert sum(timeline.steps_by(entries).values()) == timeline.MOST_ENTRIES - 1


def test_steps_that_were_lost_count_for_nobody():
    entries = [entry(0, 2), entry(2, 3, outcome="failed"), entry(1, 1, outcome="failed")]
    assert timeline.covered({"entries": entries}) == 1
    assert timeline.steps_by(entries) == {"one": 1}
    again = [entry(kind="encode"), entry(0, 4), entry(4, 8), entry(2, 8, worker="two")]
    assert timeline.steps_by(again) == {"one": 2, "two": 6}  # a check has found the others wrong
    assert timeline.steps_by([*again, entry(kind="decode")]) == {"one": 2, "two": 6}
    assert timeline.covered({}) == 0
    assert timeline.covered({"entries": entries, "back": 0}) == 0


def test_texts_that_are_made_once_more_leave_each_image_its_own(two):
    job, _token = actions.submit_job("kitchen", "a" * 32, settings_of(steps=8, num_images=2))
    protocol.complete(claimed(two[0]), b"texts", 0.5)
    protocol.complete(claimed(two[0]), b"latent", 0.5)
    lost_files.encode_again(job.pk)
    protocol.complete(claimed(two[0]), b"texts", 0.5)
    kinds = [
        [one["kind"] for one in timeline.entries_of(image.timeline)]
        for image in Image.objects.filter(job=job).order_by("index")
    ]
    assert kinds == [["encode", "denoise", "encode"], ["encode", "encode"]]


@pytest.fixture
def two(db):
    return [
        Worker.objects.create(
            name=name, state="ready", device=f"device of {name}", model_names=["tiny"],
            kernels=f"kernels of {name}",
        )
        for name in ("one", "two")
    ]  # fmt: skip


@pytest.fixture
def made(two) -> Image:
    """By two workers, with a retry: the first one fails after a checkpoint."""
    one, other = two
    actions.submit_job("kitchen", "a" * 32, settings_of(steps=2))
    protocol.complete(claimed(one), b"texts", 0.5)
    lease = claimed(one)
    protocol.checkpoint(lease, 1, b"latent")
    protocol.fail(lease, Fault.OUT_OF_MEMORY, "/srv/secret")
    protocol.complete(claimed(other), b"latent", 0.25, received=900, sent=30)
    protocol.complete(claimed(other), b"picture", 0.125)
    return Image.objects.get()


def claimed(worker):
    lease = protocol.claim(worker.pk)
    assert lease is not None
    return lease


def short(entries):
    names = ("kind", "outcome", "start", "stop", "attempt")
    return [tuple(one[name] for name in names) for one in entries]


def test_two_workers_and_a_retry(made, two, client):
    answer = client.get(f"/api/jobs/{made.job_id}/images/0/timeline")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.json()
    assert (told["state"], told["steps"], told["index"]) == ("done", 2, 0)
    assert short(told["entries"]) == [
        ("encode", "done", 0, 0, 0), ("denoise", "failed", 0, 1, 0),
        ("denoise", "done", 1, 2, 1), ("decode", "done", 0, 0, 0),
    ]  # fmt: skip
    failed, done = told["entries"][1:3]
    assert failed["fault"] == {
        "code": "out-of-memory", "detail": "It needs more memory than this worker has.",
    }  # fmt: skip
    assert failed["seconds"] is None
    assert (done["seconds"], done["received"], done["sent"]) == (0.25, 900, 30)
    assert done["worker"] == {
        "id": str(two[1].pk), "name": "two", "kind": "celery", "client": None,
        "device": "device of two", "kernels": "kernels of two",
    }  # fmt: skip
    assert failed["began_at"] <= failed["ended_at"] <= done["began_at"] <= done["ended_at"]
    job = client.get(f"/api/jobs/{made.job_id}").json()
    assert job["images"][0]["steps_by"] == {str(two[0].pk): 1, str(two[1].pk): 1}
    assert "secret" not in answer.content.decode()


def test_what_runs_is_the_last_entry(two):
    job, _token = actions.submit_job("kitchen", "a" * 32, settings_of(steps=8, num_images=2))
    lease = claimed(two[0])
    images = list(Image.objects.filter(job=job).order_by("index"))
    assert [short(timeline_json.as_json(image)["entries"]) for image in images] == [
        [("encode", "running", 0, 0, 0)]
    ] * 2
    protocol.complete(lease, b"texts", 0.5)
    lease = claimed(two[0])
    protocol.checkpoint(lease, 1)
    first = timeline_json.as_json(Image.objects.get(job=job, index=0))["entries"]
    assert short(first)[1:] == [("denoise", "running", 0, 1, 0)]
    assert first[-1]["ended_at"] is None
    second = timeline_json.as_json(Image.objects.get(job=job, index=1))["entries"]
    assert short(second) == [("encode", "done", 0, 0, 0)]


def test_it_stays_when_chunks_and_workers_are_forgotten(made, settings):
    before = timeline_json.as_json(made)
    long_ago = timezone.now() - timedelta(days=400)
    Job.objects.update(finished_at=long_ago)
    Chunk.objects.update(finished_at=long_ago)
    Worker.objects.update(state=WorkerState.GONE, last_seen_at=long_ago)
    settings.KEPT_FOR = {**settings.KEPT_FOR, "pictures": None}
    retention.forget()
    pruned = retention.prune(timezone.now())
    assert (pruned.chunks, pruned.workers) == (1, 1)  # the other one finished the picture
    assert timeline_json.as_json(Image.objects.get()) == before


def test_whose_tab_it_was_is_a_label_and_never_the_id(db):
    room = actions.make_room("kitchen", "a" * 32)
    tab = Worker.objects.create(
        name="tab", kind="tab", state="ready", room=room, client="b" * 32, model_names=["tiny"]
    )
    actions.submit_job("kitchen", "a" * 32, settings_of(steps=2))
    protocol.complete(claimed(tab), b"texts", 0.5)
    image = Image.objects.get()
    assert timeline_json.as_json(image)["entries"][0]["worker"]["client"] == client_label("b" * 32)
    assert "b" * 32 not in str(image.timeline)


def test_a_picture_of_before_the_upgrade_has_none(two, client):
    job, _token = actions.submit_job("kitchen", "a" * 32, settings_of(steps=2))
    protocol.complete(claimed(two[0]), b"texts", 0.5)
    lease = claimed(two[0])
    protocol.checkpoint(lease, 1, b"latent")
    Image.objects.update(timeline={})  # as the migration makes it
    assert client.get(f"/api/jobs/{job.pk}/images/0/timeline").json()["entries"][0]["start"] == 0
    protocol.release(lease)
    entries = timeline_json.as_json(Image.objects.get())["entries"]
    assert short(entries) == [("denoise", "returned", 1, 1, 0)]  # nobody is given what others did


def test_there_is_one_of_every_picture_and_of_no_other(made, client):
    for path, code in (
        (f"/api/jobs/{made.job_id}/images/1/timeline", "no-such-picture"),
        (f"/api/jobs/{made.job_id}/images/x/timeline", "no-such-picture"),
        ("/api/jobs/nothing/images/0/timeline", "no-such-job"),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, code)


def test_the_admin_shows_who_did_what(made, admin_client):
    page = admin_client.get(f"/admin/queue/image/{made.pk}/change/").content.decode()
    for text in ("device of one", "kernels of two", "out-of-memory", "denoise 1..2"):
        assert text in page
    chunks = admin_client.get("/admin/queue/chunk/").content.decode()
    assert "device of two" in chunks


def test_no_migration_is_missing(db):
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
