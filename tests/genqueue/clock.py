"""Plays workers of given speeds in simulated time, through the real protocol.

Who asks first when several are woken at one moment is drawn by lot, as in life. Messages take no
time. Besides those, idle workers are woken every SWEEP_SECONDS.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from uuid import UUID

from django.conf import settings as site

from genqueue import protocol
from genqueue.models import Job, Worker
from genqueue.protocol import Lease
from genqueue.transitions import JOB_ENDED
from tests.genqueue.conftest import Hand, seconds_of


class Clock:
    """factors: how slow each hand is. noise: how much single chunks differ from that, 0.1 is 10 %.
    ended: when each job ended, in seconds since the clock was made."""

    def __init__(self, factors: Mapping[Hand, float], seed: int = 0, noise: float = 0.0) -> None:
        self.factors = dict(factors)
        self.noise = noise
        self.now = 0.0
        self.ended: dict[UUID, float] = {}
        self._began = datetime.now(UTC)
        self._lots = random.Random(seed)
        self._busy: dict[Hand, tuple[float, float, Lease]] = {}  # end, seconds, lease

    @contextmanager
    def running(self) -> Iterator["Clock"]:
        """Meanwhile all of Django sees this clock."""
        clock = self

        class Simulated(datetime):
            @classmethod
            def now(cls, tz=None):
                return clock._began + timedelta(seconds=clock.now)

        with patch("django.utils.timezone.datetime", Simulated):
            yield self

    def run(self, until: float = float("inf")) -> None:
        """Go on until then, or until nobody has anything to do."""
        while True:
            self._ask()
            if not self._busy:
                return
            following = min(end for end, _seconds, _lease in self._busy.values())
            if len(self._busy) < len(self.factors):
                sweep = (self.now // site.SWEEP_SECONDS + 1) * site.SWEEP_SECONDS
                following = min(following, sweep)
            if following > until:
                self.now = until
                self._report_steps()
                return
            self.now = following
            self._finish_due()

    def _ask(self) -> None:
        """Until nobody gets anything: who gets something wakes the others."""
        Worker.objects.update(last_seen_at=self._began + timedelta(seconds=self.now))
        given = True
        while given:
            idle = [hand for hand in self.factors if hand not in self._busy]
            self._lots.shuffle(idle)
            given = False
            for hand in idle:
                lease = hand.claim()
                if lease is not None:
                    given = True
                    seconds = self._seconds(lease, self.factors[hand])
                    self._busy[hand] = (self.now + seconds, seconds, lease)

    def _seconds(self, lease: Lease, factor: float) -> float:
        steps = lease.stop - lease.start
        seconds = seconds_of(lease.kind, factor, lease.settings.width, steps)
        return seconds * self._lots.uniform(1 - self.noise, 1 + self.noise)

    def _report_steps(self) -> None:
        """As workers do after every step."""
        for end, seconds, lease in self._busy.values():
            part = 1 - (end - self.now) / seconds
            step = lease.start + int(part * (lease.stop - lease.start))
            if step > lease.start:
                protocol.checkpoint(lease, step)

    def _finish_due(self) -> None:
        due = [hand for hand, (end, _seconds, _lease) in self._busy.items() if end <= self.now]
        self._lots.shuffle(due)
        for hand in due:
            _end, seconds, lease = self._busy.pop(hand)
            hand.finish(lease, seconds)
            if Job.objects.filter(pk=lease.job_id, state__in=JOB_ENDED).exists():
                self.ended[lease.job_id] = self.now
