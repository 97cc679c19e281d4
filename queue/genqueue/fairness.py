"""Who is next, and when: positions and expected times.

Order: the room served least recently, in it the client served least recently, then that client's
jobs in order, then the images of a job in order.
"""

from dataclasses import dataclass
from uuid import UUID

from genqueue.models import Job
from genqueue.transitions import JobState


@dataclass(frozen=True, slots=True)
class Forecast:
    """position: 1 is the next job to start, None once it runs. eta_seconds: until the job's last
    image is done, from now; None while the speed is not known, or nobody may work on it."""

    position: int | None
    eta_seconds: float | None


def forecast() -> dict[UUID, Forecast]:
    """What is expected of every unfinished job."""
    queued = Job.objects.filter(state=JobState.QUEUED).values_list("pk", flat=True)
    return {pk: Forecast(number, None) for number, pk in enumerate(queued, 1)}
