"""Who is asking, without accounts.

- A client is a 128-bit random id (32 hex digits) in a signed cookie. Whoever has the cookie is the
  client, so the id itself is never shown: others see `client_label`, a short HMAC of it.
- A job also has a token, returned once when the job is made; only its hash is stored.

Views call `client_of(request)`; `client_middleware` sends the cookie when a new id was made.
WebSocket consumers, which cannot set cookies, call `client_from_cookies(scope["cookies"])`.
"""

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from asgiref.sync import iscoroutinefunction
from django.core import signing
from django.http import HttpRequest, HttpResponseBase
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.decorators import sync_and_async_middleware

COOKIE_NAME = "p2pweb_client"
COOKIE_LIFETIME = timedelta(days=400)  # browsers keep no cookie for longer
COOKIE_RENEWED_AFTER = timedelta(days=30)

_CLIENT_ID = re.compile(r"[0-9a-f]{32}")

Answer = Callable[[HttpRequest], HttpResponseBase]
AsyncAnswer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


def new_client_id() -> str:
    """128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


def client_label(client_id: str) -> str:
    """The public name of a client: 10 hex digits that do not lead back to its id."""
    return salted_hmac("p2pweb.client-label", client_id, algorithm="sha256").hexdigest()[:10]


def signed(client_id: str) -> str:
    """The value of the cookie for this client."""
    return _signer().sign(client_id)


def client_from_cookies(cookies: Mapping[str, str]) -> str | None:
    """The client id in a request's or WebSocket's cookies; None when absent or not signed by us."""
    value = cookies.get(COOKIE_NAME)
    return None if value is None else _unsigned(value)


def known_client(request: HttpRequest) -> str | None:
    """The client who sent this request, or None; never makes a new one."""
    return getattr(request, "_new_client_id", None) or client_from_cookies(request.COOKIES)


def client_of(request: HttpRequest) -> str:
    """The client who sent this request; one without a cookie is given a new id and its cookie."""
    client_id = known_client(request)
    if client_id is None:
        client_id = new_client_id()
        request._new_client_id = client_id  # type: ignore[attr-defined]
    request._renew_client_id = client_id  # type: ignore[attr-defined]
    return client_id


@sync_and_async_middleware
def client_middleware(get_response: Answer | AsyncAnswer) -> Answer | AsyncAnswer:
    """Sends the cookie of a client whose id is new, or was signed more than 30 days ago."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = await get_response(request)
            _remember_client(request, response)
            return response

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        assert isinstance(response, HttpResponseBase)
        _remember_client(request, response)
        return response

    return answer


def _remember_client(request: HttpRequest, response: HttpResponseBase) -> None:
    client_id: str | None = getattr(request, "_renew_client_id", None)
    if client_id is None or _unsigned(request.COOKIES.get(COOKIE_NAME, ""), fresh=True):
        return
    response.set_cookie(
        COOKIE_NAME,
        signed(client_id),
        max_age=COOKIE_LIFETIME,
        httponly=True,
        samesite="Lax",
        secure=request.is_secure(),
    )


def _signer() -> signing.TimestampSigner:
    return signing.TimestampSigner(salt="p2pweb.client")


def _unsigned(value: str, fresh: bool = False) -> str | None:
    try:
        client_id = _signer().unsign(value, max_age=COOKIE_RENEWED_AFTER if fresh else None)
    except (signing.BadSignature, ValueError):
        return None
    return client_id if _CLIENT_ID.fullmatch(client_id) else None


def new_job_token() -> tuple[str, str]:
    """(token, its hash): the token goes to whoever made the job, the hash into the database."""
    token = secrets.token_urlsafe(32)
    return token, token_hash(token)


def token_hash(token: str) -> str:
    """64 hex digits. A token has 256 random bits, so a plain fast hash cannot be searched."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def token_matches(token: str, stored_hash: str) -> bool:
    """Compares in constant time; an empty stored hash matches nothing."""
    return bool(stored_hash) and constant_time_compare(token_hash(token), stored_hash)


def bearer_token(request: HttpRequest) -> str | None:
    """The token in `Authorization: Bearer ...`, or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
