"""What every call under /api/ has in common, around all other middleware.

- HEAD is answered as GET (the server leaves out the body), OPTIONS with Allow.
- An answer of 400 or above that Django, ninja or a middleware made as HTML becomes
  application/problem+json.
"""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from genqueue.api.errors import plain
from genqueue.problems import PROBLEM_CONTENT_TYPE

Answer = Callable[[HttpRequest], HttpResponse]
AsyncAnswer = Callable[[HttpRequest], Awaitable[HttpResponse]]

API_PREFIX = "/api/"
_JSON = (PROBLEM_CONTENT_TYPE, "application/json")  # health says 503 in its own words


@sync_and_async_middleware
def api_middleware(get_response: Answer | AsyncAnswer) -> Answer | AsyncAnswer:
    """HEAD as GET, OPTIONS with Allow, and no HTML errors under /api/."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponse:
            if not request.path_info.startswith(API_PREFIX):
                response: HttpResponse = await get_response(request)
                return response
            method = _head_as_get(request)
            response = await get_response(request)
            return _dressed(request, method, response)

        return answer_async

    def answer(request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(API_PREFIX):
            return get_response(request)  # type: ignore[return-value]
        method = _head_as_get(request)
        return _dressed(request, method, get_response(request))  # type: ignore[arg-type]

    return answer


def _head_as_get(request: HttpRequest) -> str | None:
    """The method that was asked for. The server leaves out the body of what answers a HEAD."""
    method = request.method
    if method == "HEAD":
        request.method = "GET"
    return method


def _dressed(request: HttpRequest, method: str | None, response: HttpResponse) -> HttpResponse:
    request.method = method
    if response.status_code < HTTPStatus.BAD_REQUEST:
        return response
    if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = _allowed(response.headers.get("Allow", ""))
        if method == "OPTIONS":
            response.status_code = HTTPStatus.NO_CONTENT
            response.content = b""
            return response
    if not response.headers.get("Content-Type", "").startswith(_JSON):
        # In place: the headers that others set (Allow, Vary, CORS, cookies) stay.
        response.content = json.dumps(plain(response.status_code).as_json()).encode()
        response.headers["Content-Type"] = PROBLEM_CONTENT_TYPE
        response.headers["Content-Length"] = str(len(response.content))
        response.headers["Cache-Control"] = "no-store"
    return response


def _allowed(methods: str) -> str:
    allowed = {method.strip() for method in methods.split(",") if method.strip()} | {"OPTIONS"}
    if "GET" in allowed:
        allowed.add("HEAD")
    return ", ".join(sorted(allowed))
