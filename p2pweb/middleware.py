"""The Content-Security-Policy of every page.

`request.csp_nonce` is the nonce for the one inline script there is, the import map.
"""

import secrets
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from rooms.policy import origins, policy

Answer = Callable[[HttpRequest], HttpResponseBase]
AsyncAnswer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def security_headers(get_response: Answer | AsyncAnswer) -> Answer | AsyncAnswer:
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            _make_nonce(request)
            response: HttpResponseBase = await get_response(request)
            return _with_headers(request, response)

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        _make_nonce(request)
        response = get_response(request)
        assert isinstance(response, HttpResponseBase)
        return _with_headers(request, response)

    return answer


def _make_nonce(request: HttpRequest) -> None:
    request.csp_nonce = secrets.token_urlsafe(16)  # type: ignore[attr-defined]


def _with_headers(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    nonce: str = request.csp_nonce  # type: ignore[attr-defined]
    relays = origins(settings.P2PWEB_RELAYS) if settings.P2PWEB_MESH else []
    response.headers.setdefault("Content-Security-Policy", policy(f"'nonce-{nonce}'", relays))
    response.headers.setdefault("X-Frame-Options", "DENY")
    return response
