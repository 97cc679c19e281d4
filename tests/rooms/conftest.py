from pathlib import Path

import pytest
from django.core.cache import cache

from diffusion.backends import open_backend
from diffusion.model_folder import read_model_folder
from diffusion.random_model import write_random_model
from genqueue import actions, packages
from tests.rooms.computing import ComputingTab
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


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model that computes, with random weights; the only one of the site."""
    folder = tmp_path_factory.mktemp("computing") / "tiny"
    write_random_model(folder)
    return folder


@pytest.fixture(scope="session")
def backend(model):
    return open_backend("torch", read_model_folder(model))


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data-of-tabs")


@pytest.fixture
def package(settings, model, data_folder) -> Path:
    settings.MODEL_ROOTS = [model.parent]
    settings.DATA_DIR = data_folder
    return packages.manifest_file("tiny", "f32").parent


@pytest.fixture
def hints(settings) -> None:
    """Commits are told to the sockets, as with Redis; without it they are found by beats alone."""
    settings.EMBEDDED = False


@pytest.fixture
def tab(alice, package, backend, kitchen):
    """tab(person): a tab of hers, to be entered."""
    return lambda person=alice, backend=backend, **hello: ComputingTab(
        person, package, backend, **hello
    )
