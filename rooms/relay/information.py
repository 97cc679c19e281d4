"""The relay's NIP-11 document: what it is, and what it takes."""

from typing import Any

from rooms.relay.events import EPHEMERAL
from rooms.relay.limits import Limits

VERSION = "0.1.0"
CONTENT_TYPE = "application/nostr+json"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
}
FOR_PEOPLE = "A Nostr relay, for signalling between browsers only. Connect to it by WebSocket.\n"


def wants_document(accept: str) -> bool:
    """Whether an Accept header names the type of the document."""
    return any(part.partition(";")[0].strip().lower() == CONTENT_TYPE for part in accept.split(","))


def document(limits: Limits) -> dict[str, Any]:
    return {
        "name": "P2P WebGPU Diffusion",
        "description": (
            "Signalling for rooms of browsers: ephemeral events with an x tag and Trystero's"
            " content. Nothing is stored."
        ),
        "software": "p2p-webgpu-diffusion",
        "version": VERSION,
        "supported_nips": [1, 11],
        "limitation": {
            "max_message_length": limits.message_bytes,
            "max_subscriptions": limits.subscriptions,
            "max_subid_length": limits.subscription_characters,
            "max_event_tags": limits.tags,
            "max_content_length": limits.content_bytes,
            "created_at_lower_limit": limits.clock_seconds,
            "created_at_upper_limit": limits.clock_seconds,
            "auth_required": False,
            "payment_required": False,
            "restricted_writes": True,
        },
        "retention": [{"kinds": [[EPHEMERAL.start, EPHEMERAL.stop - 1]], "time": 0}],
    }
