"""What both ends of a link hold each other to. Twin of static/js/room/transfer/limits.js."""

from dataclasses import dataclass
from typing import Final

STALLED_AFTER_SECONDS: Final = 15.0  # without progress
BUDGET_BYTES: Final = 2**27  # that one side may have unfinished at the other
MOST_UNFINISHED: Final = 256  # transfers, likewise
MOST_OVERDRAWN_BYTES: Final = 2**29  # announced, refused, and not worked off: shut out
COST_OF_A_REFUSAL_BYTES: Final = 2**20
LARGEST_BLOCK_BYTES: Final = 2**18

MESSAGE, BYTES, REQUEST, ANSWER, FAILURE, WANTED, BLOB = range(1, 8)


@dataclass(frozen=True, slots=True)
class Kind:
    """ordered: delivered as they were sent; when one fails, so does the link. short: may go in one
    frame."""

    most: int
    ordered: bool = False
    short: bool = False


KINDS: Final = {
    MESSAGE: Kind(2**23, ordered=True, short=True),
    BYTES: Kind(2**26, ordered=True),
    REQUEST: Kind(2**23, short=True),
    ANSWER: Kind(2**23, short=True),
    FAILURE: Kind(4096, short=True),
    WANTED: Kind(32, short=True),
    BLOB: Kind(2**26),
}
