"""Of what kind chunks and workers are, and what may be left open about a finished picture."""

from django.db import models


class ChunkKind(models.TextChoices):
    ENCODE = "encode"  # once a job: prompt to conditioning
    DENOISE = "denoise"  # one image, steps start..stop
    DECODE = "decode"  # one image: latent to picture
    CHECK = "check"  # what somebody handed in for one of the above, computed again (`Check`)


class WorkerKind(models.TextChoices):
    CELERY = "celery"
    TAB = "tab"
    REMOTE = "remote"


class Doubt(models.TextChoices):
    """Of a finished picture that others had a part in than the server's own workers."""

    UNCHECKED = "unchecked"  # a check that was due could not be made
    WRONG = "wrong"  # a check that came too late found it wrong
