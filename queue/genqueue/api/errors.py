"""Every answer of 400 or above under /api/ is application/problem+json, whoever made it.

- `problem_of_validation` turns pydantic's list of errors into one Problem with stable codes.
- `register` tells django-ninja what to do with each exception.
- `plain` is the Problem for what Django, ninja or a middleware answered by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from genqueue.problems import Problem, not_found, problem_response

# What Django and ninja answer by themselves, by status: (code, sentence).
_PLAIN: Mapping[int, tuple[str, str]] = {
    400: ("bad-request", "The request could not be understood."),
    403: ("forbidden", "This is not allowed."),
    404: ("not-found", "There is nothing at this address."),
    405: ("method-not-allowed", "This address does not answer this method."),
    413: ("body-too-large", "The body of the request is too large."),
    500: ("internal-error", "Something went wrong on the server; it has been logged."),
}

_WANTED = {
    "string": "a string",
    "int": "a whole number",
    "float": "a finite number",
    "finite": "a finite number",
    "bool": "true or false",
}


def problem_of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """422 with the first error's code and field, and all of them under `errors`."""
    found = [_one_error(error) for error in errors]
    return Problem(
        found[0]["code"],
        HTTPStatus.UNPROCESSABLE_ENTITY,
        found[0]["detail"],
        field=found[0]["field"] or None,
        errors=found,
    )


def register(api: NinjaAPI) -> None:
    """Tells ninja how to answer each exception; anything else is left to Django, which logs it."""

    def answers(of: Callable[[Any], Problem]) -> Callable[[HttpRequest, Any], HttpResponse]:
        return lambda request, error: problem_response(of(error))

    def unforeseen(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
        raise error

    api.add_exception_handler(Problem, answers(lambda problem: problem))
    api.add_exception_handler(
        ValidationError, answers(lambda error: problem_of_validation(error.errors))
    )
    api.add_exception_handler(Http404, answers(lambda error: not_found(_PLAIN[404][1])))
    api.add_exception_handler(RequestDataTooBig, answers(lambda error: plain(413)))
    api.add_exception_handler(HttpError, answers(lambda error: plain(error.status_code)))
    api.add_exception_handler(Exception, unforeseen)


def plain(status: int) -> Problem:
    """Says no more than the status does."""
    code, detail = _PLAIN.get(status) or _PLAIN[500 if status >= 500 else 400]
    return Problem(code, status, detail)


def _one_error(error: Mapping[str, Any]) -> dict[str, str]:
    # loc is ("body", "job", "steps") or ("path", "room"): the last word names the field.
    kind = str(error["type"])
    field = str(error["loc"][-1])[:100]
    wanted, _, what = kind.partition("_")
    if kind == "missing":
        return {"code": "missing-field", "field": field, "detail": f"{field} is required."}
    if kind == "extra_forbidden":
        return {"code": "unknown-field", "field": field, "detail": "There is no such field."}
    if kind == "string_unicode":  # only names: half surrogates in values go to diffusion's check
        detail = "The name of a field is not text."
        return {"code": "unknown-field", "field": "", "detail": detail}
    if what in ("type", "parsing", "number", "from_float") and wanted in _WANTED:
        detail = f"{field} must be {_WANTED[wanted]}; strings and numbers are not converted."
        return {"code": "wrong-type", "field": field, "detail": detail}
    return {"code": "invalid-value", "field": field, "detail": f"{field}: {error['msg']}."}
