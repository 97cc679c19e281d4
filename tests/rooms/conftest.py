from pathlib import Path

import pytest
from django.core.cache import cache

from genqueue import actions
from tests.studio import Studio, write_model


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, settings) -> str:
    """The name of the only model."""
    write_model(tmp_path / "models")
    settings.MODEL_ROOTS = [tmp_path / "models"]
    cache.clear()
    return "tiny"


@pytest.fixture
def studio(db) -> Studio:
    return Studio()


@pytest.fixture
def kitchen(db, alice) -> str:
    """The id of a room that alice made."""
    actions.make_room("kitchen", alice.client_id)
    return "kitchen"
