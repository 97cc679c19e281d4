"""Ended jobs, page by page from the newest to the oldest.

A cursor is the place of a job in the order in which jobs were made, not the job: it stays right
when that job is removed. It is opaque to clients; in an address it stands as `<microseconds>.<id>`.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from genqueue.models import JobQuerySet

_CURSOR = re.compile(r"([0-9]{1,17})\.([0-9a-f]{32})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cursor(NamedTuple):
    created_at: datetime
    job_id: UUID

    def __str__(self) -> str:
        return f"{(self.created_at - _EPOCH) // timedelta(microseconds=1)}.{self.job_id.hex}"


def cursor_in(text: str) -> Cursor:
    """Raises ValueError for what is no cursor."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise ValueError("not a cursor")
    return Cursor(_EPOCH + timedelta(microseconds=int(match[1])), UUID(match[2]))


def newest(
    jobs: JobQuerySet, size: int, before: Cursor | None = None, columns: tuple[str, ...] = ()
) -> tuple[list[tuple[Any, ...]], str | None]:
    """(id, the columns) of at most `size` of the jobs made before the cursor (None: of all), the
    newest first, and the cursor of those before them; None when there are none.

    Rows, not jobs: whoever shows many knows most of them from the last time.
    """
    if before is not None:
        jobs = jobs.made_before(*before)
    rows = jobs.order_by("-created_at", "-pk").values_list("pk", "created_at", *columns)
    found = list(rows[: size + 1])
    page = [(pk, *rest) for pk, _created_at, *rest in found[:size]]
    if len(found) <= size:
        return page, None
    last_id, created_at, *_rest = found[size - 1]
    return page, str(Cursor(created_at, last_id))
