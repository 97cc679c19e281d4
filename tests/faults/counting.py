"""Counts the faults that the tests of this folder have injected, and says so at the end of a run.

A plugin of tests/conftest.py, because the process that sums up collects no test when pytest-xdist
shares them out: a test names its fault in `user_properties`, which travel with its report.

A run of the whole folder with fewer than LEAST faults fails. FAULT_SEED in the environment repeats
a run's moments; otherwise each run has others.
"""

import os
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

LEAST = 30
FOLDER = Path(__file__).parent
PROPERTY = "fault"


class FaultCount:
    """`files`: those of this folder of which a test was run."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.files: set[str] = set()

    def add(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        path = Path(report.nodeid.partition("::")[0])
        if path.parent.name == FOLDER.name:
            self.files.add(path.name)
        self.faults.update(value for name, value in report.user_properties if name == PROPERTY)

    @property
    def total(self) -> int:
        return self.faults.total()

    def sentence(self) -> str:
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        return f"{self.total} faults injected: {kinds}. FAULT_SEED={seed()} repeats their moments."

    def too_few(self, files: Iterable[str]) -> bool:
        """Whether all files of the folder were run, and not enough came of it."""
        return self.files >= set(files) and self.total < LEAST


def seed() -> str:
    return os.environ["FAULT_SEED"]


def is_whole(config: pytest.Config) -> bool:
    """Whether nobody has picked tests by name."""
    picked = config.option.keyword or config.option.markexpr or config.option.deselect
    return not picked and not any("::" in argument for argument in config.args)


_KEY = pytest.StashKey[FaultCount]()


def pytest_configure(config: pytest.Config) -> None:
    # Processes of pytest-xdist inherit it.
    os.environ.setdefault("FAULT_SEED", str(random.SystemRandom().randrange(10**6)))
    config.stash[_KEY] = FaultCount()
    config.pluginmanager.register(_Reports(config.stash[_KEY]))


class _Reports:
    def __init__(self, count: FaultCount) -> None:
        self.count = count

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count.add(report)


def _fails(config: pytest.Config) -> bool:
    files = [path.name for path in FOLDER.glob("test_*_faults.py")]
    return is_whole(config) and config.stash[_KEY].too_few(files)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and _fails(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    count = config.stash[_KEY]
    if count.total:
        terminalreporter.write_line(count.sentence())
    if _fails(config):
        terminalreporter.write_line(f"Fewer than {LEAST} faults: the run fails.", red=True)
