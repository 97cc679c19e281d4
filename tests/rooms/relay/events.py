"""Events as Trystero 0.25.4 makes them, signed with a key of the test's own."""

import hashlib
import json
import time
from typing import Any

from coincurve import PrivateKey

KEY = PrivateKey(b"\x07" * 32)
PEER = "0aB1cD2eF3gH4iJ5kL6m"
TOPIC = "2421710125621821915214316823814011318118319150226"
KIND = 22_083


def content(**more: Any) -> str:
    return json.dumps({"peerId": PEER, **more}, separators=(",", ":"))


def event(key: PrivateKey = KEY, **fields: Any) -> dict[str, Any]:
    """A right one; `fields` replace its own before it is signed."""
    made: dict[str, Any] = {
        "kind": KIND,
        "tags": [["x", TOPIC]],
        "created_at": int(time.time()),
        "content": content(),
        "pubkey": key.public_key.format()[1:].hex(),
        **fields,
    }
    signed = [0, *(made[name] for name in ("pubkey", "created_at", "kind", "tags", "content"))]
    text = json.dumps(signed, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
    return {**made, "id": digest.hex(), "sig": key.sign_schnorr(digest).hex()}


def request(subscription: str = "s" * 64, *topics: str, **more: Any) -> list[Any]:
    """A REQ as Trystero sends it."""
    filter_ = {"kinds": [KIND], "since": int(time.time()), "#x": list(topics or (TOPIC,)), **more}
    return ["REQ", subscription, filter_]
