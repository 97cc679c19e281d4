"""The Django admin of the queue. States are shown, never edited: actions move them."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString

from genqueue import actions, statistics
from genqueue import timeline_json as timelines
from genqueue.check_models import Check, ShutOut
from genqueue.clients import client_label
from genqueue.models import Chunk, Image, Job, Room, Worker
from genqueue.problems import Problem
from genqueue.transitions import IMAGE_ENDED, JOB_ENDED, ChunkState, JobState


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows are looked at; what may be changed is said by `editable`."""

    editable: tuple[str, ...] = ()
    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # rows own files and hold leases: the actions know how to remove them

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [f.name for f in self.model._meta.fields if f.name not in self.editable]


class ImageInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Image
    fields = ("index", "seed", "state", "step", "worker", "seconds")
    readonly_fields = fields
    can_delete = False
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(ReadOnly):
    list_display = (
        "__str__", "room", "who", "state", "progress", "size", "steps", "waited", "ran",
        "created_at", "error_code",
    )  # fmt: skip
    list_filter = ("state", "model", "created_at")
    search_fields = ("prompt", "room__id", "id", "error_detail")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    inlines = (ImageInline,)
    actions = ("cancel", "requeue", "clear_finished")
    exclude = ("client", "token_hash")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return Job.objects.select_related("room").counting_pictures()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [n for n in super().get_readonly_fields(request, obj) if n not in self.exclude]

    @admin.display(description="client")
    def who(self, job: Job) -> str:
        return client_label(job.client)

    @admin.display(description="images done")
    def progress(self, job: Job) -> str:
        return f"{job.pictures} of {job.num_images}"  # type: ignore[attr-defined]

    @admin.display
    def size(self, job: Job) -> str:
        return f"{job.width} × {job.height}"

    @admin.display(description="waited, s")
    def waited(self, job: Job) -> str:
        end = job.started_at or job.finished_at or timezone.now()
        return f"{(end - job.created_at).total_seconds():.1f}"

    @admin.display(description="ran, s")
    def ran(self, job: Job) -> str:
        if job.started_at is None:
            return ""
        end = job.finished_at or timezone.now()
        return f"{(end - job.started_at).total_seconds():.1f}"

    @admin.action(description="Cancel the selected jobs", permissions=["change"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        number = sum(actions.cancel_job(job) for job in jobs)
        self.message_user(request, f"Cancelled {number} of {len(jobs)} jobs; the others had ended.")

    @admin.action(description="Requeue the selected jobs", permissions=["change"])
    def requeue(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        for job in jobs:
            actions.requeue_job(job)
        self.message_user(
            request,
            f"Requeued {len(jobs)} jobs: ended ones as new jobs, running ones from their"
            " checkpoints.",
        )

    @admin.action(description="Clear finished jobs among the selected", permissions=["change"])
    def clear_finished(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        ended = list(jobs.filter(state__in=JOB_ENDED))
        for job in ended:
            actions.delete_job(job)
        self.message_user(request, _removed(len(ended)))


@admin.register(Image)
class ImageAdmin(ReadOnly):
    list_display = ("__str__", "prompt", "state", "progress", "seed", "worker", "seconds")
    list_filter = ("state", "worker")
    search_fields = ("job__prompt", "job__room__id", "job__id")
    list_select_related = ("job", "worker")
    ordering = ("-pk",)  # as they were made, and the index of that is there
    actions = ("remove",)
    exclude = ("timeline",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        shown = [n for n in super().get_readonly_fields(request, obj) if n not in self.exclude]
        return [*shown, "who_did_what"]

    @admin.display(description="who did what")
    def who_did_what(self, image: Image) -> SafeString:
        """Every lease of it; chunks, with their errors, are forgotten before."""
        return render_to_string("admin/queue/timeline.html", timelines.as_json(image))

    @admin.display
    def prompt(self, image: Image) -> str:
        return image.job.prompt[:60]

    @admin.display(description="steps")
    def progress(self, image: Image) -> str:
        return f"{image.step} of {image.job.steps}"

    @admin.action(description="Remove the selected pictures", permissions=["change"])
    def remove(self, request: HttpRequest, images: QuerySet[Image]) -> None:
        removed = 0
        for image in images.filter(state__in=IMAGE_ENDED):
            try:
                actions.delete_image(image)
            except Problem as problem:
                self.message_user(request, problem.detail, messages.WARNING)
            else:
                removed += 1
        self.message_user(request, f"Removed {removed} pictures.")


@admin.register(Chunk)
class ChunkAdmin(ReadOnly):
    list_display = (
        "id", "__str__", "job", "image", "state", "worker", "device", "kernels", "leased_at",
        "finished_at", "seconds", "attempt", "faults", "deadline",
    )  # fmt: skip
    list_filter = ("state", "kind", "worker")
    search_fields = ("job__prompt", "job__id", "error")
    list_select_related = ("job", "image", "worker")
    ordering = ("-id",)

    @admin.display
    def device(self, chunk: Chunk) -> str:
        return chunk.worker.device if chunk.worker else ""


@admin.register(Check)
class CheckAdmin(ReadOnly):
    """What tabs and helpers have handed in, and what others found of it."""

    list_display = (
        "id", "__str__", "job", "image", "state", "worker", "variant", "checker", "distance",
        "limit", "opinions", "created_at", "settled_at",
    )  # fmt: skip
    list_filter = ("state", "kind")
    search_fields = ("job__prompt", "job__id", "worker__name")
    list_select_related = ("job", "image", "worker", "checker")
    ordering = ("-id",)
    exclude = ("client", "second_client")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [n for n in super().get_readonly_fields(request, obj) if n not in self.exclude]


@admin.register(ShutOut)
class ShutOutAdmin(ReadOnly):
    """Who computes no more in which room. Removing a row lets them in again."""

    list_display = ("name", "room", "label", "kind", "start", "stop", "distance", "limit",
                    "created_at")  # fmt: skip
    list_filter = ("kind",)
    search_fields = ("name", "room__id", "label")
    ordering = ("-created_at",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)


@admin.register(Worker)
class WorkerAdmin(ReadOnly):
    list_display = (
        "name", "kind", "state", "device", "variant", "kernels", "software", "lacks", "own_first",
        "room", "chunks_done", "steps_done", "valid", "last_seen_at",
    )  # fmt: skip
    list_filter = ("state", "kind", "software", "own_first")
    search_fields = ("name", "device", "host")
    list_select_related = ("room",)
    ordering = ("-last_seen_at",)
    exclude = ("client", "token_hash")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [n for n in super().get_readonly_fields(request, obj) if n not in self.exclude]


@admin.register(Room)
class RoomAdmin(ReadOnly):
    list_display = (
        "id", "title", "listed", "paused", "server_helps", "tabs_help", "waiting", "running",
        "created_at",
    )  # fmt: skip
    list_filter = ("paused", "listed", "server_helps", "tabs_help")
    search_fields = ("id", "title")
    ordering = ("-created_at",)
    editable = ("title", "listed")
    exclude = ("owner",)
    actions = ("pause", "resume", "clear_finished")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Room]:
        return Room.objects.counting_jobs(
            number_waiting=[JobState.QUEUED], number_running=[JobState.RUNNING]
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [n for n in super().get_readonly_fields(request, obj) if n not in self.exclude]

    @admin.display(ordering="number_waiting")
    def waiting(self, room: Room) -> int:
        return room.number_waiting  # type: ignore[attr-defined,no-any-return]

    @admin.display(ordering="number_running")
    def running(self, room: Room) -> int:
        return room.number_running  # type: ignore[attr-defined,no-any-return]

    @admin.action(description="Pause the queue of the selected rooms", permissions=["change"])
    def pause(self, request: HttpRequest, rooms: QuerySet[Room]) -> None:
        for room in rooms:
            actions.pause_room(room, True)

    @admin.action(description="Resume the queue of the selected rooms", permissions=["change"])
    def resume(self, request: HttpRequest, rooms: QuerySet[Room]) -> None:
        for room in rooms:
            actions.pause_room(room, False)

    @admin.action(description="Clear finished jobs of the selected rooms", permissions=["change"])
    def clear_finished(self, request: HttpRequest, rooms: QuerySet[Room]) -> None:
        self.message_user(request, _removed(sum(actions.clear_finished(r.pk) for r in rooms)))


def _removed(jobs: int) -> str:
    return (
        "Removed 1 job with its pictures."
        if jobs == 1
        else (f"Removed {jobs} jobs with their pictures.")
    )


def monitor(request: HttpRequest) -> HttpResponse:
    """What the queue does now: counts, waiting times, workers and their chunks. Reloads itself."""
    leased = Chunk.objects.filter(state=ChunkState.LEASED).select_related("job", "image", "worker")
    context = {
        **admin.site.each_context(request),
        "title": "Queue monitor",
        "stats": statistics.snapshot(),
        "workers": Worker.objects.online().order_by("name"),
        "leased": leased.order_by("leased_at"),
        "oldest": Job.objects.unfinished().filter(state=JobState.QUEUED).first(),
        "now": timezone.now(),
    }
    return TemplateResponse(request, "admin/queue/monitor.html", context, headers={"Refresh": "2"})


def _with_monitor(urls: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
    def all_urls() -> list[Any]:
        own: list[URLPattern] = [
            path("queue/monitor/", admin.site.admin_view(monitor), name="queue_monitor")
        ]
        return own + urls()

    return all_urls


admin.site.get_urls = _with_monitor(admin.site.get_urls)  # type: ignore[method-assign]
admin.site.site_header = admin.site.site_title = "p2pweb"
admin.site.index_template = "admin/queue/index.html"
