"""At the end of a run, why the tests failed that were run once more: a limit that is missed now and
then may be a busy machine or a mistake, and only what stood on the page tells.

A plugin of tests/conftest.py; which failures are tried again says the Makefile.
"""

import pytest

LAST_LINES = 60  # of each part: a page's log may be long


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("rerun", [])
    if reports:
        terminalreporter.section("first tries that failed")
    for report in reports:
        terminalreporter.section(report.nodeid, sep="_")
        parts = [("", report.longreprtext), *report.sections]
        for name, text in parts:
            if name:
                terminalreporter.line(f"--- {name}")
            for line in text.splitlines()[-LAST_LINES:]:
                terminalreporter.line(line)
