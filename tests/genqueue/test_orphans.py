"""Files that no row names go; whatever a row names, or a lease may still name, stays."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from genqueue import actions, files, orphans, protocol
from tests.genqueue.conftest import settings_of

# Real commits: files go when the rows that named them have gone for good.
pytestmark = pytest.mark.django_db(transaction=True)

LATER = timedelta(minutes=11)


@pytest.fixture
def job(alice):
    return actions.submit_job("kitchen", alice.client_id, settings_of(num_images=2))[0]


def remove(after: timedelta = LATER) -> int:
    orphans.forget()
    return orphans.remove_orphans(timezone.now() + after)


def put(job_id, name: str) -> str:
    return default_storage.save(f"{files.job_folder(job_id)}/{name}", ContentFile(b"orphan"))


def left(job_id) -> set[str]:
    return set(default_storage.listdir(files.job_folder(job_id))[1])


def test_a_file_goes_when_it_is_old(job):
    orphan = put(job.pk, "0123456789abcdef.png")
    assert remove(after=timedelta(minutes=9)) == 0
    assert default_storage.exists(orphan)
    assert remove() == 1
    assert not default_storage.exists(orphan)


def test_nothing_goes_that_a_job_needs_or_has(job, worker):
    """Looked at after every chunk, from the first to the last."""
    while (lease := worker.claim()) is not None:
        if lease.kind == "denoise":
            protocol.checkpoint(lease, lease.start + 1, b"latent", b"preview")
        worker.finish(lease)
        before = left(job.pk)
        assert remove() == 0
        assert left(job.pk) == before
    pictures = set(job.images.values_list("picture", flat=True))
    assert len(pictures) == 2
    assert all(default_storage.exists(name) for name in pictures)


def test_what_a_lease_may_still_name_stays_until_it_is_over(job, worker):
    lease = worker.claim()
    put(job.pk, "0123456789abcdef.safetensors")
    assert remove() == 0
    protocol.release(lease)
    assert remove() == 1


def test_previews_of_finished_images_go(job, worker):
    worker.do_all()
    put(job.pk, "preview-0-3.webp")
    assert remove() == 1


def test_a_job_that_is_gone_leaves_no_folder():
    gone = uuid4()
    put(gone, "0123456789abcdef.png")
    remove()
    assert str(gone) not in default_storage.listdir(files.JOBS)[0]


def test_files_of_others_stay(job):
    gone = uuid4()
    for job_id in (job.pk, gone):
        put(job_id, "notes.txt")
    default_storage.save(f"{files.JOBS}/not-a-job/0123456789abcdef.png", ContentFile(b"picture"))
    assert remove() == 0
    assert left(job.pk) == left(gone) == {"notes.txt"}
    assert left("not-a-job") == {"0123456789abcdef.png"}


def test_all_folders_are_looked_at_within_a_few_sweeps_once_an_hour(monkeypatch):
    monkeypatch.setattr(orphans, "FOLDERS_A_SWEEP", 2)
    for _ in range(5):
        put(uuid4(), "0123456789abcdef.png")
    now = timezone.now() + LATER
    assert [orphans.remove_orphans(now) for _ in range(4)] == [2, 2, 1, 0]
    put(uuid4(), "0123456789abcdef.png")
    assert orphans.remove_orphans(now + timedelta(minutes=59)) == 0
    assert orphans.remove_orphans(now + timedelta(minutes=61)) == 1


def test_a_site_without_files_has_no_orphans():
    assert remove() == 0
