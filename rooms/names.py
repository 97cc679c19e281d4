"""What people call themselves, as one short line of plain text. There are no accounts: nobody has
proved that a name is theirs, and it is shown beside the label that nobody chooses.

Twin of `plainName` in static/js/room/strangers.js.
"""

import unicodedata
from typing import Final

LONGEST_NAME: Final = 40
LONGEST_TEXT: Final = 4 * LONGEST_NAME
JOINERS: Final = "\u200c\u200d"  # parts of letters and of emoji


def plain_name(text: str) -> str:
    """At most 40 characters; empty when nothing would be seen of it."""
    spaced = (one if _is_plain(one) else " " for one in text[:LONGEST_TEXT])
    short = " ".join("".join(spaced).split())[:LONGEST_NAME].strip()
    return short if any(unicodedata.category(one)[0] in "LNPS" for one in short) else ""


def _is_plain(character: str) -> bool:
    return character in JOINERS or unicodedata.category(character)[0] not in "CZ"
