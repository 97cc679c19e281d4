"""Plays the calls of a history on the database and says what each gave, in the words of
tests/vectors/queue/README.md. tests/js/work/queue/player.js does the same on a RoomQueue.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db.models import Q
from django.test import override_settings

from genqueue import (
    actions,
    checks,
    departure,
    equipment,
    files,
    forecast,
    partners,
    protocol,
    roster,
    shutting_out,
    sweeper,
    tabs,
    timeline,
    timeline_json,
)
from genqueue.check_models import Check, ShutOut
from genqueue.equipment import Equipment
from genqueue.faults import Fault
from genqueue.kinds import ChunkKind, WorkerKind
from genqueue.models import Chunk, Image, Job, Room, Worker
from genqueue.problems import Problem
from genqueue.protocol import Lease, LeaseLostError
from tests.genqueue.conftest import settings_of
from tests.genqueue.volunteers import compare_words

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ROOM = "kitchen"


def id_of(name: str) -> UUID:
    return uuid5(NAMESPACE_URL, name)


class Player:
    """leases: those that were given, by the names that the history gives them."""

    def __init__(self, *, checks: bool = False) -> None:
        self.now = BEGAN
        self.checks = checks
        self.dice = 0.0
        self._beaten_at: datetime | None = None
        self.leases: dict[str, Lease] = {}
        self.jobs: dict[str, UUID] = {}
        self._names: dict[UUID, str] = {}
        self._left: set[UUID] = set()

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Meanwhile all of Django sees the history's time."""
        player = self

        class Told(datetime):
            @classmethod
            def now(cls, tz=None):
                return player.now

        told = patch("django.utils.timezone.datetime", Told)
        dice = patch.object(checks._dice, "random", lambda: player.dice)
        words = patch("genqueue.comparing.compare", compare_words)
        with told, dice, words, override_settings(P2PWEB_SPOT_CHECKS=self.checks):
            yield

    def perform(self, call: dict[str, Any]) -> Any:
        """What it gave, as JSON."""
        if "at" in call:
            self.now = BEGAN + timedelta(milliseconds=round(call["at"] * 1000))
        self._idle_tabs_beat()
        forecast.forget()
        try:
            return getattr(self, f"_{call['call'].replace('-', '_')}")(call)
        except LeaseLostError:
            return "lost"
        except ValueError:
            return "outside"
        except Problem as problem:
            return problem.code

    def _idle_tabs_beat(self) -> None:
        """As their sockets say; of one that computes nothing is known but what it reports."""
        if self._beaten_at == self.now:
            return
        self._beaten_at = self.now
        busy = Chunk.objects.filter(state="leased").values("worker_id")
        Worker.objects.exclude(state="gone").exclude(pk__in=busy).update(last_seen_at=self.now)

    def _id(self, name: str) -> UUID:
        self._names[id_of(name)] = name
        return id_of(name)

    # Who is there

    def _arrive(self, call: dict[str, Any]) -> str:
        room, _new = Room.objects.get_or_create(pk=ROOM)
        trusted = call.get("trusted", False)
        whose = {"kind": WorkerKind.CELERY, "room": None} if trusted else {
            "kind": WorkerKind.TAB, "room": room, "client": call["worker"],
        }  # fmt: skip
        row, _new = Worker.objects.update_or_create(
            pk=self._id(call["worker"]),
            defaults={
                **whose, "name": call["worker"], "device": "gpu", "started_at": self.now,
                "model_names": call.get("models", ["tiny"]), "last_seen_at": self.now,
                "own_first": call.get("own_first", False),
            },
        )  # fmt: skip
        if row.state != "ready":
            roster.set_state(row.pk, row.state, "ready")
        self._left.discard(row.pk)
        departure.give_back(row.pk, None, "")
        return "ok"

    def _equip(self, call: dict[str, Any]) -> str:
        said = Equipment("gpu", software=False, kernels=call["kernels"], stores=call["stores"])
        equipment.record(id_of(call["worker"]), said)
        return "ok"

    def _leave(self, call: dict[str, Any]) -> str:
        departure.worker_is_gone(id_of(call["worker"]), crashed=call.get("crashed", False))
        self._left.add(id_of(call["worker"]))
        return "ok"

    def _heard(self, worker: UUID) -> None:
        """A tab that was taken for gone because it was silent is ready again (`tabs.stand`)."""
        ready = Worker.objects.filter(pk=worker, state="ready")
        if ready.update(last_seen_at=self.now):
            return
        shut_out = ShutOut.objects.filter(name__in=Worker.objects.filter(pk=worker).values("name"))
        gone = Worker.objects.filter(pk=worker, state="gone").exists()
        if gone and worker not in self._left and not shut_out.exists():
            roster.set_state(worker, "gone", "ready")
            ready.update(last_seen_at=self.now)

    # What people do

    def _submit(self, call: dict[str, Any]) -> str:
        wanted = settings_of(
            prompt="a rocket", model=call.get("model", "tiny"), steps=call.get("steps", 8),
            num_images=call.get("images", 1), seed=call.get("seed", 7),
            width=call.get("side", 64), height=call.get("side", 64),
        )  # fmt: skip
        job, _token = actions.submit_job(ROOM, call["by"], wanted)
        self.jobs[call["job"]] = job.pk
        self._names[job.pk] = call["job"]
        return "ok"

    def _job(self, call: dict[str, Any]) -> Job | None:
        return Job.objects.filter(pk=self.jobs[call["job"]]).first()

    def _cancel(self, call: dict[str, Any]) -> bool:
        job = self._job(call)
        return job is not None and actions.cancel_job(job)

    def _remove(self, call: dict[str, Any]) -> bool:
        image = Image.objects.filter(job=self.jobs[call["job"]], index=call["image"]).first()
        if image is None:
            return False
        actions.delete_image(image)
        return True

    def _dismiss(self, call: dict[str, Any]) -> bool:
        """As `rooms.actions.dismiss`."""
        job = self._job(call)
        if job is None or job.state != "failed":
            return False
        failed = list(job.images.exclude(state="done"))
        for image in failed:
            actions.delete_image(image)
        return bool(failed)

    def _pause(self, call: dict[str, Any]) -> str:
        actions.pause_room(Room.objects.get_or_create(pk=ROOM)[0], call["paused"])
        return "ok"

    # What workers do

    def _claim(self, call: dict[str, Any]) -> str | None:
        worker = id_of(call["worker"])
        self._heard(worker)
        if "own_first" in call:
            tabs.put_own_first(worker, call["own_first"])
        lease = protocol.claim(worker)
        if lease is None:
            return None
        self.leases[call["as"]] = lease
        picture = self._names[lease.job_id]
        if lease.index is not None:
            picture += f"/{lease.index}"
        steps = f" {lease.start}..{lease.stop}" if lease.kind == ChunkKind.DENOISE else ""
        again = "check " if lease.check_id is not None else ""
        parts = [f"{again}{lease.kind.value} {picture}{steps}, attempt {lease.attempt}"]
        if lease.kind == ChunkKind.DENOISE:
            parts.append(f"with {files.read(lease.conditioning).decode()}")
        if lease.latent is not None:
            parts.append(f"from {files.read(lease.latent).decode()}")
        return ", ".join(parts)

    def _lease(self, call: dict[str, Any]) -> Lease:
        """As it was given, or as somebody lies about it."""
        held = self.leases[call["lease"]]
        worker = id_of(call["worker"]) if "worker" in call else held.worker_id
        return replace(held, attempt=call.get("attempt", held.attempt), worker_id=worker)

    def _renew(self, call: dict[str, Any]) -> str:
        lease = self._lease(call)
        protocol.renew(lease)
        self._heard(lease.worker_id)
        return "ok"

    def _step(self, call: dict[str, Any]) -> str:
        lease = self._lease(call)
        latent = call["latent"].encode() if "latent" in call else None
        preview = b"preview" if call.get("preview") else None
        protocol.checkpoint(lease, call["step"], latent, preview)
        self._heard(lease.worker_id)
        return "ok"

    def _complete(self, call: dict[str, Any]) -> str:
        lease = self._lease(call)
        result = call.get("result", call["lease"]).encode()
        said = [{**one, "worker": str(id_of(one["worker"]))} for one in call.get("partners", [])]
        helped = partners.read(said, lease.kind, lease.stop - lease.start)
        protocol.complete(lease, result, call.get("seconds", 0), helped=helped)
        self._heard(lease.worker_id)
        return "ok"

    def _fail(self, call: dict[str, Any]) -> str:
        lease = self._lease(call)
        lost = ""
        if "lost" in call:
            names = [name for name in (lease.conditioning, lease.latent) if name]
            [lost] = [name for name in names if files.read(name).decode() == call["lost"]]
        protocol.fail(lease, Fault(call.get("fault", "computation-failed")), lost=lost)
        self._heard(lease.worker_id)
        return "ok"

    def _release(self, call: dict[str, Any]) -> str:
        lease = self._lease(call)
        protocol.release(lease)
        self._heard(lease.worker_id)
        return "ok"

    def _sweep(self, call: dict[str, Any]) -> int:
        return sweeper.sweep().leases

    def _dice(self, call: dict[str, Any]) -> str:
        self.dice = call["fall"]
        return "ok"

    def _checks(self, call: dict[str, Any]) -> list[str]:
        """Of what is still to be known."""
        found = Check.objects.filter(state__in=["held", "open", "spared"])
        done = Q(state="spared") & (Q(image__state="done") | Q(image=None, job__state="done"))
        told = []
        for row in found.exclude(done).select_related("worker"):
            steps = f" {row.start}..{row.stop}" if row.kind == ChunkKind.DENOISE else ""
            exactly = f", {row.variant}" if row.variant else ""
            told.append(f"{row.kind}{steps} by {row.worker.name} {row.state}{exactly}")
        return sorted(told)

    # What everybody sees

    def _shut_out(self, call: dict[str, Any]) -> list[str]:
        return [one["name"] for one in shutting_out.shut_out_of(Room.objects.get(pk=ROOM))]

    def _look(self, call: dict[str, Any]) -> dict[str, Any] | None:
        job = self._job(call)
        if job is None:
            return None
        images = []
        for image in job.images.select_related("worker").order_by("index"):
            parts = [f"{image.index}: {image.state} {image.step}/{job.steps}"]
            if image.worker is not None:
                parts.append(f"at {image.worker.name}")
            if image.picture and image.state == "done":
                parts.append(f"is {files.read(image.picture).decode()}")
            if image.preview_step is not None and image.state == "running":
                parts.append("with a preview")
            if image.doubt:
                parts.append(image.doubt)
            images.append(", ".join(parts))
        error = job.error_code if job.state == "failed" else None
        return {"state": job.state, "error": error, "images": images}

    def _timeline(self, call: dict[str, Any]) -> list[str]:
        image = Image.objects.get(job=self.jobs[call["job"]], index=call["image"])
        said = []
        for one in timeline_json.as_json(image)["entries"]:
            steps = f" {one['start']}..{one['stop']}" if one["kind"] == "denoise" else ""
            after = (datetime.fromisoformat(one["began_at"]) - BEGAN).total_seconds()
            parts = [f"{one['kind']}{steps} {one['outcome']} by {one['worker']['name']}"]
            parts.append(f"after {after:g} s")
            if one["chunks"] > 1:
                parts.append(f"{one['chunks']} chunks")
            if one["attempt"]:
                parts.append(f"attempt {one['attempt']}")
            if one["fault"]:
                parts.append(one["fault"]["code"])
            parts += map(self._partner, one["partners"])
            said.append(", ".join(parts))
        return [*said, *map(self._found, timeline_json.as_json(image)["checks"])]

    def _steps_by(self, call: dict[str, Any]) -> dict[str, float]:
        image = Image.objects.get(job=self.jobs[call["job"]], index=call["image"])
        by = timeline.steps_by(timeline.entries_of(image.timeline))
        return {self._names[UUID(worker)]: steps for worker, steps in by.items()}

    def _partner(self, one: Any) -> str:
        of = f" of {one['steps']} steps" if one["steps"] else ""
        moved = f"{one['received']}/{one['sent']} bytes"
        return f"{one['how']} by {one['worker']['name']}{of} {moved}"

    def _found(self, one: Any) -> str:
        steps = f" {one['start']}..{one['stop']}" if one["kind"] == "denoise" else ""
        parts = [f"check of {one['kind']}{steps} by {one['worker']['name']}: {one['verdict']}"]
        if one["checker"]:
            parts.append(f"by {one['checker']['name']}")
        if one["distance"] is not None:
            parts.append(f"{one['distance']:g} of {one['limit']:g}")
        if one["done_again"]:
            parts.append("done again")
        if one["at"]:
            after = (datetime.fromisoformat(one["at"]) - BEGAN).total_seconds()
            parts.append(f"after {after:g} s")
        if one["checks"] > 1:
            parts.append(f"{one['checks']} checks")
        return ", ".join(parts)

    def _positions(self, call: dict[str, Any]) -> dict[str, int]:
        unfinished = {job.pk for job in Job.objects.unfinished().filter(state="queued")}
        expected = forecast.forecast(unfinished) if unfinished else {}
        places = {self._names[pk]: expected[pk].position for pk in unfinished}
        return {name: place for name, place in places.items() if place is not None}


def play(
    calls: list[dict[str, Any]], *, checks: bool = False
) -> tuple[int, dict[str, Any], Any] | None:
    """The first call that gave something else than it should, with its number and what it gave."""
    player = Player(checks=checks)
    with player.clock():
        for number, call in enumerate(calls):
            gave = player.perform(call)
            if gave != call.get("gives", "ok"):
                return number, call, gave
    return None
