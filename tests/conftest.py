"""What all tests share: the cast, and nothing left over from the test before."""

import pytest

from genqueue import forecast, statistics
from tests.cast import alice, bob, charlie

__all__ = ["alice", "bob", "charlie"]


@pytest.fixture(autouse=True)
def nothing_remembered(settings, tmp_path):
    """Files go to a folder of this test; what processes keep in memory is forgotten."""
    settings.MEDIA_ROOT = tmp_path / "media"
    forecast.forget()
    statistics.forget()
