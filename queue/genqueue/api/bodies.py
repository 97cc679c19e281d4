"""Reads the JSON body of a request, strictly, before django-ninja looks at it.

Only application/json counts: browsers send that across sites only after a preflight, so a form on
another site cannot make a job in a visitor's name. The size is checked while reading, because a
chunked body has no Content-Length. NaN, Infinity and 1e999 are not JSON numbers here.
"""

import json
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from math import isfinite
from typing import Any, NoReturn, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.http.request import UnreadablePostError
from ninja.parser import Parser

from genqueue.problems import Problem, problem_response

View = Callable[..., HttpResponseBase]


class JsonParser(Parser):
    """Hands ninja the object that `reads_json` has read."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        return cast(dict[str, Any], request.json_body)  # type: ignore[attr-defined]


def reads_json(run: View) -> View:
    """For `decorate_view`: refuses what is not a JSON object before ninja validates its fields."""

    @wraps(run)
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            data = body_of(request)
            request.json_body = parsed(data, request.content_type)  # type: ignore[attr-defined]
            request._body = data  # what request.body returns
        except Problem as problem:
            return problem_response(problem)
        return run(request, *args, **kwargs)

    return view


def body_of(request: HttpRequest) -> bytes:
    """The whole body; Problem 413 when it is larger than the limit."""
    limit: int = settings.P2PWEB_LIMITS["body_bytes"]
    try:
        data = request.read(limit + 1)
    except UnreadablePostError as error:
        raise Problem(
            "incomplete-body", HTTPStatus.BAD_REQUEST, "The body of the request broke off."
        ) from error
    if len(data) > limit:
        raise Problem(
            "body-too-large",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body may have {limit} bytes.",
            limit=limit,
        )
    return data


def parsed(data: bytes, content_type: str | None) -> dict[str, Any]:
    """The JSON object in `data`; Problem 415 or 400 when it is none."""
    if content_type != "application/json":
        raise Problem(
            "wrong-content-type",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "Send a JSON object with Content-Type: application/json.",
            headers={"Accept": "application/json"},
        )
    try:
        value = json.loads(
            data.decode(), parse_constant=_not_json, parse_float=_finite, parse_int=_short
        )
    except RecursionError as error:
        raise _broken("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise _broken("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _broken(f"{error.msg}, line {error.lineno}, column {error.colno}") from error
    if not isinstance(value, dict):
        raise Problem(
            "not-an-object", HTTPStatus.UNPROCESSABLE_ENTITY, "The body must be a JSON object."
        )
    return value


def _broken(why: str) -> Problem:
    return Problem("broken-json", HTTPStatus.BAD_REQUEST, f"The body is not JSON: {why}.")


def _not_json(constant: str) -> NoReturn:
    raise _broken(f"{constant} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise _broken("a number is too large")
    return value


def _short(digits: str) -> int:
    if len(digits) > 40:  # no field is near; int() refuses from 4,300 digits on
        raise _broken("a number has too many digits")
    return int(digits)
