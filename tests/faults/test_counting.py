"""The count of injected faults itself: what is counted, said, and when a run fails."""

import pytest

from tests.faults import counting
from tests.faults.counting import LEAST, FaultCount


def report(fault: str | None, file: str = "test_room_faults.py", when: str = "call"):
    properties = [("other", "x")] + ([(counting.PROPERTY, fault)] if fault else [])
    return pytest.TestReport(
        f"tests/faults/{file}::test_it", ("", 0, ""), {}, "passed", None, when,
        user_properties=properties,
    )  # fmt: skip


def counted(*reports) -> FaultCount:
    count = FaultCount()
    for one in reports:
        count.add(one)
    return count


def test_each_fault_counts_once_whatever_else_is_reported_of_its_test():
    count = counted(
        *(report("tab killed", when=when) for when in ("setup", "call", "teardown")),
        report("relay cut"), report("relay cut"), report(None),
    )  # fmt: skip
    assert count.total == 3
    seed = counting.seed()
    assert count.sentence() == (
        f"3 faults injected: 2 relay cut, 1 tab killed. FAULT_SEED={seed} repeats their moments."
    )


def test_a_run_of_the_whole_folder_with_too_few_fails_and_one_of_a_part_does_not():
    few = counted(*[report("tab killed")] * (LEAST - 1))
    assert few.too_few(["test_room_faults.py"])
    assert not few.too_few(["test_room_faults.py", "test_site_faults.py"])
    few.add(report("tab killed"))
    assert not few.too_few(["test_room_faults.py"])


def test_faults_that_were_skipped_or_never_made_do_not_count():
    assert counted(report(None), report(None)).total == 0
