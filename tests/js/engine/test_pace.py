"""The browser submits as Python does: the same parts, and the same dispatches together."""

import pytest

from diffusion.backends.wgpu_pace import parts


def test_a_dispatch_is_cut_as_python_cuts_it(engine) -> None:
    cases = [
        (groups, wanted)
        for groups in ([1, 1, 1], [7, 1, 1], [5, 28, 2], [3, 3, 3], [2, 1, 9], [98, 64, 1])
        for wanted in (0, 1, 2, 5, 30, 1000)
    ]
    cut = "return args[0].map(([groups, wanted]) => m.parts(3, groups, wanted));"
    for (groups, wanted), found in zip(cases, engine("pace", cut, cases), strict=True):
        x, y, z = groups
        expected = [
            {"number": part.number, "first": list(part.first), "groups": list(part.groups)}
            for part in parts(3, (x, y, z), wanted)
        ]
        assert found == expected


# A device that takes `ms` for each workgroup of a kind, by a clock of its own.
# What is submitted, as [numbers of tasks]
RUN = """
const [longest, rounds] = args;
let now = 0;
let waiting = 0;
const pace = new m.Pace(longest ?? Infinity, () => now);
const submits = [];
for (const tasks of rounds) {
  submits.push([]);
  const submit = async (batches, last) => {
    for (const batch of batches) {
      submits.at(-1).push(batch.map(({ number }) => number));
      for (const { number, groups: [x, y, z] } of batch) waiting += tasks[number].ms * x * y * z;
    }
    if (last) submits.at(-1).push('last');
  };
  const wait = async () => {
    now += waiting;
    waiting = 0;
  };
  await pace.run(tasks, submit, wait);
}
return submits;
"""


def task(kind: str, ms: float, *groups: int) -> dict[str, object]:
    return {"kind": kind, "ms": ms, "groups": groups}


def test_work_is_measured_once_and_then_goes_together(engine) -> None:
    tasks = [task("long", 10, 3, 1, 1), task("short", 1, 1, 1, 1), task("short", 1, 1, 1, 1)]
    rounds = [tasks, tasks, [tasks[0], *tasks[:2]]]
    assert engine("pace", RUN, 50, rounds) == [
        [[0], [0], [1], [2], "last"],
        [[0, 1, 2], "last"],
        [[0], [1, 2], "last"],
    ]


def test_a_dispatch_that_is_too_long_goes_in_parts_from_the_first_time_on(engine) -> None:
    tasks = [task("endless", 4, 2, 40, 1), task("short", 1, 1, 1, 1)]
    first, again = engine("pace", RUN, 50, [tasks, tasks])
    assert len(first) > 320 / 50
    assert 7 <= len(again) - 1 <= 17


@pytest.mark.parametrize("longest", [None, 50])
def test_without_a_limit_or_work_nothing_is_measured(engine, longest: int | None) -> None:
    rounds = [[task("a", 60, 9, 1, 1)] * 2] if longest is None else [[]]
    expected = [[[0, 1], "last"]] if longest is None else [["last"]]
    assert engine("pace", RUN, longest, rounds) == expected
