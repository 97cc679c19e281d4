"""Refusals, as people and programs read them.

- `Problem` is the one exception for "no, and here is why"; it carries its own policy: the status,
  a stable `code`, the field that was wrong, headers such as Retry-After.
- `problem_response` is the one place that renders it, as application/problem+json (RFC 9457).

It does not know who raises it: the API, the pages and the room WebSocket all do.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from django.http import HttpResponse

PROBLEM_CONTENT_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818  (RFC 9457 names it so)
    """A request that cannot be granted.

    code: stable, kebab-case, for programs.  status: the HTTP status.  detail: for people.
    field: the name of the wrong field, if it is one.  headers: sent with the answer.
    extra: further members of the JSON object, such as `limit=100`; they must be JSON values.
    """

    def __init__(
        self,
        code: str,
        status: int,
        detail: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})
        self.extra = extra

    def as_json(self) -> dict[str, object]:
        """The members of RFC 9457, then `code`, `field` and the extra ones."""
        members: dict[str, object] = {
            **self.extra,
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.field is not None:
            members["field"] = self.field
        return members

    def __repr__(self) -> str:
        return f"Problem({self.code!r}, {self.status}, {self.detail!r})"


def not_found(detail: str, code: str = "not-found") -> Problem:
    """What strangers get too: whether a thing exists is told only to those who may see it."""
    return Problem(code, HTTPStatus.NOT_FOUND, detail)


def problem_response(problem: Problem) -> HttpResponse:
    response = HttpResponse(
        json.dumps(problem.as_json()),
        status=problem.status,
        content_type=PROBLEM_CONTENT_TYPE,
        headers=problem.headers,
    )
    response.headers.setdefault("Cache-Control", "no-store")
    return response
