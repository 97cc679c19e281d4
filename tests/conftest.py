"""What all tests share: the cast, and nothing left over from the test before."""

import os
from types import SimpleNamespace

import pytest

from genqueue import forecast, orphans, retention, statistics
from genqueue.api import trust
from tests.cast import alice, bob, charlie

__all__ = ["alice", "bob", "charlie"]

pytest_plugins = ["tests.faults.counting", "tests.first_tries"]

# As `diffusion.backends` sets it; here some tests import torch before they open a backend.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


@pytest.fixture(scope="session")
def live_site(django_db_setup):
    """The real site on a free port: one a process, because its event loop cannot start twice."""
    from tests.js.site import LiveSite

    return LiveSite()


@pytest.fixture
def clock_of_budgets(monkeypatch):
    """Budgets are for a minute of the clock: here it stands still, a second after one began."""
    clock = SimpleNamespace(now=60_001.0)
    monkeypatch.setattr(trust, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture
def unchecked(settings):
    """Nobody computes again what tabs and helpers hand in: for tests of something else."""
    settings.P2PWEB_SPOT_CHECKS = False


@pytest.fixture(autouse=True)
def nothing_remembered(settings, tmp_path):
    """Files go to a folder of this test; what processes keep in memory is forgotten."""
    settings.MEDIA_ROOT = tmp_path / "media"
    forecast.forget()
    orphans.forget()
    retention.forget()
    statistics.forget()
