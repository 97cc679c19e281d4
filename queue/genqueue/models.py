"""What the queue remembers. States are written by `transitions.move` alone.

Latents, conditioning, previews and pictures are files in Django's storage, never blobs in rows.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from genqueue.check_models import Check
from genqueue.kinds import ChunkKind, Doubt, WorkerKind
from genqueue.transitions import (
    CHUNK_LIVE,
    IMAGE_ENDED,
    JOB_ENDED,
    ChunkState,
    ImageState,
    JobState,
    WorkerState,
)


class RoomQuerySet(models.QuerySet["Room"]):
    def counting_jobs(self, **states: Sequence[JobState]) -> "RoomQuerySet":
        """Adds each name as the number of unfinished jobs in these states."""
        of_room = Job.objects.unfinished().filter(room=models.OuterRef("pk")).order_by()
        numbers = {}
        for name, wanted in states.items():
            jobs = of_room.filter(state__in=wanted).values("room")
            number = jobs.annotate(number=models.Count("pk")).values("number")
            numbers[name] = Coalesce(models.Subquery(number), 0)
        return self.annotate(**numbers)

    def with_newest_job(self) -> "RoomQuerySet":
        """Adds `newest_job`, the id of the newest job with a finished picture, or None."""
        jobs = Job.objects.filter(room=models.OuterRef("pk")).with_pictures()
        newest = jobs.order_by("-created_at", "-pk").values("pk")[:1]
        return self.annotate(newest_job=models.Subquery(newest))


class Room(models.Model):
    """A room has a row as soon as somebody makes it or adds a job to it."""

    id = models.CharField(primary_key=True, max_length=64)
    owner = models.CharField(max_length=32, blank=True, help_text="client id of who made it")
    title = models.CharField(max_length=80, blank=True)
    listed = models.BooleanField(default=False)
    paused = models.BooleanField(default=False)
    server_helps = models.BooleanField(default=True)
    tabs_help = models.BooleanField(default=True, help_text="tabs of people in it may compute")
    created_at = models.DateTimeField(default=timezone.now)
    visited_at = models.DateTimeField(
        default=timezone.now, db_index=True, help_text="to the hour; see genqueue.retention"
    )
    revision = models.BigIntegerField(
        default=0, db_index=True, help_text="grows with every visible change, over all rooms"
    )
    last_turn = models.BigIntegerField(default=0, help_text="when a worker last began here, ns")

    objects = RoomQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(id__regex=r"^[A-Za-z0-9_-]{1,64}$"), name="room_id_is_valid"
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.id


class RemovedClient(models.Model):
    """A client whom the owner of a room has removed from it."""

    room = models.ForeignKey(Room, models.CASCADE, related_name="removed_clients")
    label = models.CharField(max_length=32, help_text="public name of the client")
    removed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["room", "label"], name="removed_once"),
        ]

    def __str__(self) -> str:
        return f"{self.label} from {self.room_id}"


class Turn(models.Model):
    """When a worker last began something for this client in this room (fairness)."""

    room = models.ForeignKey(Room, models.CASCADE, related_name="turns")
    client = models.CharField(max_length=32)
    last_turn = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["room", "client"], name="one_turn_per_client"),
        ]

    def __str__(self) -> str:
        return f"{self.room_id}: {self.last_turn}"


class WorkerQuerySet(models.QuerySet["Worker"]):
    def online(self, now: datetime | None = None) -> "WorkerQuerySet":
        """Loading or ready, and heard of within the length of a lease."""
        from django.conf import settings

        heard_since = (now or timezone.now()) - timedelta(seconds=settings.LEASE_SECONDS)
        return self.exclude(state=WorkerState.GONE).filter(last_seen_at__gte=heard_since)


class Worker(models.Model):
    """Anything that computes chunks."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=8, choices=WorkerKind, default=WorkerKind.CELERY)
    state = models.CharField(max_length=8, choices=WorkerState, default=WorkerState.LOADING)
    device = models.CharField(max_length=120, blank=True)
    model_names = models.JSONField(
        default=list, blank=True, help_text="the models it can open; it leases no chunk of others"
    )
    host = models.CharField(max_length=120, blank=True)
    pid = models.PositiveIntegerField(null=True, blank=True)
    room = models.ForeignKey(
        Room, models.CASCADE, null=True, blank=True, related_name="workers",
        help_text="empty: the server's own, helps in every room that lets it",
    )  # fmt: skip
    client = models.CharField(
        max_length=32, blank=True, help_text="client id of whose tab it is; never shown to others"
    )
    variant = models.CharField(
        max_length=40, blank=True, help_text="how a tab's package stores the weights"
    )
    software = models.BooleanField(default=False, help_text="a tab without a GPU of its own")
    own_first = models.BooleanField(
        default=False, help_text="what its own person asked for comes before all else"
    )
    kernels = models.CharField(
        max_length=120, blank=True, help_text="variants of WebGPU kernels; empty: it has none"
    )
    lacks = models.JSONField(
        default=dict, blank=True,
        help_text="pixels of the smallest picture for which it had too little memory, by kind",
    )  # fmt: skip
    token_hash = models.CharField(max_length=64, blank=True)
    network = models.CharField(
        max_length=32, blank=True, help_text="hash of the network that a tab or helper came from"
    )
    valid = models.PositiveIntegerField(
        default=0, help_text="results of it that others have computed alike"
    )
    started_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    chunks_done = models.PositiveIntegerField(default=0)
    steps_done = models.PositiveIntegerField(default=0)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["room", "state"], name="queue_worker_room")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=WorkerState.values), name="worker_state_is_known"
            ),
            models.CheckConstraint(
                condition=~Q(kind=WorkerKind.TAB) | (Q(room__isnull=False) & ~Q(client="")),
                name="tab_is_somebodys_in_a_room",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class JobQuerySet(models.QuerySet["Job"]):
    def unfinished(self) -> "JobQuerySet":
        """Queued or running. By the time of their end (a constraint ties both), because an index
        finds the few without one among all jobs of a room."""
        return self.filter(finished_at=None)

    def ended(self) -> "JobQuerySet":
        return self.filter(state__in=JOB_ENDED)

    def with_pictures(self) -> "JobQuerySet":
        """Those of which a picture is finished."""
        return self.filter(models.Exists(_finished_images()))

    def with_pictures_or_failed(self) -> "JobQuerySet":
        return self.filter(models.Exists(_finished_images()) | Q(state=JobState.FAILED))

    def counting_pictures(self) -> "JobQuerySet":
        """Adds `pictures`, how many are finished. For a page of jobs: it counts for each."""
        number = _finished_images().order_by().values("job").annotate(number=models.Count("pk"))
        return self.annotate(pictures=Coalesce(models.Subquery(number.values("number")), 0))

    def made_before(self, created_at: datetime, job_id: uuid.UUID) -> "JobQuerySet":
        """In the order of (created_at, id)."""
        earlier = Q(created_at__lt=created_at) | Q(created_at=created_at, pk__lt=job_id)
        return self.filter(earlier, created_at__lte=created_at)  # the index knows the latter

    def with_images(self) -> "JobQuerySet":
        """Fetches what their JSON needs."""
        images = Image.objects.select_related("worker").order_by("index")
        return self.prefetch_related(models.Prefetch("images", images))


def _finished_images() -> "models.QuerySet[Image]":
    return Image.objects.filter(job=models.OuterRef("pk"), state=ImageState.DONE)


class Job(models.Model):
    """What somebody asked for."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    room = models.ForeignKey(Room, models.CASCADE, related_name="jobs")
    client = models.CharField(max_length=32, help_text="client id; never shown to others")
    token_hash = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=JobState, default=JobState.QUEUED)
    prompt = models.TextField()
    negative_prompt = models.TextField(blank=True)
    model = models.CharField(max_length=120)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    steps = models.PositiveIntegerField()
    guidance = models.FloatField()
    seed = models.BigIntegerField()
    num_images = models.PositiveIntegerField()
    conditioning = models.CharField(max_length=200, blank=True, help_text="name in the storage")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_detail = models.TextField(blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["created_at", "id"]
        indexes: ClassVar = [
            models.Index(fields=["room", "created_at"], name="queue_job_room"),
            models.Index(fields=["room", "finished_at", "created_at"], name="queue_job_room_end"),
            models.Index(fields=["state", "finished_at"], name="queue_job_state"),
            models.Index(fields=["finished_at"], name="queue_job_finished"),
            models.Index(fields=["started_at"], name="queue_job_started"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=JobState.values), name="job_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state__in=JOB_ENDED, finished_at__isnull=False)
                | (~Q(state__in=JOB_ENDED) & Q(finished_at__isnull=True)),
                name="job_finished_iff_ended",
            ),
            models.CheckConstraint(
                condition=~Q(state=JobState.QUEUED) | Q(started_at__isnull=True),
                name="job_queued_has_not_started",
            ),
            models.CheckConstraint(
                condition=Q(seed__gte=0, seed__lt=2**32), name="job_seed_is_32_bits"
            ),
            models.CheckConstraint(
                condition=Q(steps__gte=1, num_images__gte=1), name="job_has_work"
            ),
        ]

    def __str__(self) -> str:
        return self.prompt[:60]


class Image(models.Model):
    """One picture of a job."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="images")
    index = models.PositiveIntegerField()
    seed = models.BigIntegerField()
    state = models.CharField(max_length=10, choices=ImageState, default=ImageState.QUEUED)
    step = models.PositiveIntegerField(default=0, help_text="steps computed so far")
    preview_step = models.PositiveIntegerField(null=True, blank=True)
    worker = models.ForeignKey(
        Worker, models.SET_NULL, null=True, blank=True, related_name="images",
        help_text="who computes it, or last did",
    )  # fmt: skip
    picture = models.CharField(max_length=200, blank=True, help_text="name in the storage")
    doubt = models.CharField(
        max_length=10,
        choices=Doubt,
        blank=True,
        help_text="of a finished one: what checks left open",
    )
    put_back = models.PositiveIntegerField(
        default=0, help_text="how often it went back to an earlier step; what workers have in"
        " memory of it is not to be trusted then",
    )  # fmt: skip
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    seconds = models.FloatField(default=0, help_text="computing time of its finished chunks")
    timeline = models.JSONField(
        default=dict, blank=True, help_text="who computed what, and when; see genqueue.timeline"
    )

    class Meta:
        ordering: ClassVar = ["job_id", "index"]  # by "job" it would join the jobs for their order
        indexes: ClassVar = [
            models.Index(fields=["state", "job"], name="queue_image_state"),
            models.Index(fields=["state", "finished_at"], name="queue_image_finished"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "index"], name="image_index_once"),
            models.CheckConstraint(
                condition=Q(state__in=ImageState.values), name="image_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state__in=IMAGE_ENDED, finished_at__isnull=False)
                | (~Q(state__in=IMAGE_ENDED) & Q(finished_at__isnull=True)),
                name="image_finished_iff_ended",
            ),
            models.CheckConstraint(
                condition=~Q(state=ImageState.DONE) | ~Q(picture=""),
                name="image_done_has_picture",
            ),
            models.CheckConstraint(
                condition=~Q(state=ImageState.QUEUED) | Q(step=0),
                name="image_queued_has_no_steps",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}/{self.index}"


class Chunk(models.Model):
    """The unit of work leased to one worker. An image has at most one live chunk at a time.

    A pending `denoise` chunk reaches to the last step; the claim narrows it to what the worker
    does in a few seconds.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="chunks")
    image = models.ForeignKey(Image, models.CASCADE, null=True, blank=True, related_name="chunks")
    check_of = models.ForeignKey(
        Check, models.CASCADE, null=True, blank=True, related_name="chunks",
        help_text="what a `check` chunk computes again; it has no image of its own",
    )  # fmt: skip
    kind = models.CharField(max_length=8, choices=ChunkKind)
    start = models.PositiveIntegerField(default=0)
    stop = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=10, choices=ChunkState, default=ChunkState.PENDING)
    worker = models.ForeignKey(
        Worker, models.SET_NULL, null=True, blank=True, related_name="chunks"
    )
    attempt = models.PositiveIntegerField(default=0, help_text="leases taken back so far")
    faults = models.PositiveIntegerField(default=0)
    deadline = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    leased_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    seconds = models.FloatField(null=True, blank=True, help_text="computing time")
    kernels = models.CharField(
        max_length=120, blank=True, help_text="variants of kernels that computed it"
    )
    error = models.TextField(blank=True)

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [
            models.Index(fields=["state", "deadline"], name="queue_chunk_state"),
            models.Index(fields=["state", "finished_at"], name="queue_chunk_finished"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=ChunkState.values), name="chunk_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    state=ChunkState.LEASED,
                    worker__isnull=False,
                    deadline__isnull=False,
                    leased_at__isnull=False,
                )
                | (~Q(state=ChunkState.LEASED) & Q(deadline__isnull=True)),
                name="chunk_has_a_holder_iff_leased",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=[ChunkKind.ENCODE, ChunkKind.CHECK], image__isnull=True)
                | (~Q(kind__in=[ChunkKind.ENCODE, ChunkKind.CHECK]) & Q(image__isnull=False)),
                name="chunk_image_unless_encode_or_check",
            ),
            models.CheckConstraint(
                condition=Q(kind=ChunkKind.CHECK, check_of__isnull=False)
                | (~Q(kind=ChunkKind.CHECK) & Q(check_of__isnull=True)),
                name="chunk_checks_iff_check",
            ),
            models.CheckConstraint(
                condition=Q(kind=ChunkKind.DENOISE, start__lt=F("stop"))
                | (~Q(kind=ChunkKind.DENOISE) & Q(start=0, stop=0)),
                name="chunk_steps_iff_denoise",
            ),
            models.UniqueConstraint(
                fields=["image"], condition=Q(state__in=CHUNK_LIVE), name="one_live_chunk_an_image"
            ),
            models.UniqueConstraint(
                fields=["job"], condition=Q(kind=ChunkKind.ENCODE), name="one_encode_chunk_a_job"
            ),
            models.UniqueConstraint(fields=["image", "kind", "start"], name="one_chunk_a_range"),
            models.UniqueConstraint(
                fields=["check_of"],
                condition=Q(state__in=CHUNK_LIVE),
                name="one_live_chunk_a_check",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.start}..{self.stop}" if self.stop else self.kind


class Checkpoint(models.Model):
    """The latent of an image after `step` steps. The newest two of an image are kept."""

    image = models.ForeignKey(Image, models.CASCADE, related_name="checkpoints")
    step = models.PositiveIntegerField()
    latent = models.CharField(max_length=200, help_text="name in the storage")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["image", "step"], name="one_checkpoint_a_step"),
        ]

    def __str__(self) -> str:
        return f"{self.image_id} after step {self.step}"


class Speed(models.Model):
    """Measured seconds of one worker for one kind of chunk: per step, or per encode or decode."""

    worker = models.ForeignKey(Worker, models.CASCADE, related_name="speeds")
    kind = models.CharField(max_length=8, choices=ChunkKind)
    model = models.CharField(max_length=120)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    halves = models.PositiveSmallIntegerField(help_text="2 with guidance, 1 without")
    samples = models.JSONField(default=list, help_text="the newest seconds, oldest first")
    count = models.PositiveIntegerField(default=0)
    seconds = models.FloatField(help_text="median of the samples")
    measured_at = models.DateTimeField(auto_now=True, db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["worker", "kind", "model", "width", "height", "halves"],
                name="one_speed_a_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.width}x{self.height}: {self.seconds:.3f} s"


class Tally(models.Model):
    """Totals that outlive the jobs they counted. One row, id 1."""

    images_done = models.BigIntegerField(default=0)
    steps_done = models.BigIntegerField(default=0)
    jobs_done = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.images_done} images, {self.steps_done} steps"


class Presence(models.Model):
    """How many peers one site process sees in a room. Old rows count for nothing."""

    site = models.CharField(max_length=32, help_text="random id of the site process")
    room_name = models.CharField(max_length=64)
    peers = models.PositiveIntegerField()
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "room_name"], name="one_presence_a_room"),
        ]

    def __str__(self) -> str:
        return f"{self.room_name}: {self.peers}"
