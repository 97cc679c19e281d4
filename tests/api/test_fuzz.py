"""Whatever is sent to /api/, the answer is never a 500, and every refusal is a documented problem.

Hypothesis makes methods, paths, bodies and headers that are almost right, and some that are not.
"""

import json
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genqueue import clients
from genqueue.api.documentation import PROBLEMS

pytestmark = pytest.mark.django_db

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)
some_text = st.one_of(
    any_text, st.sampled_from(["a rocket", "月", "\0", "\ud800", "x" * 2001, "http://a.com", ""])
)
numbers = st.one_of(
    st.integers(-2, 101),
    st.sampled_from([16, 64, 256, 272, 512, 2**31, 2**32, 2**63, 2**64, 10**30, -(10**30)]),
    st.floats(allow_nan=True, allow_infinity=True),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, some_text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "prompt", "negative_prompt", "model", "width", "height", "steps", "guidance", "seed",
    "num_images",
]  # fmt: skip
requests_for_jobs = st.fixed_dictionaries(
    {"prompt": st.one_of(st.just("a rocket"), json_values)},
    optional={
        name: st.one_of(st.sampled_from(["tiny", 1, 4.0, 8, 256]), json_values)
        for name in FIELDS[1:]
    }
    | {"x": json_values},
)
bodies = st.one_of(
    requests_for_jobs.map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="ignore")),
    requests_for_jobs.map(lambda value: json.dumps(value).encode()[:-1]),
    st.binary(max_size=200),
    st.just(b""),
)

segments = st.one_of(
    st.sampled_from(
        [
            "queue", "join", "jobs", "images", "models", "health", "stats", "kitchen", "{job}",
            "0.png", "1.png", "0", "preview.webp", "-1.png", "openapi.json", "", "..", "%00",
            "x" * 65, "%0a", "%ff", "%2e%2e",
        ]
    ),
    any_text.map(lambda text: quote(text.encode("utf-8", "surrogatepass"))),
)  # fmt: skip
paths = st.one_of(
    st.sampled_from(
        ["queue/kitchen", "join/kitchen", "jobs/{job}", "jobs/{job}/images/0.png",
         "jobs/{job}/images/0/preview.webp", "models", "health", "stats", "openapi.json", "docs",
         "packages", "packages/v1/tiny/f16/manifest.json", "packages/v1/tiny/f16/a.bin"]
    ),
    st.lists(segments, max_size=6).map("/".join),
)  # fmt: skip
queries = st.one_of(
    st.just(""),
    st.dictionaries(
        st.sampled_from(["step", "room", "x"]),
        st.one_of(any_text, numbers.map(str)).map(
            lambda text: quote(text.encode("utf-8", "surrogatepass"))
        ),
        max_size=2,
    ).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs.items())),
    st.text("=&%;abc0\xff", max_size=12),
)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Authorization": st.one_of(header_text, header_text.map("Bearer {}".format)),
        "Cookie": st.one_of(header_text, header_text.map(f"{clients.COOKIE_NAME}={{}}".format)),
        "Origin": st.one_of(
            header_text, st.sampled_from(["null", "http://testserver", "http://["])
        ),
        "Sec-Fetch-Site": st.one_of(header_text, st.sampled_from(["none", "cross-site"])),
        "Host": st.one_of(header_text, st.sampled_from(["testserver", "a:99999", "[::1"])),
        "If-None-Match": st.one_of(header_text, st.sampled_from(["*", 'W/"', '"a", "b'])),
        "If-Modified-Since": header_text,
        "Range": header_text,
        "Accept": header_text,
        "Accept-Encoding": header_text,
        "Content-Length": st.one_of(header_text, st.integers(-5, 10**6).map(str)),
        "X-Forwarded-For": header_text,
        "X-Forwarded-Proto": header_text,
        "Access-Control-Request-Method": header_text,
    },
)
methods = st.one_of(
    st.sampled_from(["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "BREW"]),
    st.text("ABCxyz-_0", min_size=1, max_size=10),
)
content_types = st.one_of(
    st.just("application/json"),
    st.sampled_from(
        ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b",
         "application/json; charset=utf-16", "application/json;charset=x", "APPLICATION/JSON",
         "multipart/form-data"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)  # fmt: skip


def is_right(response):
    """Never a 500; refusals are problems that the documentation knows."""
    assert response.status_code < 500, (response.status_code, response.content)
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = {} if response.request["method"] == "HEAD" else json.loads(response.content)
        if problem:
            assert PROBLEMS[problem["code"]][0] == response.status_code == problem["status"]
            assert problem["detail"]
    return True


@async_to_sync
async def send(method, address, body, cookies=None, **extra):
    """The answer of Django as it runs under Daphne."""
    browser = AsyncClient(raise_request_exception=False)
    browser.cookies.update(cookies or {})
    return await browser.generic(method, address, body, **extra)


unhurried = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def no_limits(settings):
    limits = {"room_jobs": 10**6, "client_jobs": 10**6, "jobs_a_minute_without_cookie": 10**6}
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | limits


@pytest.fixture
def job(alice, no_limits):
    response = alice.browser.post(
        "/api/queue/kitchen", {"prompt": "a rocket"}, content_type="application/json"
    )
    return response.json()["id"]


@unhurried
@given(methods, paths, queries, bodies, content_types, headers)
def test_any_request_gets_a_proper_answer(job, method, path, query, body, content_type, headers):
    address = "/api/" + path.replace("{job}", job)
    response = send(method, f"{address}?{query}", body, content_type=content_type, headers=headers)
    assert is_right(response)


@unhurried
@given(bodies)
def test_any_body_is_a_job_or_a_problem(alice, no_limits, body):
    response = send(
        "POST",
        "/api/queue/kitchen",
        body,
        cookies=alice.browser.cookies,
        content_type="application/json",
    )
    assert is_right(response)
    assert response.status_code in (201, 400, 415, 422)
