"""The Content-Security-Policy of every page: a header, or in the page where it is exported."""

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit


def origins(addresses: Iterable[str]) -> list[str]:
    """Of these addresses, each once: sources of a policy."""
    parts = [urlsplit(address) for address in addresses]
    return list(dict.fromkeys(f"{part.scheme}://{part.netloc}" for part in parts))


def is_socket(address: str) -> bool:
    """Whether that is the address of a WebSocket, such as a relay's."""
    parts = urlsplit(address)
    return parts.scheme in ("ws", "wss") and bool(parts.hostname)


def policy(script: str, connect: Sequence[str] = (), *, framed: str = "'none'") -> str:
    """script: the source of the one inline script there is, the import map: a nonce or its hash.
    connect: further origins that the page talks to. framed: who may frame it; empty where a policy
    cannot say so, in a <meta> element."""
    parts = {
        "default-src": "'none'",
        "script-src": f"'self' 'wasm-unsafe-eval' {script}",
        "connect-src": " ".join(["'self'", *connect]),
        "img-src": "'self' blob:",
        "style-src": "'self'",
        "font-src": "'self'",
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "worker-src": "'self'",
        "frame-ancestors": framed,
    }
    return "; ".join(f"{name} {sources}" for name, sources in parts.items() if sources)
