"""What holds for every address under /api/: methods, unknown paths, errors, other sites."""

import pytest
from django.test import Client

from tests.api.conftest import post, refused

pytestmark = pytest.mark.django_db

ADDRESSES = {
    "/api/health": "GET, HEAD, OPTIONS",
    "/api/models": "GET, HEAD, OPTIONS",
    "/api/stats": "GET, HEAD, OPTIONS",
    "/api/queue/kitchen": "GET, HEAD, OPTIONS, POST",
    "/api/join/kitchen": "OPTIONS, POST",
    "/api/jobs/7": "DELETE, GET, HEAD, OPTIONS",
    "/api/jobs/7/images/0.png": "GET, HEAD, OPTIONS",
    "/api/jobs/7/images/0/preview.webp": "GET, HEAD, OPTIONS",
    "/api/packages": "GET, HEAD, OPTIONS",
    "/api/packages/v1/tiny/f16/manifest.json": "GET, HEAD, OPTIONS",
    f"/api/packages/v1/tiny/f16/{'0' * 64}.bin": "GET, HEAD, OPTIONS",
}


@pytest.mark.parametrize(("address", "allowed"), ADDRESSES.items())
def test_other_methods_are_refused_with_those_that_work(alice, address, allowed):
    response = alice.browser.generic("BREW", address)
    refused(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize(("address", "allowed"), ADDRESSES.items())
def test_options_tells_the_methods(alice, address, allowed):
    response = alice.browser.options(address)
    assert response.status_code == 204
    assert response.headers["Allow"] == allowed
    assert response.content == b""


@pytest.mark.parametrize("address", ["/api/health", "/api/models", "/api/queue/kitchen"])
def test_head_answers_as_get_does_without_a_body(alice, address):
    response = alice.browser.head(address)
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "address",
    [
        "/api/", "/api/nothing", "/api/queue/", "/api/queue/a/b", "/api/health/", "/api//health",
        "/api/jobs/7/images/0.jpg", "/api/%F0%9F%9A%80", "/api/%ff", "/api/a%00b", "/api/a%0Ab",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "BREW"])
def test_what_is_not_there_is_not_found_in_json(alice, address, method):
    refused(alice.browser.generic(method, address), 404, "not-found")


def test_an_unknown_host_is_refused_in_json():
    refused(Client().get("/api/health", headers={"Host": "evil.example"}), 400, "bad-request")


def test_a_fault_of_the_server_is_json_and_says_nothing_of_its_inside(monkeypatch):
    def fail(room_id, before):
        raise RuntimeError("the inside")

    monkeypatch.setattr("genqueue.representation.room_as_json", fail)
    response = Client(raise_request_exception=False).get("/api/queue/kitchen")
    problem = refused(response, 500, "internal-error")
    assert "inside" not in str(problem)


def test_answers_carry_the_sites_security_headers(alice):
    headers = alice.browser.get("/api/health").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" in headers


class TestOtherSites:
    def test_a_page_of_another_site_cannot_add_a_job(self, alice):
        refused(post(alice.browser, Origin="https://evil.example"), 403, "cross-site")
        refused(post(alice.browser, **{"Sec-Fetch-Site": "cross-site"}), 403, "cross-site")

    def test_the_sites_own_pages_can(self, alice):
        assert post(alice.browser, Origin="http://testserver").status_code == 201
        same = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}
        assert post(alice.browser, **same).status_code == 201

    def test_another_port_or_scheme_is_another_site(self, alice):
        refused(post(alice.browser, Origin="http://testserver:81"), 403, "cross-site")
        refused(post(alice.browser, Origin="https://testserver"), 403, "cross-site")

    @pytest.mark.parametrize("origin", ["", "null", "http://[", "//", "\xff", "testserver"])
    def test_what_is_no_origin_is_another_site(self, alice, origin):
        refused(post(alice.browser, Origin=origin), 403, "cross-site")

    def test_origins_trusted_in_the_settings_can(self, alice, settings):
        settings.CSRF_TRUSTED_ORIGINS = ["https://front.example"]
        assert post(alice.browser, Origin="https://front.example").status_code == 201

    def test_by_default_no_other_site_may_read(self, alice):
        response = alice.browser.get("/api/health", headers={"Origin": "https://front.example"})
        assert "Access-Control-Allow-Origin" not in response.headers

    def test_origins_allowed_in_the_settings_may_read_and_write(self, settings):
        settings.CORS_ALLOWED_ORIGINS = ["https://front.example"]
        origin = {"Origin": "https://front.example"}
        browser = Client()
        preflight = browser.options(
            "/api/queue/kitchen",
            headers={
                **origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
        )
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://front.example"
        response = post(browser, **origin, **{"Sec-Fetch-Site": "cross-site"})
        assert response.status_code == 201
        assert response.headers["Access-Control-Allow-Origin"] == "https://front.example"
        assert "Location" in response.headers["Access-Control-Expose-Headers"]

    def test_problems_can_be_read_by_allowed_origins_too(self, settings):
        settings.CORS_ALLOWED_ORIGINS = ["https://front.example"]
        response = Client().get("/api/nothing", headers={"Origin": "https://front.example"})
        refused(response, 404, "not-found")
        assert response.headers["Access-Control-Allow-Origin"] == "https://front.example"

    def test_any_origin_may_be_allowed(self, settings):
        settings.CORS_ALLOW_ALL_ORIGINS = True
        assert post(Client(), Origin="https://any.example").status_code == 201
