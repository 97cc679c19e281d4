"""What the tests of the API share: a model that can be asked for, and shorthands for calls."""

import json
from pathlib import Path

import pytest
from django.core.cache import cache

from genqueue.api import documentation

MODEL_FILES = {
    "model_index.json": {"_class_name": "PRXPipeline", "default_sample_size": 256},
    "transformer/config.json": {"in_channels": 16, "patch_size": 2, "context_in_dim": 48},
    "vae/config.json": {
        "_class_name": "AutoencoderKL",
        "latent_channels": 16,
        "block_out_channels": [16, 16, 32, 32],
    },
    "p2pweb.json": {
        "title": "Tiny",
        "default_steps": 8,
        "default_guidance": 4,
        "min_side": 64,
        "max_side": 512,
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
    folder = tmp_path / "models" / "tiny"
    for name, content in MODEL_FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    settings.MODEL_ROOTS = [tmp_path / "models"]
    settings.MEDIA_ROOT = tmp_path / "media"
    cache.clear()
    return "tiny"


def post(browser, room="kitchen", body=None, **headers):
    """POST a job; `body` may be a dict or raw bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body or {"prompt": "a rocket"}).encode()
    return browser.post(f"/api/queue/{room}", raw, content_type="application/json", headers=headers)


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
