"""The end of an image, and with its last image of a job.

An image whose picture is there waits for the checks of what made it, as long as somebody is there
to make them and not longer than `PATIENCE`: so nothing wrong is shown as finished where that can be
known, and nobody waits for a checker who never comes. What was not checked by then is marked, and
may still be checked later.
"""

from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from genqueue import checks, events, fairness, files
from genqueue.check_models import Check
from genqueue.kinds import Doubt
from genqueue.models import Image, Job, Tally
from genqueue.transitions import (
    IMAGE_ENDED,
    CheckState,
    ImageState,
    JobState,
    lock_job,
    move,
)

PATIENCE: Final = timedelta(minutes=2)


def finish_ready(job: Job) -> None:
    """End the images of a locked job that wait for nothing any more."""
    images_done = jobs_done = 0
    for image in Image.objects.filter(job=job, state=ImageState.RUNNING).exclude(picture=""):
        image.job = job
        if not _awaits_a_check(image):
            _finish(image)
            images_done += 1
            jobs_done += end_after_images(job) == JobState.DONE
    if images_done:
        events.announce(job.room_id)
        count(images_done=images_done, jobs_done=jobs_done)


def finish_all_ready() -> None:
    """The same for all jobs: a checker may have left, or let everybody wait for too long."""
    waiting = Image.objects.filter(state=ImageState.RUNNING).exclude(picture="")
    for job in Job.objects.filter(pk__in=waiting.values("job")):
        with transaction.atomic():
            if lock_job(job.pk):
                finish_ready(job)


def _awaits_a_check(image: Image) -> bool:
    since = timezone.now() - PATIENCE
    open_ones = Check.objects.of_image(image).filter(state=CheckState.OPEN, created_at__gt=since)
    return any(fairness.has_checker(check) for check in open_ones.select_related("job__room"))


def _finish(image: Image) -> None:
    unchecked = _unchecked(image)
    moved = move(
        Image,
        image.pk,
        ImageState.RUNNING,
        ImageState.DONE,
        finished_at=timezone.now(),
        doubt=Doubt.UNCHECKED if unchecked else "",
    )
    assert moved, "the job is locked"
    checks.let_go(image.job_id, files.working_files(image))
    image.checkpoints.all().delete()


def _unchecked(image: Image) -> bool:
    undecided = [CheckState.OPEN, CheckState.LAPSED]
    return Check.objects.of_image(image).filter(state__in=undecided).exists()


def resolve_doubts(job: Job) -> None:
    """Pictures that were finished unchecked, and all checks of which are over now."""
    for image in Image.objects.filter(job=job, doubt=Doubt.UNCHECKED):
        if not _unchecked(image):
            Image.objects.filter(pk=image.pk).update(doubt="")


def end_after_images(job: Job) -> JobState | None:
    """The last image of a running job ends it: done, or failed if any image failed."""
    states = set(Image.objects.filter(job=job).values_list("state", flat=True))
    if not states <= set(IMAGE_ENDED):
        return None
    ending = JobState.FAILED if ImageState.FAILED in states else JobState.DONE
    if not move(Job, job.pk, JobState.RUNNING, ending, finished_at=timezone.now()):
        return None
    checks.let_go(job.pk, Job.objects.filter(pk=job.pk).values_list("conditioning", flat=True))
    return ending


def count(**amounts: int) -> None:
    """Add to the totals: one row that all workers write, so the last lock of a transaction."""
    more = {name: F(name) + number for name, number in amounts.items() if number}
    if not more:
        return
    if not Tally.objects.filter(pk=1).update(**more):
        Tally.objects.get_or_create(pk=1)
        Tally.objects.filter(pk=1).update(**more)
