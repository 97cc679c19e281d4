"""The cookie that says who asks, the public name of a client, and the tokens of jobs."""

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from genqueue import clients


def answered(request, use=clients.client_of):
    """What the middleware sends after a view that asked for the client."""

    def view(request):
        use(request)
        return HttpResponse()

    return clients.client_middleware(view)(request)


def request_with(cookie=None, **extra):
    request = RequestFactory().get("/", **extra)
    if cookie is not None:
        request.COOKIES[clients.COOKIE_NAME] = cookie
    return request


def test_a_client_id_has_128_random_bits():
    ids = {clients.new_client_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(bytes.fromhex(client_id)) == 16 for client_id in ids)


def test_a_new_client_is_sent_its_cookie_and_known_by_it():
    request = request_with()
    response = answered(request)
    cookie = response.cookies[clients.COOKIE_NAME]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert not cookie["secure"]
    client_id = clients.client_of(request)
    assert clients.client_from_cookies({clients.COOKIE_NAME: cookie.value}) == client_id
    assert clients.known_client(request_with(cookie.value)) == client_id


def test_over_https_the_cookie_stays_on_https():
    response = answered(request_with(**{"wsgi.url_scheme": "https"}))
    assert response.cookies[clients.COOKIE_NAME]["secure"]


def test_within_one_request_a_new_client_is_one_client():
    request = request_with()
    assert clients.client_of(request) == clients.client_of(request)


def test_a_known_client_is_sent_nothing():
    assert not answered(request_with(clients.signed("a" * 32))).cookies


def test_who_only_looks_is_sent_nothing():
    assert not answered(request_with(), use=clients.known_client).cookies


def test_an_old_cookie_is_renewed_for_the_same_client(monkeypatch):
    old = clients.signed("a" * 32)
    monkeypatch.setattr(clients, "COOKIE_RENEWED_AFTER", -1)
    renewed = answered(request_with(old)).cookies[clients.COOKIE_NAME].value
    assert clients.client_from_cookies({clients.COOKIE_NAME: renewed}) == "a" * 32


@pytest.mark.parametrize(
    "cookie", ["", "a" * 32, "a" * 32 + ":x:y", ":::", "\N{ROCKET}", "\ud800", "x" * 5000]
)
def test_a_cookie_that_we_did_not_sign_is_nobodys(cookie):
    assert clients.known_client(request_with(cookie)) is None


def test_a_signed_value_that_is_no_client_id_is_nobodys():
    assert clients.known_client(request_with(clients.signed("alice"))) is None


def test_cookies_signed_with_a_retired_key_still_count(settings):
    cookie = clients.signed("a" * 32)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "new"
    assert clients.known_client(request_with(cookie)) == "a" * 32


async def test_the_middleware_works_in_asynchronous_sites_too():
    async def view(request):
        clients.client_of(request)
        return HttpResponse()

    response = await clients.client_middleware(view)(request_with())
    assert clients.COOKIE_NAME in response.cookies


def test_a_label_is_short_stable_and_not_the_id():
    label = clients.client_label("a" * 32)
    assert label == clients.client_label("a" * 32)
    assert label != clients.client_label("b" * 32)
    assert len(label) == 10
    assert label not in "a" * 32


def test_of_a_token_only_a_hash_is_kept():
    token, stored = clients.new_job_token()
    assert token not in stored
    assert clients.token_matches(token, stored)
    for wrong in ("", "x", token[:-1], stored, "\ud800", "\N{ROCKET}"):
        assert not clients.token_matches(wrong, stored)
    assert not clients.token_matches("", "")
    assert not clients.token_matches(token, "")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Bearer", None), ("Bearer ", None),
        ("Basic abc", None), ("", None), ("abc", None),
    ],
)  # fmt: skip
def test_a_token_comes_in_the_authorization_header(header, token):
    request = RequestFactory().get("/", headers={"Authorization": header})
    assert clients.bearer_token(request) == token
