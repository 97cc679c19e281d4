"""The references of `/check` on the site: made when asked for, of the model as it is now."""

import json
from pathlib import Path

import pytest
from django.core.management import call_command
from safetensors.numpy import load

from diffusion.packaging.source import model_id
from diffusion.plan.references import FORMAT
from diffusion.random_model import Shape, write_random_model
from genqueue import packages
from tests.api.conftest import refused

pytestmark = pytest.mark.django_db

URL = "/api/packages/v1/tiny/references.safetensors"


@pytest.fixture(autouse=True)
def site(settings, tmp_path, models) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    return settings.DATA_DIR


def metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def test_those_of_a_small_model_are_made_when_somebody_asks(client, models):
    response = client.get(URL)
    assert response.status_code == 200
    content = b"".join(response) if response.streaming else response.content
    assert metadata(content)["format"] == FORMAT
    assert metadata(content)["model_id"] == model_id(models / "tiny")
    assert "denoise/end/velocity" in load(content)


def test_they_are_made_once(client, site):
    client.get(URL)
    [path] = site.rglob("references.safetensors")
    before = path.stat().st_mtime_ns
    client.get(URL)
    assert path.stat().st_mtime_ns == before


def test_they_are_made_anew_when_the_model_has_changed(client, models):
    old = client.get(URL).headers["ETag"]
    write_random_model(models / "tiny", Shape(), seed=99)
    assert client.get(URL).headers["ETag"] != old


def test_they_are_no_variant_of_a_package(client):
    client.get(URL)
    listed = client.get("/api/packages").json()["packages"]
    assert {entry["variant"] for entry in listed} == {"f32", "f16", "int8", "int4"}


def test_a_large_model_has_them_once_it_was_packed(client, monkeypatch):
    monkeypatch.setattr(packages, "SMALL_BYTES", 0)
    refused(client.get(URL), 404, "no-such-package")
    call_command("pack_model", "tiny", dtype="int8")
    assert client.get(URL).status_code == 200


def test_a_model_that_is_not_there_has_none(client):
    refused(client.get("/api/packages/v1/nobody/references.safetensors"), 404, "no-such-package")
