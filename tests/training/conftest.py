"""The reference glyphs that ship with the training code, read once."""

from pathlib import Path

import numpy as np
import pytest

from diffusion.training import glyphs as glyph_source
from diffusion.training.glyphs import Glyph
from diffusion.training.scenes import ScenePlanner, visibility

REFERENCE = Path(glyph_source.__file__).parent / "reference"


@pytest.fixture(scope="session")
def reference() -> tuple[list[Glyph], np.ndarray]:
    return glyph_source.load(REFERENCE)


@pytest.fixture(scope="session")
def glyphs(reference: tuple[list[Glyph], np.ndarray]) -> list[Glyph]:
    return reference[0]


@pytest.fixture(scope="session")
def atlas(reference: tuple[list[Glyph], np.ndarray]) -> np.ndarray:
    return reference[1]


@pytest.fixture(scope="session")
def visible(atlas: np.ndarray) -> np.ndarray:
    return visibility(atlas)


@pytest.fixture
def planner(glyphs: list[Glyph], visible: np.ndarray) -> ScenePlanner:
    return ScenePlanner(glyphs, visible, seed=5)
