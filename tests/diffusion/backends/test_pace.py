"""How dispatches are cut into submits."""

import time
from collections.abc import Sequence
from itertools import product

import pytest

from diffusion.backends.wgpu_pace import Groups, Pace, Part, Task, parts


class SlowDevice:
    """Computes by sleeping: `seconds` for each workgroup of a kind."""

    def __init__(self, tasks: Sequence[Task], seconds: dict[str, float]) -> None:
        self.tasks = tasks
        self.submits: list[list[Part]] = []
        self._seconds = seconds
        self._waiting = 0.0

    def submit(self, together: Sequence[Part]) -> None:
        self.submits.append(list(together))
        for part in together:
            x, y, z = part.groups
            self._waiting += x * y * z * self._seconds[str(self.tasks[part.number].kind)]

    def wait(self) -> None:
        time.sleep(self._waiting)
        self._waiting = 0.0

    def done(self) -> list[tuple[int, Groups]]:
        """Every workgroup that was computed, in order."""
        return [
            (part.number, (x, y, z))
            for together in self.submits
            for part in together
            for x, y, z in product(
                *(range(a, a + n) for a, n in zip(part.first, part.groups, strict=True))
            )
        ]

    def run(self, pace: Pace) -> list[list[int]]:
        """The numbers of the tasks in each submit; all was computed once and in order."""
        self.submits.clear()
        pace.run(self.tasks, self.submit, self.wait)
        wanted = [
            (number, place)
            for number, task in enumerate(self.tasks)
            for place in product(*map(range, task.groups))
        ]
        assert sorted(self.done()) == wanted
        numbers = [number for number, _ in self.done()]
        assert numbers == sorted(numbers)
        return [[part.number for part in together] for together in self.submits]


@pytest.mark.parametrize("groups", [(1, 1, 1), (7, 1, 1), (5, 28, 2), (3, 3, 3), (2, 1, 9)])
@pytest.mark.parametrize("wanted", [0, 1, 2, 5, 30, 1000])
def test_parts_are_all_of_a_dispatch_once(groups: Groups, wanted: int) -> None:
    cut = list(parts(3, groups, wanted))
    device = SlowDevice([], {})
    device.submits.append(cut)
    assert sorted(place for _, place in device.done()) == list(product(*map(range, groups)))
    most = groups[0] * groups[1] * groups[2]
    assert min(wanted, most) <= len(cut) <= max(1, 2 * wanted)
    assert all(part.number == 3 for part in cut)


def test_work_is_measured_once_and_then_goes_together() -> None:
    tasks = [Task("long", (3, 1, 1)), Task("short", (1, 1, 1)), Task("short", (1, 1, 1))]
    device = SlowDevice(tasks, {"long": 0.01, "short": 0.001})
    pace = Pace(longest=0.05)
    # The first workgroup, then the others; what is of a kind that was measured waits for nothing
    assert device.run(pace) == [[0], [0], [1], [2]]
    assert device.run(pace) == [[0, 1, 2]]
    device.tasks = [tasks[0], tasks[0], tasks[1]]
    assert device.run(pace) == [[0], [1, 2]]
    device.tasks = [tasks[2], Task("new", (1, 1, 1)), tasks[2]]
    device._seconds["new"] = 0.001
    assert device.run(pace) == [[0], [1], [2]]


def test_a_dispatch_that_is_too_long_goes_in_parts_from_the_first_time_on() -> None:
    tasks = [Task("endless", (2, 40, 1)), Task("short", (1, 1, 1))]
    device = SlowDevice(tasks, {"endless": 0.004, "short": 0.001})
    pace = Pace(longest=0.05)
    first = device.run(pace)
    assert len(first) > 0.32 / 0.05
    for together in device.submits:  # sleeping takes a little longer than asked for
        assert sum(x * y * z for x, y, z in (part.groups for part in together)) * 0.004 <= 0.05
    again = device.run(pace)
    assert 7 <= len(again) <= 16
    assert all(len(set(together)) == 1 for together in again[:-1])


def test_without_a_limit_everything_goes_at_once() -> None:
    tasks = [Task("a", (9, 1, 1)), Task("b", (1, 1, 1))]
    assert SlowDevice(tasks, {"a": 0.001, "b": 0.001}).run(Pace(float("inf"))) == [[0, 1]]


def test_nothing_is_nothing_to_submit() -> None:
    assert SlowDevice([], {}).run(Pace()) == []
