"""GET /api/openapi.json and /api/docs, and docs/api.md"""

import json
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders

from genqueue.api.documentation import PROBLEMS, SETTINGS_PROBLEMS
from genqueue.problems import PROBLEM_CONTENT_TYPE

ROOT = Path(__file__).resolve().parents[2]

CALLS = {
    "/api/health": {"get"},
    "/api/stats": {"get"},
    "/api/models": {"get"},
    "/api/queue/{room}": {"get", "post"},
    "/api/join/{room}": {"post"},
    "/api/jobs/{job_id}": {"get", "delete"},
    "/api/jobs/{job_id}/images/{number}.png": {"get"},
    "/api/jobs/{job_id}/images/{number}/preview.webp": {"get"},
    "/api/jobs/{job_id}/images/{number}/timeline": {"get"},
    "/api/packages": {"get"},
    "/api/packages/v1/{model}/references.safetensors": {"get"},
    "/api/packages/v1/{model}/{variant}/manifest.json": {"get"},
    "/api/packages/v1/{model}/{variant}/{sha256}.bin": {"get"},
}


@pytest.fixture
def openapi(client):
    response = client.get("/api/openapi.json")
    assert response.status_code == 200
    return response.json()


def operations(openapi):
    return [
        (f"{method} {path}", operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]


def test_no_key_comes_twice(client):
    """JSON readers take the last one; the page's reader refuses the document."""

    def unique(pairs):
        assert len(dict(pairs)) == len(pairs), [name for name, _ in pairs]
        return dict(pairs)

    json.loads(client.get("/api/openapi.json").content, object_pairs_hook=unique)


def test_every_call_is_described(openapi):
    assert {path: set(methods) for path, methods in openapi["paths"].items()} == CALLS


def test_every_call_has_a_summary_and_an_answer_with_a_schema(openapi):
    for name, operation in operations(openapi):
        assert operation["summary"], name
        content = operation["responses"].get("200") or operation["responses"]["201"]
        assert all(media["schema"] for media in content["content"].values()), name


def test_every_reference_leads_somewhere(openapi):
    references = set(re.findall(r"#/components/schemas/(\w+)", str(openapi)))
    assert references <= set(openapi["components"]["schemas"])
    assert "ProblemJson" in references


def test_problems_are_described_with_an_example_each(openapi):
    shown = {}
    for name, operation in operations(openapi):
        for status, response in operation["responses"].items():
            for code, example in (
                response.get("content", {})
                .get(PROBLEM_CONTENT_TYPE, {})
                .get("examples", {})
                .items()
            ):
                assert example["value"]["code"] == code, name
                assert str(example["value"]["status"]) == status, name
                shown[code] = True
    assert {"room-full", "client-full", "broken-json", *SETTINGS_PROBLEMS} <= set(shown)


def test_a_request_for_a_job_is_described_with_its_ranges(openapi):
    schema = openapi["components"]["schemas"]["JobRequest"]
    assert schema["required"] == ["prompt"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["steps"]["maximum"] == 100
    assert schema["properties"]["seed"]["maximum"] == 2**32 - 1
    assert schema["example"]["prompt"]


def test_the_client_cookie_and_the_job_token_are_described(openapi):
    assert set(openapi["components"]["securitySchemes"]) == {"client", "job"}
    cancel = openapi["paths"]["/api/jobs/{job_id}"]["delete"]
    assert cancel["security"] == [{"client": []}, {"job": []}]


def test_the_way_from_a_preview_to_its_picture_is_described(openapi):
    preview = openapi["paths"]["/api/jobs/{job_id}/images/{number}/preview.webp"]["get"]
    assert {"200", "302", "304", "404"} <= preview["responses"].keys()


def test_a_position_is_described_as_what_it_is(openapi):
    position = openapi["components"]["schemas"]["JobJson"]["properties"]["position"]
    assert "all rooms" in position["description"]


def test_joining_may_come_with_the_description_of_a_worker(openapi):
    body = openapi["paths"]["/api/join/{room}"]["post"]["requestBody"]
    assert not body.get("required")
    described = body["content"]["application/json"]["schema"]
    assert described["required"] == ["name", "device", "models"]


def test_the_page_loads_only_our_own_files(client):
    response = client.get("/api/docs")
    assert response.status_code == 200
    page = response.content.decode()
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert any("swagger-ui-bundle.js" in address for address in addresses)
    for address in addresses:
        assert address.startswith("/static/"), address
        assert finders.find(address.removeprefix("/static/")), address
    for script in re.findall(r"<script([^>]*)>", page):
        assert "src=" in script or 'type="application/json"' in script


def test_the_handbook_names_every_call_and_every_problem():
    handbook = (ROOT / "docs" / "api.md").read_text()
    for path, methods in CALLS.items():
        written = path.replace("{job_id}", "{id}").replace("{number}", "{n}")
        for method in methods:
            assert f"{method.upper()} {written}" in handbook
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", handbook, re.MULTILINE))
    assert rows == {code: str(status) for code, (status, _) in PROBLEMS.items()}
