"""What follows from a check: a result counts, or is done again and its maker shut out.

A trusted checker's result decides. One that is not trusted either can only agree: where both differ
a third, or a trusted one, says who is right, and until then nobody is blamed.

Callers hold the job's row lock; what a verdict means for other jobs is `pursuit`'s.
"""

from dataclasses import dataclass

from django.db.models import F, Q

from genqueue import checks, events, finishing, shutting_out, timeline, waking
from genqueue.check_models import Check
from genqueue.checks import Finding
from genqueue.kinds import ChunkKind, Doubt
from genqueue.models import Checkpoint, Chunk, Image, Job, Worker
from genqueue.transitions import (
    CHECK_LIVE,
    CHUNK_LIVE,
    CheckState,
    ChunkState,
    ImageState,
    move,
)


@dataclass(frozen=True, slots=True)
class Culprit:
    """Whose result was found wrong in which room. client: the secret id."""

    room_id: str
    client: str


def decide(
    check: Check, checker: Worker, computed: str, first: Finding, second: Finding | None
) -> tuple[list[Culprit], bool]:
    """A checker has handed in `computed`, a file. Returns who is to be shut out (`pursue`), and
    whether the file has found a use.
    """
    found = {"checker": checker, "distance": first.distance, "limit": first.limit}
    if first.alike:
        checks.settle(check, CheckState.AGREED, **found)
        _note(check, "agreed", checker, first)
        if check.worker_id is not None:
            Worker.objects.filter(pk=check.worker_id).update(valid=F("valid") + 1)
        finishing.resolve_doubts(check.job)
        liar = second is not None and not second.alike
        return [_blame_the_second(check, second)] if liar and second else [], False
    trusted = checks.is_trusted(checker)
    if not trusted and (second is None or not second.alike):
        return [], _leave_to_others(check, checker, computed, first)
    culprit, used = _found_wrong(check, computed, first, found)
    _note(check, "wrong", checker, first)
    both = second is not None and not second.alike
    return [culprit, *([_blame_the_second(check, second)] if both and second else [])], used


def _leave_to_others(check: Check, checker: Worker, computed: str, first: Finding) -> bool:
    opinion: dict[str, object] = {"opinions": F("opinions") + 1}
    if not check.second:
        opinion |= {
            "second": computed, "second_client": checker.client, "second_worker": checker,
            "second_variant": checks.precision(checker),
            "distance": first.distance, "limit": first.limit,
        }  # fmt: skip
    Check.objects.filter(pk=check.pk).update(**opinion)
    _note(check, "disputed", checker, first)
    checks.ask(check)
    return not check.second


def _note(check: Check, verdict: timeline.Verdict, checker: Worker, finding: Finding) -> None:
    timeline.note_check(check, verdict, checker, finding.distance, finding.limit)


def _blame_the_second(check: Check, finding: Finding) -> Culprit:
    shutting_out.shut_out(check, check.second_client, check.second_worker, finding)
    return Culprit(check.job.room_id, check.second_client)


def _found_wrong(
    check: Check, computed: str, finding: Finding, found: dict[str, object]
) -> tuple[Culprit, bool]:
    """computed: what it should have been. Returns also whether that has taken its place."""
    used = False
    if check.kind == ChunkKind.ENCODE:
        used = _encode_again(check, computed)
    elif check.image_id is not None:
        images = Image.objects.filter(pk=check.image_id)
        if check.kind == ChunkKind.DECODE:
            used = images.exclude(picture="").update(picture=computed) == 1
        else:
            for image in images.select_related("job"):
                _steps_again(image, check)
    checks.settle(check, CheckState.WRONG, **found)
    finishing.resolve_doubts(check.job)
    shutting_out.shut_out(check, check.client, check.worker, finding)
    return Culprit(check.job.room_id, check.client), used


def _encode_again(check: Check, computed: str) -> bool:
    """All that was made of the wrong text is made again of the right one."""
    unfinished = Job.objects.unfinished().filter(pk=check.job_id).exclude(conditioning="")
    used = unfinished.update(conditioning=computed) == 1
    images = Image.objects.filter(job=check.job_id)
    images.update(put_back=F("put_back") + 1)
    images.filter(state=ImageState.DONE).update(doubt=Doubt.WRONG)
    for image in images.filter(state=ImageState.RUNNING).select_related("job"):
        _go_to(image, 0, "")
    return used


def _steps_again(image: Image, check: Check) -> None:
    if image.state == ImageState.RUNNING:
        put_back(image, check.client, check)
    elif image.state == ImageState.DONE:
        Image.objects.filter(pk=image.pk).update(doubt=Doubt.WRONG)


# Doing it again ---------------------------------------------------------------------------------
def put_back(image: Image, client: str, wrong: Check | None = None) -> None:
    """A running image goes back to before the first steps that this client has handed in for it and
    that nobody has found right: to the latent there, or to the noise where that is not kept.

    wrong: one of these, open yet, which the caller settles.
    """
    states = [CheckState.HELD, CheckState.OPEN, CheckState.SPARED, CheckState.LAPSED]
    theirs = Check.objects.filter(image=image, client=client, kind=ChunkKind.DENOISE)
    first = theirs.filter(state__in=states).order_by("start", "pk").first()
    if first is not None:
        kept = first.state in CHECK_LIVE
        spare = wrong.pk if wrong is not None else None
        _go_to(image, first.start if kept else 0, first.given if kept else "", spare)


def _go_to(image: Image, step: int, latent: str, spare: int | None = None) -> None:
    """Everything of the image after this step is undone. latent: its file; of step 0 there is none.
    spare: the check that is being settled, and not to be dropped with the others.

    Ranges stay those of whole chunks, so the next one may begin before the step: a claim goes on
    from the checkpoint.
    """
    later = Checkpoint.objects.filter(image=image, step__gte=step)
    undone = {*later.values_list("latent", flat=True), image.picture} - {latent}
    later.delete()
    if step:
        Checkpoint.objects.create(image=image, step=step, latent=latent)
    Image.objects.filter(pk=image.pk).update(
        step=step, preview_step=None, picture="", worker=None, put_back=F("put_back") + 1
    )
    moot = Check.objects.filter(image=image)
    if spare is not None:
        moot = moot.exclude(pk=spare)
    checks.drop(moot.filter(Q(stop__gt=step) | Q(state=CheckState.HELD) | ~Q(kind="denoise")))
    make_pending(image, step)
    checks.let_go(image.job_id, undone)
    events.announce(image.job.room_id)
    waking.wake_workers()


def make_pending(image: Image, step: int) -> None:
    """The image goes on after this step, where its newest checkpoint is. step: not the last."""
    timeline.note_back(image.pk, step)
    if not image.job.conditioning:
        return  # the texts were lost, and are made once more before anything goes on
    chunks = Chunk.objects.filter(image=image)
    steps = chunks.filter(kind=ChunkKind.DENOISE)
    steps.filter(state=ChunkState.DONE, stop__gt=step).delete()
    ends = steps.filter(state=ChunkState.DONE).values_list("stop", flat=True)
    start = max(ends, default=0)
    live = steps.filter(state__in=CHUNK_LIVE).first()
    if live is not None and live.state == ChunkState.LEASED:
        fence = {"attempt": live.attempt, "worker_id": live.worker_id}
        again = {"attempt": live.attempt + 1, "deadline": None}
        move(Chunk, live.pk, ChunkState.LEASED, ChunkState.PENDING, fence=fence, **again)
    if live is not None:
        Chunk.objects.filter(pk=live.pk).update(start=start, stop=image.job.steps)
    else:
        chunks.filter(kind=ChunkKind.DECODE).delete()
        Chunk.objects.create(
            job_id=image.job_id,
            image=image,
            kind=ChunkKind.DENOISE,
            start=start,
            stop=image.job.steps,
        )


def cannot_say(check: Check) -> None:
    """Nobody can compute it again: its files are lost, or every checker failed at it."""
    checks.lapse(check)
    finishing.finish_ready(check.job)
