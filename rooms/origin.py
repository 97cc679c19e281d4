"""Which pages may open a WebSocket: by full origin, those of this very site.

Channels' AllowedHostsOriginValidator compares hosts alone, so a page on another port or without
TLS would pass. Here scheme, host and port must be those the socket itself was opened on, or an
origin of the setting CSRF_TRUSTED_ORIGINS. A connection without an Origin is no browser: refused.

The relay, which knows no visitor and gives nothing of the site away, is open to others as well: to
everybody, unless the setting P2PWEB_RELAY_ORIGINS says to whom.
"""

from typing import Any
from urllib.parse import urlsplit

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import validate_host

PORTS = {"http": 80, "https": 443}


class SameOriginValidator:
    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(
        self, scope: dict[str, Any], receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Any:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        target = self.application if self.allows(scope, headers, origin) else WebsocketDenier()
        return await target(scope, receive, send)

    def allows(self, scope: dict[str, Any], headers: dict[bytes, bytes], origin: str) -> bool:
        return _same_origin(scope, headers, origin) or _among(settings.CSRF_TRUSTED_ORIGINS, origin)


class RelayOriginValidator(SameOriginValidator):
    def allows(self, scope: dict[str, Any], headers: dict[bytes, bytes], origin: str) -> bool:
        others: list[str] = settings.P2PWEB_RELAY_ORIGINS
        return "*" in others or _among(others, origin) or super().allows(scope, headers, origin)


def _among(origins: list[str], origin: str) -> bool:
    parsed = _parsed(origin)
    return parsed is not None and any(_parsed(other) == parsed for other in origins)


def _same_origin(scope: dict[str, Any], headers: dict[bytes, bytes], origin: str) -> bool:
    host = headers.get(b"host", b"").decode("latin-1")
    asked = _parsed(origin)
    if asked is None:
        return False
    own = _parsed(f"{_scheme(scope, headers, asked[0], host)}://{host}")
    hosts = settings.ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]
    return own == asked and validate_host(own[1], hosts)


def _scheme(scope: dict[str, Any], headers: dict[bytes, bytes], asked: str, host: str) -> str:
    """http or https. Daphne does not say whether a socket came by TLS. One port speaks one scheme,
    so with a port in the Host header the page's own word is good enough."""
    if "scheme" in scope:
        return "https" if scope["scheme"] == "wss" or _tls_proxy(headers) else "http"
    if _tls_proxy(headers) or (scope.get("server") or (None, 0))[1] == PORTS["https"]:
        return "https"
    return asked if host.rpartition(":")[2].isdigit() else "http"


def _tls_proxy(headers: dict[bytes, bytes]) -> bool:
    """Whether a proxy that the site trusts (SECURE_PROXY_SSL_HEADER) says it was https."""
    trusted = settings.SECURE_PROXY_SSL_HEADER
    if not trusted:
        return False
    name, value = trusted
    header = name.removeprefix("HTTP_").replace("_", "-").lower().encode()
    return headers.get(header, b"").decode("latin-1") == value


def _parsed(origin: str) -> tuple[str, str, int] | None:
    """(scheme, host, port); None for what is no http origin."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/"):
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts.scheme, host, port or PORTS[parts.scheme]
