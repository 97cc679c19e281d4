"""What the tests of the API share: a model that can be asked for, and shorthands for calls."""

import json
from pathlib import Path

import pytest
from django.core.cache import cache
from pydantic import TypeAdapter

from genqueue.api import documentation
from tests import studio

MODEL_FILES = {
    **studio.MODEL_FILES,
    "p2pweb.json": {
        **studio.MODEL_FILES["p2pweb.json"],
        "examples": ["a rocket on a blue background"],
    },
    "vocabulary.json": {
        "names": ["rocket"],
        "colours": ["blue"],
        "relations": ["above"],
        "words": ["background"],
    },
}


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, settings) -> str:
    """The name of the only model: configuration without weights, for nothing here computes."""
    studio.write_model(tmp_path / "models", files=MODEL_FILES)
    settings.MODEL_ROOTS = [tmp_path / "models"]
    settings.MEDIA_ROOT = tmp_path / "media"
    cache.clear()
    return "tiny"


def post(browser, room="kitchen", body=None, **headers):
    """POST a job; `body` may be a dict or raw bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body or {"prompt": "a rocket"}).encode()
    return browser.post(f"/api/queue/{room}", raw, content_type="application/json", headers=headers)


def has_shape(value, shape):
    """Whether this JSON is what OpenAPI says of it, with no member more or less."""
    TypeAdapter(shape).validate_python(value)
    return True


def refused(response, status, code):
    """The problem in this answer, after checking its form and that it is documented."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert documentation.PROBLEMS[code][0] == status
    return problem
