"""The STUN and TURN servers that pages of the site are told of.

What is not right is refused where the settings are read, in words that name the variable: a browser
would say it to every visitor and to nobody who could mend it.
"""

import re
from collections.abc import Sequence
from typing import Final, TypedDict

MOST_ADDRESSES: Final = 8  # of STUN, and of the TURN server; twin of connection.js
LONGEST_ADDRESS: Final = 256
LONGEST_TEXT: Final = 512
NONE: Final = "none"

_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?)"
# RFC 7064 and RFC 7065
_STUN: Final = re.compile(rf"stuns?:{_HOST}(?::(\d{{1,5}}))?")
_TURN: Final = re.compile(rf"turns?:{_HOST}(?::(\d{{1,5}}))?(?:\?transport=(?:udp|tcp))?")


class Ice(TypedDict):
    """stun: none of its own is an empty list, then pages ask public ones; null: they ask none.
    turn: addresses of one server, or none.  relayOnly: its address instead of that of any tab."""

    stun: list[str] | None
    turn: list[str]
    username: str
    credential: str
    relayOnly: bool


def ice(
    stun: Sequence[str],
    turn: Sequence[str],
    *,
    username: str = "",
    credential: str = "",
    relay_only: bool = False,
) -> Ice:
    """stun: addresses, or the one word `none`. Raises ValueError for what browsers would refuse,
    for a TURN server without a name and a password, and for either without it."""
    without = list(stun) == [NONE]
    if not without:
        _check("P2PWEB_STUN_SERVERS", stun, _STUN, "stun:host:port")
    _check("P2PWEB_TURN_SERVERS", turn, _TURN, "turn:host:port or turns:host:port?transport=tcp")
    for name, text in (
        ("P2PWEB_TURN_USERNAME", username),
        ("P2PWEB_TURN_PASSWORD", credential),
    ):
        if turn and not text:
            raise ValueError(f"{name}: the TURN server of P2PWEB_TURN_SERVERS asks for it")
        if text and not turn:
            raise ValueError(f"{name} is of no use without P2PWEB_TURN_SERVERS")
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"{name} has more than {LONGEST_TEXT} characters")
    if relay_only and not turn:
        raise ValueError("P2PWEB_RELAY_ONLY: nobody could be met without P2PWEB_TURN_SERVERS")
    return Ice(
        stun=None if without else list(stun),
        turn=list(turn),
        username=username,
        credential=credential,
        relayOnly=relay_only,
    )


def _check(name: str, addresses: Sequence[str], form: re.Pattern[str], example: str) -> None:
    if len(addresses) > MOST_ADDRESSES:
        raise ValueError(f"{name}: at most {MOST_ADDRESSES} addresses, not {len(addresses)}")
    for address in addresses:
        fits = form.fullmatch(address) if len(address) <= LONGEST_ADDRESS else None
        if fits is None or not 0 < int(fits[1] or 1) < 2**16:
            raise ValueError(f"{name}: {address!r} is none such as {example}")
