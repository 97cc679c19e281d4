"""Removes files of the queue that no row names.

They are left where nobody can know what became of a transaction: the worker was killed between
writing a file and its row, or the connection was lost while the database committed. Deleting the
file right away might take a picture from a job that is done.

A file may go when it is minutes old, its job has no lease, and no row names it, looked at in this
order: only who holds a lease gives names to files, so one that is seen without a name after its
lease has ended stays without one.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.core.files.storage import default_storage

from genqueue import files
from genqueue.check_models import Check
from genqueue.models import Checkpoint, Chunk, Image, Job
from genqueue.transitions import CHECK_LIVE, IMAGE_ENDED, ChunkState

OLD = timedelta(minutes=10)
BEAT = timedelta(hours=1)
FOLDERS_A_SWEEP = 50

_OURS = re.compile(r"[0-9a-f]{16}\.(?:safetensors|png)|(?P<any_step>preview-\d+-)\d+\.webp")

_to_look_at: list[UUID] = []
_next_at: datetime | None = None


def remove_orphans(now: datetime) -> int:
    """Look at the next few jobs' folders; all of them within a few sweeps, once a BEAT. Returns how
    many files were removed."""
    global _next_at
    if not _to_look_at and (_next_at is None or now >= _next_at):
        _next_at = now + BEAT
        _to_look_at.extend(_jobs_with_folders())
    batch = _to_look_at[:FOLDERS_A_SWEEP]
    del _to_look_at[:FOLDERS_A_SWEEP]
    return _look_at(batch, now - OLD)


def forget() -> None:
    """The next call begins anew (tests)."""
    global _next_at
    _next_at = None
    _to_look_at.clear()


def _jobs_with_folders() -> Iterator[UUID]:
    with contextlib.suppress(FileNotFoundError):  # no job has had a file yet
        for name in default_storage.listdir(files.JOBS)[0]:
            with contextlib.suppress(ValueError):  # not ours
                yield UUID(name)


def _look_at(job_ids: list[UUID], long_ago: datetime) -> int:
    found = {job_id: list(_old_files(job_id, long_ago)) for job_id in job_ids}
    leased = Chunk.objects.filter(job__in=found, state=ChunkState.LEASED)
    for job_id in set(leased.values_list("job_id", flat=True)):
        del found[job_id]
    named = set(_named(found))
    exist = set(Job.objects.filter(pk__in=found).values_list("pk", flat=True))
    removed = 0
    for job_id, names in found.items():
        orphans = [name for name, known_as in names if known_as not in named]
        files.delete(orphans)
        removed += len(orphans)
        if job_id not in exist:
            with contextlib.suppress(OSError):  # something younger lies in it
                default_storage.delete(files.job_folder(job_id))
    return removed


def _old_files(job_id: UUID, long_ago: datetime) -> Iterator[tuple[str, str]]:
    """The name of each old file, and under what rows know it: previews without their step."""
    folder = files.job_folder(job_id)
    with contextlib.suppress(FileNotFoundError):
        for file in default_storage.listdir(folder)[1]:
            ours = _OURS.fullmatch(file)
            name = f"{folder}/{file}"
            if ours and default_storage.get_modified_time(name) < long_ago:
                yield name, f"{folder}/{ours['any_step'] or file}"


def _named(job_ids: Iterable[UUID]) -> Iterator[str]:
    """All that rows name, and the previews of images that are not finished."""
    yield from Job.objects.filter(pk__in=job_ids).values_list("conditioning", flat=True)
    images = Image.objects.filter(job__in=job_ids)
    yield from images.values_list("picture", flat=True)
    yield from Checkpoint.objects.filter(image__in=images).values_list("latent", flat=True)
    checks = Check.objects.filter(job__in=job_ids, state__in=CHECK_LIVE)
    for names in checks.values_list("given", "result", "second"):
        yield from names
    for image in images.exclude(state__in=IMAGE_ENDED):
        yield files.preview_name(image, 0).removesuffix("0.webp")
