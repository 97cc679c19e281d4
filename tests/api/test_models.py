"""GET /api/models"""

import pytest

from genqueue.api.schemas import ModelsJson
from tests.api.conftest import has_shape


def models(browser):
    response = browser.get("/api/models")
    assert response.status_code == 200
    assert has_shape(response.json(), ModelsJson)
    return response.json()["models"]


def test_each_model_says_what_can_be_asked_of_it(client):
    assert models(client) == [
        {
            "name": "tiny",
            "title": "Tiny",
            "default": True,
            "side_multiple": 16,
            "min_side": 64,
            "max_side": 512,
            "default_width": 256,
            "default_height": 256,
            "default_steps": 8,
            "default_guidance": 4.0,
            "examples": ["a rocket on a blue background"],
            "vocabulary": {
                "names": ["rocket"],
                "colours": ["blue"],
                "relations": ["above"],
                "words": ["background"],
            },
        }
    ]


def test_the_default_model_comes_first(client, settings, tmp_path):
    (tmp_path / "models" / "zebra").symlink_to(tmp_path / "models" / "tiny")
    settings.DEFAULT_MODEL = "zebra"
    assert [(model["name"], model["default"]) for model in models(client)] == [
        ("zebra", True),
        ("tiny", False),
    ]


def test_the_sites_own_limit_on_sides_counts_too(client, settings):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"side": 300}
    assert models(client)[0]["max_side"] == 288


def test_without_models_the_list_is_empty(client, settings, tmp_path):
    settings.MODEL_ROOTS = [tmp_path / "empty"]
    assert models(client) == []


@pytest.mark.django_db
def test_it_needs_no_database(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        models(client)
