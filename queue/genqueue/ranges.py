"""A file that never changes under its ETag, whole or one range of it (RFC 9110).

Django's FileResponse knows no ranges; WhiteNoise, which serves the static files, refuses a range of
one byte, and its ETags come from the clock.
"""

import re
from http import HTTPStatus
from pathlib import Path
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response

from genqueue.problems import Problem

_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*", re.IGNORECASE | re.ASCII)


def file_response(
    request: HttpRequest, path: Path, *, etag: str, content_type: str, caching: str
) -> HttpResponse:
    """200, 206, 304, or 200 without a body to HEAD. Read into memory: for files of some MB.

    etag: strong, with its quotes. Raises FileNotFoundError, and Problem 416
    `range-not-satisfiable` for a range that begins behind the end. Several ranges, and what is no
    range at all, are answered with the whole file, as RFC 9110 allows.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        start, stop, status = 0, size, HTTPStatus.OK
        unchanged = get_conditional_response(request, etag=etag)
        # request.method says GET to HEAD as well (genqueue.api.middleware).
        head = request.META["REQUEST_METHOD"] == "HEAD"
        wanted = None if head else _wanted(request, size, etag)
        if unchanged is not None and unchanged.status_code == HTTPStatus.NOT_MODIFIED:
            response = HttpResponse(status=HTTPStatus.NOT_MODIFIED)
        else:
            if wanted is not None:
                (start, stop), status = wanted, HTTPStatus.PARTIAL_CONTENT
            file.seek(start)
            content = b"" if head else file.read(stop - start)
            response = HttpResponse(content, status=status, content_type=content_type)
            response.headers["Content-Length"] = str(stop - start)
            if wanted is not None:
                response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = caching
    return response


def _wanted(request: HttpRequest, size: int, etag: str) -> tuple[int, int] | None:
    """(start, stop) of the one range that was asked for; None for the whole file."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    if start >= stop:
        raise Problem(
            "range-not-satisfiable",
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"The file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, stop
