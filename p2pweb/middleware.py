"""The Content-Security-Policy of every page.

`request.csp_nonce` is the nonce for the one inline script there is, the import map.
"""

import secrets
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

Answer = Callable[[HttpRequest], HttpResponseBase]
AsyncAnswer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'nonce-{nonce}'; "
    "connect-src 'self'; img-src 'self' blob:; style-src 'self'; font-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; worker-src 'self'; "
    "frame-ancestors 'none'"
)


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
    response.headers.setdefault("Content-Security-Policy", _POLICY.format(nonce=nonce))
    response.headers.setdefault("X-Frame-Options", "DENY")
    return response
