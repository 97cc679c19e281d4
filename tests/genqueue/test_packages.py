"""Model packages on the site: made when asked for, served by ranges, cached for ever."""

import hashlib
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from diffusion.model_folder import read_model_folder
from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.pack import pack_model
from diffusion.packaging.package import Package
from diffusion.plan.compiler import compile_folder
from diffusion.plan.schema import read_plan
from diffusion.random_model import DC_AE_SHAPE, write_random_model
from genqueue import choices, packages, plans
from genqueue.api.schemas import PackagesJson
from tests.api.conftest import has_shape, refused

pytestmark = pytest.mark.django_db

URL = "/api/packages/v1/tiny"


@pytest.fixture(autouse=True)
def site(settings, tmp_path, models) -> Path:
    """A data folder of this test's own; the only model is the tiny one."""
    settings.DATA_DIR = tmp_path / "data"
    return settings.DATA_DIR


@pytest.fixture
def manifest(client):
    response = client.get(f"{URL}/f16/manifest.json")
    assert response.status_code == 200, response.content
    return response


@pytest.fixture
def shard(manifest) -> tuple[str, bytes]:
    """Address and bytes of the largest shard."""
    entry = max(manifest.json()["shards"], key=lambda entry: entry["bytes"])
    path = packages.place("tiny", "f16") / f"{entry['sha256']}.bin"
    return f"{URL}/f16/{path.name}", path.read_bytes()


class TestAPackage:
    def test_of_a_small_model_is_made_when_somebody_asks(self, manifest):
        package = Package(packages.place("tiny", "f16"))
        assert manifest.content == (package.path / "manifest.json").read_bytes()
        for name in package.manifest.tensors:
            assert package.tensor(name).size

    def test_is_named_by_its_hash_and_cached_for_a_minute(self, manifest):
        assert manifest.headers["ETag"] == f'"{hashlib.sha256(manifest.content).hexdigest()}"'
        assert manifest.headers["Cache-Control"] == "public, max-age=60"
        assert manifest.headers["Content-Type"] == "application/json"

    def test_holds_the_plan_its_weights_and_the_hashes_of_our_shaders(self, manifest, models):
        package = Package(packages.place("tiny", "f16"))
        compiled = compile_folder(read_model_folder(models / "tiny"), "f16")
        assert read_plan(package.file(package.manifest.plan)) == compiled.plan
        assert len(package.manifest.tensors) == len(compiled.plan.weights)
        for name in compiled.plan.weights:
            stored = package.stored(name.replace(".", "/", 1))
            assert stored == compiled.read_weight(name).tobytes(), name
        for shader, sha256 in package.manifest.wgsl.items():
            text = (Path("static/wgsl") / f"{shader}.wgsl").read_bytes()
            assert hashlib.sha256(text).hexdigest() == sha256, shader

    def test_is_made_anew_when_a_plan_or_a_shader_has_changed(self, client, manifest, monkeypatch):
        def changed(model, dtypes):
            found = plans.planned(model, dtypes)
            return replace(found, plan=replace(found.plan, wgsl={"matmul": "ab" * 32}))

        monkeypatch.setattr(packages, "planned", changed)
        again = client.get(f"{URL}/f16/manifest.json")
        assert again.json()["wgsl"] == {"matmul": "ab" * 32}
        assert again.json()["model_id"] == manifest.json()["model_id"]

    def test_is_compiled_once_for_all_who_look_for_packages(self, client, monkeypatch):
        compiled = []

        def counted(model, dtypes):
            compiled.append(dtypes)
            return plans.planned(model, dtypes)

        monkeypatch.setattr(packages, "planned", counted)
        client.get(f"{URL}/f16/manifest.json")
        once = len(compiled)
        assert once > 0
        seen = client.get("/api/packages").json()
        looked = len(compiled)
        assert client.get("/api/packages").json() == seen
        assert len(compiled) == looked

    def test_of_a_model_without_a_compiler_has_no_plan(self, client, tmp_path, settings):
        other = write_random_model(tmp_path / "others" / "other")
        config = other / "vae" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"act_fn": "gelu"}))
        settings.MODEL_ROOTS = [tmp_path / "others"]
        response = client.get("/api/packages/v1/other/int8/manifest.json")
        assert response.json()["plan"] is None
        assert any(name.startswith("vae/decoder.") for name in response.json()["tensors"])

    def test_of_a_model_with_a_dc_ae_has_a_plan(self, client, tmp_path, settings):
        write_random_model(tmp_path / "others" / "dc", DC_AE_SHAPE)
        settings.MODEL_ROOTS = [tmp_path / "others"]
        response = client.get("/api/packages/v1/dc/f16/manifest.json")
        assert response.json()["plan"] == "plan.json"
        assert "linear_attention" in response.json()["wgsl"]
        package = Package(packages.place("dc", "f16"))
        compiled = compile_folder(read_model_folder(tmp_path / "others" / "dc"), "f16")
        for name in compiled.plan.weights:
            stored = package.stored(name.replace(".", "/", 1))
            assert stored == compiled.read_weight(name).tobytes(), name

    def test_is_made_once_for_many_who_ask(self, client, monkeypatch):
        made = []
        make = packages.make
        monkeypatch.setattr(packages, "make", lambda *given: made.append(given) or make(*given))
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(packages.manifest_file("tiny", "int8")))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert len(found) == 4

    def test_is_made_anew_when_its_model_has_changed(self, client, manifest, models):
        config = models / "tiny" / "scheduler" / "scheduler_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"shift": 1.25}))
        changed = client.get(f"{URL}/f16/manifest.json")
        assert changed.json()["model_id"] != manifest.json()["model_id"]
        assert changed.headers["ETag"] != manifest.headers["ETag"]

    def test_of_a_large_model_is_not_made_by_whoever_asks(self, client, monkeypatch):
        monkeypatch.setattr(packages, "SMALL_BYTES", 1000)
        problem = refused(client.get(f"{URL}/f16/manifest.json"), 404, "no-such-package")
        assert "manage.py pack_model tiny" in problem["detail"]
        assert client.get("/api/packages").json() == {"packages": []}

    def test_of_a_large_model_is_served_until_the_model_changes(self, client, monkeypatch, models):
        monkeypatch.setattr(packages, "SMALL_BYTES", 1000)
        packages.make("tiny", choices.models()["tiny"], dtypes_of("int4-f16-f16"))
        assert client.get(f"{URL}/int4-f16-f16/manifest.json").status_code == 200
        [listed] = client.get("/api/packages").json()["packages"]
        assert listed["variant"] == "int4-f16-f16"
        os.utime(models / "tiny" / "vae" / "config.json", ns=(1, 1))
        refused(client.get(f"{URL}/int4-f16-f16/manifest.json"), 404, "no-such-package")

    def test_is_served_where_its_model_is_not(self, client, tiny_model):
        pack_model(tiny_model, packages.place("elsewhere", "int8"), dtypes_of("int8"))
        assert client.get("/api/packages/v1/elsewhere/int8/manifest.json").status_code == 200

    def test_is_found_by_the_name_of_a_link_to_its_model(self, client, models, settings, tmp_path):
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "alias").symlink_to(models / "tiny")
        settings.MODEL_ROOTS = [tmp_path / "links"]
        assert client.get("/api/packages/v1/alias/int8/manifest.json").status_code == 200
        assert packages.place("alias", "int8").is_dir()
        assert not packages.place("tiny", "int8").exists()

    def test_of_a_broken_model_is_refused_and_logged(self, client, models, caplog):
        for file in (models / "tiny" / "vae").glob("*.safetensors"):
            file.write_bytes(b"no weights")
        problem = refused(client.get(f"{URL}/f16/manifest.json"), 404, "no-such-package")
        assert "log" in problem["detail"]
        assert "vae/" in caplog.text
        assert not packages.place("tiny", "f16").exists()


def parts_of(document: dict) -> dict[str, int]:
    """Bytes by part, from a manifest's JSON."""
    parts: dict[str, set[int]] = {"files": set()}
    for name, entry in document["tensors"].items():
        numbers = {number for number, _, _ in entry["pieces"]}
        parts.setdefault(name.partition("/")[0], set()).update(numbers)
    for entry in document["files"].values():
        parts["files"] |= {number for number, _, _ in entry["pieces"]}
    sizes = [shard["bytes"] for shard in document["shards"]]
    return {part: sum(sizes[number] for number in numbers) for part, numbers in parts.items()}


class TestTheList:
    def test_says_what_is_there_and_what_would_be_made(self, client, manifest):
        answer = client.get("/api/packages")
        assert answer.headers["Cache-Control"] == "no-cache"
        assert has_shape(answer.json(), PackagesJson)
        listed = {entry["variant"]: entry for entry in answer.json()["packages"]}
        assert listed.keys() == {"f32", "f16", "int8", "int4"}
        document = manifest.json()
        assert listed["f16"] == {
            "model": "tiny",
            "variant": "f16",
            "url": f"{URL}/f16/manifest.json",
            "package_id": manifest.headers["ETag"].strip('"'),
            "model_id": document["model_id"],
            "bytes": sum(shard["bytes"] for shard in document["shards"]),
            "parts": parts_of(document),
        }
        assert sum(listed["f16"]["parts"].values()) == listed["f16"]["bytes"]
        assert listed["int8"]["package_id"] is None
        assert client.get(listed["int8"]["url"]).status_code == 200

    def test_leaves_out_a_package_that_somebody_broke(self, client, manifest):
        path = packages.place("tiny", "f16") / "manifest.json"
        path.write_text("{}")
        listed = {e["variant"]: e for e in client.get("/api/packages").json()["packages"]}
        assert listed["f16"]["package_id"] is None


class TestAShard:
    def test_is_bytes_that_may_be_kept_for_ever(self, client, shard):
        address, data = shard
        response = client.get(address)
        assert response.status_code == 200
        assert response.content == data
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Length"] == str(len(data))
        assert response.headers["Accept-Ranges"] == "bytes"
        assert "immutable" in response.headers["Cache-Control"]
        assert response.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'

    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=0-99", 0, 100),
            ("bytes=100-", 100, None),
            ("bytes=-100", -100, None),
            ("bytes=7-999999999", 7, None),
            ("bytes=-999999999", 0, None),
            ("Bytes= 5-9 ", 5, 10),
        ],
    )
    def test_comes_by_ranges(self, client, shard, asked, start, stop):
        address, data = shard
        response = client.get(address, headers={"Range": asked})
        assert response.status_code == 206
        assert response.content == data[start:stop]
        first, last, _ = slice(start, stop).indices(len(data))
        assert response.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(data)}"
        assert response.headers["Content-Length"] == str(len(response.content))

    @pytest.mark.parametrize("asked", ["bytes={size}-", "bytes={size}-{size}", "bytes=-0"])
    def test_has_an_end(self, client, shard, asked):
        address, data = shard
        response = client.get(address, headers={"Range": asked.format(size=len(data))})
        refused(response, 416, "range-not-satisfiable")
        assert response.headers["Content-Range"] == f"bytes */{len(data)}"

    @pytest.mark.parametrize(
        "asked",
        ["bytes=5-4", "bytes=-", "bytes=0-1,3-4", "items=0-1", "bytes", "bytes=a-b", "bytes=--1",
         "bytes=0-" + "9" * 5000, "bytes=٣-٤"],
    )  # fmt: skip
    def test_comes_whole_when_the_range_is_none(self, client, shard, asked):
        address, data = shard
        response = client.get(address, headers={"Range": asked})
        assert response.status_code == 200
        assert response.content == data

    def test_comes_whole_when_the_range_was_of_another_file(self, client, shard):
        address, _ = shard
        etag = client.head(address).headers["ETag"]
        for condition, status in (
            (etag, 206), ('"another"', 200), (f"W/{etag}", 200),
            ("Mon, 23 Nov 2026 19:00:00 GMT", 200),
        ):  # fmt: skip
            response = client.get(address, headers={"Range": "bytes=0-9", "If-Range": condition})
            assert response.status_code == status, condition

    def test_is_not_sent_again_to_who_has_it(self, client, shard):
        address, _ = shard
        etag = client.head(address).headers["ETag"]
        response = client.get(address, headers={"If-None-Match": etag, "Range": "bytes=0-9"})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["ETag"] == etag

    def test_answers_head_with_its_size_and_no_range(self, client, shard):
        address, data = shard
        response = client.head(address, headers={"Range": "bytes=0-9"})
        assert response.status_code == 200
        assert response.content == b""
        assert response.headers["Content-Length"] == str(len(data))

    def test_may_be_loaded_by_pages_of_sites_that_the_settings_name(self, client, shard, settings):
        settings.CORS_ALLOWED_ORIGINS = ["https://front.example"]
        address, _ = shard
        ask = {"Origin": "https://front.example", "Range": "bytes=0-9"}
        headers = client.get(address, headers=ask).headers
        assert headers["Access-Control-Allow-Origin"] == "https://front.example"
        assert {"Content-Range", "ETag"} <= set(
            headers["Access-Control-Expose-Headers"].split(", ")
        )
        preflight = client.options(
            address,
            headers={
                "Origin": "https://front.example",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "range",
            },
        )
        assert "range" in preflight.headers["Access-Control-Allow-Headers"].split(", ")
        other = client.get(address, headers={"Origin": "https://evil.example"}).headers
        assert "Access-Control-Allow-Origin" not in other


@pytest.mark.parametrize(
    "address",
    [
        f"{URL}/f8/manifest.json",
        f"{URL}/f16-f16-f16/manifest.json",
        "/api/packages/v1/nothing/f16/manifest.json",
        "/api/packages/v1/../f16/manifest.json",
        "/api/packages/v1/%2e%2e/f16/manifest.json",
        f"{URL}/../f16/manifest.json",
        f"{URL}/%2e%2e/manifest.json",
        f"{URL}/f16/{'0' * 64}.bin",
        f"{URL}/f16/..%2f..%2fsecret.bin",
        f"{URL}/f16/secret.bin",
        f"{URL}/f16/manifest.json.bin",
        f"{URL}/f16/.f16.source",
        f"{URL}/f16/",
        "/api/packages/v2/tiny/f16/manifest.json",
    ],
)
def test_nothing_else_can_be_reached(client, manifest, site, address):
    for path in (site, packages.place("tiny", "f16")):
        (path / "secret.bin").write_bytes(b"secret")
    response = client.get(address)
    assert response.status_code == 404
    assert b"secret" not in response.content


def test_a_link_out_of_the_package_leads_nowhere(client, manifest, site):
    (site / "secret").write_bytes(b"secret")
    name = "a" * 64
    (packages.place("tiny", "f16") / f"{name}.bin").symlink_to(site / "secret")
    refused(client.get(f"{URL}/f16/{name}.bin"), 404, "no-such-package")
