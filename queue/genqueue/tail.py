"""When nearly everything is begun: who should have which image, so that all end early.

Unfinished images are done no sooner than the k longest of them by the k fastest workers, whatever k
is; by always giving the longest to the fastest that is also reached (the level algorithm of
Horvath, Lam and Sethi, 1977). But images move only between chunks, and each time their latent does.
So this says who has to change: nobody, while the k longest leave the k fastest more time than it
would cost them to wait until this worker has done its next chunk.

Knows neither the database nor a clock. Twin of static/js/work/queue/tail.js.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.conf import settings

# What is not worth an image's way, in steps of the fastest worker.
NOT_WORTH_STEPS = 0.2
# What the last image may end later than all could, in steps of the fastest worker.
LATE_STEPS = 0.5
# Images can move this often until all could end, but for the shortest ranges.
RANGES_LEFT = 30
SHORTEST_CHUNKS = 1 / 3
# Nor is it worth leaving an image for one that is not so much longer, for the fastest; in chunks.
LONGER_CHUNKS = 0.5
# In chunks: until another one that is fast enough has asked.
NEXT_CHUNKS = 1.5
# Less is no difference between workers: what is measured of them changes from time to time.
CLEARLY_FASTER = 1.3


class Left(NamedTuple):
    """An unfinished image. seconds: that the fastest worker needs for the rest of it.
    worker: who computes it at this moment."""

    name: Hashable
    seconds: float
    worker: UUID | None


class _Top(NamedTuple):
    """Of the k longest images and the k fastest workers. ends: seconds until these could have done
    those.  apart: the share of them that others compute, or nobody.  speed: of one of the workers,
    on average, where that of the fastest is 1."""

    ends: float
    apart: float
    speed: float


def differ(paces: Iterable[float]) -> bool:
    """Whether any of these workers is clearly faster than another: else nobody is to wait for
    anybody. paces: seconds of a step."""
    seconds = list(paces)
    return min(seconds) * CLEARLY_FASTER < max(seconds)


def _slower(ours: float, theirs: float) -> float:
    """The share of the time that it takes longer."""
    return 1 - ours / theirs if ours * CLEARLY_FASTER < theirs else 0.0


class Tail:
    """paces: seconds of a step, by worker; not empty."""

    def __init__(self, paces: Mapping[UUID, float], images: Iterable[Left]) -> None:
        ordered = sorted(paces.values())
        fastest = ordered[0]
        self._a_step = fastest
        self._slowest = fastest / ordered[-1]
        # 1 is the fastest, and all that are as fast.
        self._ranks = {one: bisect_left(ordered, pace) + 1 for one, pace in paces.items()}
        self._speeds = {one: fastest / pace for one, pace in paces.items()}
        longest = sorted(images, key=lambda image: -image.seconds)
        self._places = {image.name: place for place, image in enumerate(longest, 1)}
        self._seconds = {image.name: image.seconds for image in longest}
        settled = Counter(
            max(place, self._ranks[image.worker])
            for place, image in enumerate(longest, 1)
            if image.worker in self._ranks
        )
        self._tops: list[_Top] = []  # the first is of k = 1
        self._ends = work = speed = 0.0
        well = 0
        for k, image in enumerate(longest, 1):
            work += image.seconds
            if k <= len(ordered):
                speed += fastest / ordered[k - 1]
                well += settled[k]
                self._tops.append(_Top(work / speed, (k - well) / k, speed / k))
            self._ends = max(self._ends, work / speed)

    def seconds(self, image: Hashable) -> float:
        """That the fastest needs for the rest; 0 when it is unknown."""
        return self._seconds.get(image, 0.0)

    def range_seconds(self, worker: UUID) -> float:
        """How long this worker should compute until it asks again: the sooner all could end, the
        shorter, unless it is as fast as all others, who would not take its image."""
        whole = float(settings.CHUNK_SECONDS)
        ours = self._speeds.get(worker)
        if ours is None or not (_slower(ours, 1.0) or _slower(self._slowest, ours)):
            return whole
        return min(whole, max(SHORTEST_CHUNKS * whole, self._ends / RANGES_LEFT))

    def is_too_slow(self, image: Hashable, worker: UUID, seconds: float, *, last: bool) -> bool:
        """Whether all would end later if this worker did the next chunk of the image, because those
        that are faster would have it too late, or because there it ends when all could be done.

        seconds: of that chunk, with the decoding where it is the last.
        """
        if image not in self._places or worker not in self._ranks:
            return False
        ours = self._speeds[worker]
        if last and _slower(ours, 1.0) and seconds > self._ends + LATE_STEPS * self._a_step:
            return True
        limit = self._ends + NOT_WORTH_STEPS * self._a_step
        return any(
            top.ends + seconds * _slower(ours, top.speed) * top.apart > limit
            for top in islice(self._tops, self._places[image] - 1, self._ranks[worker] - 1)
        )

    def is_needed_at(self, worker: UUID, own: Hashable, other: Hashable) -> bool:
        """Whether a worker should leave its own image for a longer one, and the own one to slower
        workers."""
        longer = LONGER_CHUNKS * settings.CHUNK_SECONDS
        if self.seconds(other) <= self.seconds(own) + longer:
            return False
        if own not in self._places or worker not in self._ranks:
            return False
        first = max(self._ranks[worker], self._places[other])
        wait = NEXT_CHUNKS * settings.CHUNK_SECONDS
        return any(
            top.ends + wait * top.apart > self._ends
            for top in islice(self._tops, first - 1, max(first, self._places[own]) - 1)
        )
