"""How much goes into one submit: what takes a device a tenth of a second, by its own measure.

While a submit runs, a GPU draws no window and serves no other program; Windows takes it away after
two seconds. Dispatches of a kind that nobody has measured yet are submitted alone and timed,
beginning with a small part of their workgroups, so that even a very long one is never submitted
whole. From then on dispatches go together as long as their times allow, and those that are too long
alone go in parts. static/js/engine/pace.js does the same.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

LONGEST_SUBMIT_SECONDS: Final = 0.1
_REMEMBERED: Final = 4096
_PROBES: Final = 32  # of a dispatch of unknown length this part is tried first

Groups = tuple[int, int, int]  # workgroups in x, y, z


@dataclass(frozen=True)
class Task:
    """A dispatch. Those of one kind take the same time."""

    kind: Hashable
    groups: Groups


@dataclass(frozen=True)
class Part:
    """Workgroups of a dispatch: `groups` of them from `first` on. number: of its task."""

    number: int
    first: Groups
    groups: Groups


Submit = Callable[[Sequence[Part]], None]


def parts(number: int, groups: Groups, wanted: int) -> Iterator[Part]:
    """A dispatch in at least `wanted` nearly equal parts, as far as it has so many workgroups."""
    yield from _cut(Part(number, (0, 0, 0), groups), wanted)


def _cut(part: Part, wanted: int) -> Iterator[Part]:
    axis = _longest_axis(part.groups)
    count = part.groups[axis]
    slabs = min(wanted, count)
    if slabs <= 1:
        yield part
        return
    for slab in range(slabs):
        start, stop = count * slab // slabs, count * (slab + 1) // slabs
        yield from _cut(_slab(part, axis, start, stop), -(-wanted // slabs))


def _longest_axis(groups: Groups) -> int:
    return groups.index(max(groups))


def _slab(part: Part, axis: int, start: int, stop: int) -> Part:
    first, groups = list(part.first), list(part.groups)
    first[axis] += start
    groups[axis] = stop - start
    return Part(part.number, (first[0], first[1], first[2]), (groups[0], groups[1], groups[2]))


class Pace:
    """Of one device; `longest` in seconds. Infinite: everything at once, nothing is measured."""

    def __init__(self, longest: float = LONGEST_SUBMIT_SECONDS) -> None:
        self._longest = longest
        self._seconds: OrderedDict[Hashable, float] = OrderedDict()  # by kind

    def run(self, tasks: Sequence[Task], submit: Submit, wait: Callable[[], None]) -> None:
        """Submit all tasks in order. wait: returns when all that was submitted is done."""
        together: list[Part] = []
        total = 0.0
        for number, task in enumerate(tasks):
            seconds = self._known(task)
            if seconds is None:
                if together:
                    submit(together)
                    together, total = [], 0.0
                self._remember(task, self._measured(number, task.groups, submit, wait))
                continue
            cut = list(parts(number, task.groups, math.ceil(seconds / self._longest)))
            for part in cut:
                if together and total + seconds / len(cut) > self._longest:
                    submit(together)
                    together, total = [], 0.0
                together.append(part)
                total += seconds / len(cut)
        if together:
            submit(together)

    def _known(self, task: Task) -> float | None:
        if math.isinf(self._longest):
            return 0.0
        if task.kind in self._seconds:
            self._seconds.move_to_end(task.kind)
        return self._seconds.get(task.kind)

    def _remember(self, task: Task, seconds: float) -> None:
        self._seconds[task.kind] = seconds
        if len(self._seconds) > _REMEMBERED:
            self._seconds.popitem(last=False)

    def _measured(
        self, number: int, groups: Groups, submit: Submit, wait: Callable[[], None]
    ) -> float:
        """Submit a dispatch in slabs, each as long as the one before it lets expect to be short;
        the seconds of all. What the first of several takes is not counted: drivers finish pipelines
        when these first run."""
        whole = Part(number, (0, 0, 0), groups)
        axis = _longest_axis(groups)
        count = groups[axis]
        done, slab = 0, -(-count // _PROBES)
        counted, seconds = 0, 0.0
        wait()  # what was submitted before, and the values that were written
        while done < count:
            stop = min(done + slab, count)
            began = perf_counter()
            submit([_slab(whole, axis, done, stop)])
            wait()
            took = perf_counter() - began
            if done > 0 or stop == count:
                counted += stop - done
                seconds += took
            slab = max(int(self._longest / (took / (stop - done))), 1)
            done = stop
        return seconds / counted * count
