"""Filters: what somebody listens to.

Nothing is stored, so a filter only ever meets events that are published after it. It must name its
topics (`#x`): whoever knows no topic of a room hears nothing of it.
"""

from dataclasses import dataclass
from typing import Any

from rooms.relay.events import TOPIC, Event
from rooms.relay.limits import Limits

_TOPICS = f"#{TOPIC}"


class FilterError(Exception):
    """The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What is None asks for nothing in particular. since, until: in seconds since the epoch."""

    topics: frozenset[str]
    kinds: frozenset[int] | None = None
    ids: frozenset[str] | None = None
    authors: frozenset[str] | None = None
    since: int | None = None
    until: int | None = None

    @property
    def values(self) -> int:
        """How many there are to be kept."""
        return sum(len(some or ()) for some in (self.topics, self.kinds, self.ids, self.authors))

    def matches(self, event: Event, clock_seconds: int) -> bool:
        """clock_seconds: how far each clock may be off. Publisher and listener may differ by twice
        that, so `since` and `until`, which mean "from now on" here, are no stricter."""
        slack = 2 * clock_seconds
        return (
            not self.topics.isdisjoint(event.topics)
            and (self.kinds is None or event.kind in self.kinds)
            and (self.ids is None or event.id in self.ids)
            and (self.authors is None or event.pubkey in self.authors)
            and (self.since is None or event.created_at >= self.since - slack)
            and (self.until is None or event.created_at <= self.until + slack)
        )


def read_filter(value: object, limits: Limits) -> Filter:
    """Raises FilterError. `limit` is about stored events, of which there are none."""
    if not isinstance(value, dict):
        raise FilterError("a filter is a JSON object")
    unknown = value.keys() - {_TOPICS, "kinds", "ids", "authors", "since", "until", "limit"}
    if unknown:
        raise FilterError(f"filters by {min(unknown)[:32]} are not supported")
    if _TOPICS not in value:
        raise FilterError(f"a filter must name its topics ({_TOPICS})")
    for name in ("since", "until", "limit"):
        if name in value and not _is_whole(value[name]):
            raise FilterError(f"{name} must be a whole number")
    return Filter(
        topics=_values(value, _TOPICS, limits, str) or frozenset(),
        kinds=_values(value, "kinds", limits, int),
        ids=_values(value, "ids", limits, str),
        authors=_values(value, "authors", limits, str),
        since=value.get("since"),
        until=value.get("until"),
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _values(
    given: dict[str, Any], name: str, limits: Limits, kind: type[str] | type[int]
) -> frozenset[Any] | None:
    if name not in given:
        return None
    values = given[name]
    if not isinstance(values, list) or not all(type(entry) is kind for entry in values):
        raise FilterError(f"{name} must be a list of {kind.__name__}")
    if len(values) > limits.filter_values:
        raise FilterError(f"{name} may have at most {limits.filter_values} values")
    if kind is str and any(len(entry) > limits.tag_characters for entry in values):
        raise FilterError(f"a value of {name} has at most {limits.tag_characters} characters")
    return frozenset(values)
