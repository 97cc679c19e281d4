"""What is remembered of spot checks: see `checks`. Others know these tables from `models`."""

from typing import TYPE_CHECKING, ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from genqueue.kinds import ChunkKind
from genqueue.transitions import CheckState

if TYPE_CHECKING:
    from genqueue.models import Image


class CheckQuerySet(models.QuerySet["Check"]):
    def of_image(self, image: "Image") -> "CheckQuerySet":
        """Of its own chunks, and of the encoding that all images of its job share."""
        return self.filter(Q(image=image) | Q(job=image.job_id, image=None))


class Check(models.Model):
    """What a worker that is not taken on trust hands in for one lease, and what others found.

    From `given` (empty: the noise of the seed, or a prompt) to `result`; of a `denoise` the range
    start..stop. `second` is what a checker made of it who is not taken on trust either and came to
    another result: a third one decides.
    """

    job = models.ForeignKey("Job", models.CASCADE, related_name="checks")
    image = models.ForeignKey("Image", models.CASCADE, null=True, blank=True, related_name="checks")
    chunk = models.ForeignKey(
        "Chunk", models.SET_NULL, null=True, blank=True, related_name="handed_in"
    )
    attempt = models.PositiveIntegerField()
    kind = models.CharField(max_length=8, choices=ChunkKind)
    start = models.PositiveIntegerField(default=0)
    stop = models.PositiveIntegerField(default=0)
    given = models.CharField(max_length=200, blank=True, help_text="name in the storage")
    result = models.CharField(max_length=200, blank=True, help_text="name in the storage")
    second = models.CharField(max_length=200, blank=True, help_text="name in the storage")
    state = models.CharField(max_length=8, choices=CheckState, default=CheckState.HELD)
    worker = models.ForeignKey(
        "Worker", models.SET_NULL, null=True, blank=True, related_name="handed_in",
        help_text="whose result it is",
    )  # fmt: skip
    client = models.CharField(max_length=32, help_text="client id of whose result it is")
    variant = models.CharField(max_length=48, blank=True)
    checker = models.ForeignKey(
        "Worker", models.SET_NULL, null=True, blank=True, related_name="checked",
        help_text="who computed it again, last",
    )  # fmt: skip
    opinions = models.PositiveIntegerField(
        default=0, help_text="results of untrusted checkers so far, none of which decided it"
    )
    second_client = models.CharField(max_length=32, blank=True)
    second_worker = models.ForeignKey(
        "Worker", models.SET_NULL, null=True, blank=True, related_name="disputed"
    )
    second_variant = models.CharField(max_length=48, blank=True)
    distance = models.FloatField(
        null=True, blank=True, help_text="between both results, as `diffusion.likeness` measures it"
    )
    limit = models.FloatField(null=True, blank=True, help_text="the largest that is alike")
    created_at = models.DateTimeField(default=timezone.now)
    settled_at = models.DateTimeField(null=True, blank=True)

    objects = CheckQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [
            models.Index(fields=["state", "created_at"], name="queue_check_state"),
            models.Index(fields=["client", "state"], name="queue_check_client"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=CheckState.values), name="check_state_is_known"
            ),
            models.CheckConstraint(condition=~Q(client=""), name="check_is_of_somebody"),
            models.CheckConstraint(
                condition=~Q(state=CheckState.OPEN) | ~Q(result=""), name="check_open_has_result"
            ),
            models.UniqueConstraint(fields=["chunk", "attempt"], name="one_check_a_lease"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.start}..{self.stop}" if self.stop else self.kind


class ShutOut(models.Model):
    """Somebody whose result was found wrong: computes no more in this room."""

    room = models.ForeignKey("Room", models.CASCADE, related_name="shut_out")
    label = models.CharField(max_length=10, help_text="public name of the client")
    network = models.CharField(max_length=32, blank=True, help_text="hash of where it came from")
    name = models.CharField(max_length=120, help_text="of the worker, as people saw it")
    kind = models.CharField(max_length=8, choices=ChunkKind, help_text="what was wrong")
    start = models.PositiveIntegerField(default=0)
    stop = models.PositiveIntegerField(default=0)
    distance = models.FloatField()
    limit = models.FloatField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["room", "label"], name="shut_out_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} from {self.room_id}"
