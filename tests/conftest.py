"""What all tests share: the cast, and nothing left over from the test before."""

import os

import pytest

from genqueue import forecast, orphans, retention, statistics
from tests.cast import alice, bob, charlie

__all__ = ["alice", "bob", "charlie"]

# As `diffusion.backends` sets it; here some tests import torch before they open a backend.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


@pytest.fixture(autouse=True)
def nothing_remembered(settings, tmp_path):
    """Files go to a folder of this test; what processes keep in memory is forgotten."""
    settings.MEDIA_ROOT = tmp_path / "media"
    forecast.forget()
    orphans.forget()
    retention.forget()
    statistics.forget()
