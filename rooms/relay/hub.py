"""Who listens to what: topics and subscriptions of this process, in memory."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rooms.relay.addresses import Addresses
from rooms.relay.events import Event
from rooms.relay.filters import Filter
from rooms.relay.limits import DEFAULT, Limits
from rooms.relay.outbox import Outbox


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """prefix: the beginning of every message of it, up to the event."""

    prefix: str
    filters: Sequence[Filter]
    outbox: Outbox

    @property
    def topics(self) -> set[str]:
        return {topic for filter_ in self.filters for topic in filter_.topics}

    @property
    def values(self) -> int:
        return sum(filter_.values for filter_ in self.filters)


class Hub:
    """pass_on: told of each event that a client of this process published, for other processes.
    now: seconds since the epoch."""

    def __init__(
        self,
        limits: Limits = DEFAULT,
        *,
        pass_on: Callable[[Event], None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self.addresses = Addresses(self.limits)
        self.now = now
        self.pass_on = pass_on
        self._listening: dict[str, set[Subscription]] = {}  # by topic; empty ones go
        self._known: OrderedDict[str, float] = OrderedDict()  # ids and when they came, in order

    def subscribe(self, subscription: Subscription) -> None:
        for topic in subscription.topics:
            self._listening.setdefault(topic, set()).add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        for topic in subscription.topics:
            listeners = self._listening[topic]
            listeners.discard(subscription)
            if not listeners:
                del self._listening[topic]

    def knows(self, event_id: str) -> bool:
        return event_id in self._known

    def publish(self, event: Event) -> int:
        """A verified event of a client of this process. Returns to how many here it went."""
        count = self.deliver(event)
        if self.pass_on is not None:
            self.pass_on(event)
        return count

    def deliver(self, event: Event) -> int:
        """To those who listen in this process; to nobody if it was here before."""
        if self.knows(event.id):
            return 0
        self._remember(event.id)
        found = {
            subscription
            for topic in event.topics
            for subscription in self._listening.get(topic, ())
        }
        slack = self.limits.clock_seconds
        count = 0
        for subscription in found:
            if any(filter_.matches(event, slack) for filter_ in subscription.filters):
                subscription.outbox.put(f"{subscription.prefix}{event.text}]")
                count += 1
        return count

    def _remember(self, event_id: str) -> None:
        """For as long as created_at lets it be published once more."""
        now = time.monotonic()
        self._known[event_id] = now
        stale = now - 2 * self.limits.clock_seconds
        while len(self._known) > self.limits.remembered_ids or (
            next(iter(self._known.values())) < stale
        ):
            self._known.popitem(last=False)
