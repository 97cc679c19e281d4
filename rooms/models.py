"""Who is in which room now. Rows of a site process that died are forgotten after seconds."""

from typing import ClassVar

from django.db import models
from django.utils import timezone


class Peer(models.Model):
    """One browser tab in a room, as long as its WebSocket lives."""

    id = models.CharField(primary_key=True, max_length=32, help_text="random, one for each socket")
    room_name = models.CharField(max_length=64)
    client = models.CharField(max_length=32, help_text="public label of the client")
    name = models.CharField(
        max_length=40, blank=True, default="", help_text="that they chose; rooms.names"
    )
    worker = models.UUIDField(null=True, blank=True, help_text="of the queue, while it computes")
    status = models.CharField(
        max_length=8, blank=True, help_text="why it computes nothing, as it says itself"
    )
    helps = models.CharField(
        max_length=64, blank=True, default="", help_text="whose picture, while it is `helping`"
    )
    mesh = models.CharField(
        max_length=20, blank=True, default="", help_text="its id among tabs that talk directly"
    )
    site = models.CharField(max_length=32, help_text="random id of the site process")
    joined_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["joined_at", "id"]
        indexes: ClassVar = [
            models.Index(fields=["room_name", "joined_at"], name="rooms_peer_room")
        ]

    def __str__(self) -> str:
        return f"{self.client} in {self.room_name}"
