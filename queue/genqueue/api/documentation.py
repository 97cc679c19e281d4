"""Every problem that the API can answer with, for OpenAPI, docs/api.md and the tests.

A test holds each answer of the API against this table, and the table against docs/api.md.
"""

from http import HTTPStatus
from typing import Any

from ninja import NinjaAPI
from pydantic import BaseModel

from genqueue.api.schemas import ProblemJson
from genqueue.problems import PROBLEM_CONTENT_TYPE, Problem

# code: (status, an example of its detail)
PROBLEMS: dict[str, tuple[int, str]] = {
    # What any call may answer
    "bad-request": (400, "The request could not be understood."),
    "forbidden": (403, "This is not allowed."),
    "not-found": (404, "There is nothing at this address."),
    "method-not-allowed": (405, "This address does not answer this method."),
    "internal-error": (500, "Something went wrong on the server; it has been logged."),
    "cross-site": (403, "Pages of other sites may not do this."),
    "invalid-room-id": (422, "A room id has 1 to 64 letters, digits, hyphens and underscores."),
    "no-such-job": (404, "There is no such job, or it is not yours to change."),
    "no-such-picture": (404, "This picture is not finished."),
    "no-such-package": (404, "There is no such package here. There is no such model."),
    "range-not-satisfiable": (416, "The file has 16777216 bytes."),
    "already-ended": (409, "This job is done: there is nothing left to cancel."),
    # The body
    "broken-json": (400, "The body is not JSON: Expecting value, line 1, column 1."),
    "incomplete-body": (400, "The body of the request broke off."),
    "body-too-large": (413, "The body may have 262144 bytes."),
    "wrong-content-type": (415, "Send a JSON object with Content-Type: application/json."),
    "not-an-object": (422, "The body must be a JSON object."),
    # Its fields
    "missing-field": (422, "prompt is required."),
    "unknown-field": (422, "There is no such field."),
    "wrong-type": (422, "steps must be a whole number; strings and numbers are not converted."),
    "invalid-value": (422, "step: Input is not valid."),
    "prompt-empty": (422, "The prompt is empty."),
    "prompt-cleaned-away": (422, "Nothing is left of the prompt after the cleaning."),
    "prompt-too-long": (422, "The prompt has 2001 characters; at most 2000 are allowed."),
    "prompt-not-text": (422, "The prompt holds a character that is not text."),
    "negative-prompt-too-long": (422, "The negative prompt has 2001 characters."),
    "negative-prompt-not-text": (422, "The negative prompt holds a character that is not text."),
    "unknown-model": (422, "There is no such model here. There are: prx-emoji."),
    "side-not-multiple": (422, "The width must be a multiple of 16 pixels for this model."),
    "side-out-of-range": (422, "The width must be between 64 and 512 pixels for this model."),
    "steps-out-of-range": (422, "The steps must be between 1 and 100; 0 is not."),
    "guidance-out-of-range": (422, "The guidance must be between 1 and 20; 0 is not."),
    "num-images-out-of-range": (422, "The number of images must be between 1 and 16; 0 is not."),
    "seed-out-of-range": (422, "The seed must be between 0 and 4294967295; -1 is not."),
    # The queue
    "client-removed": (403, "The owner of this room has removed you from it."),
    "tabs-not-wanted": (403, "The owner of this room does not let tabs compute in it."),
    "shut-out": (
        403,
        "What you computed here was found wrong, so you compute no more in this room.",
    ),
    "network-shut-out": (
        403,
        "What somebody at your network address computed here was found wrong: try again in 10"
        " minutes.",
    ),
    "too-many-tabs": (429, "8 tabs compute here already; more are not allowed."),
    "room-full": (429, "This room has 100 unfinished jobs; at most 100 are allowed."),
    "client-full": (429, "You have 20 unfinished jobs; at most 20 are allowed."),
    "too-many-jobs-without-cookie": (
        429,
        "Callers without our cookie may make 20 jobs a minute from one address.",
    ),
    "too-many-helpers": (429, "At most 30 helpers a minute can join from one address."),
    "too-many-rooms": (
        429,
        "At most 60 rooms a minute can be made from one address. Use one of them, or wait.",
    ),
    "no-model": (503, "This server has no model to draw with."),
}


SETTINGS_PROBLEMS = (
    "prompt-empty", "prompt-cleaned-away", "prompt-too-long", "prompt-not-text",
    "negative-prompt-too-long", "negative-prompt-not-text", "unknown-model", "side-not-multiple",
    "side-out-of-range", "steps-out-of-range", "guidance-out-of-range", "num-images-out-of-range",
    "seed-out-of-range",
)  # fmt: skip


def problems(*codes: str) -> dict[str, Any]:
    """`openapi_extra` for a call that can answer with these codes, besides those of every call."""
    by_status: dict[int, list[str]] = {}
    for code in ("internal-error", *codes):
        by_status.setdefault(PROBLEMS[code][0], []).append(code)
    return {
        "responses": {
            status: {  # whole numbers, as ninja's own: "200" beside 200 would be one key twice
                "description": f"{HTTPStatus(status).phrase}: {', '.join(of_status)}",
                "content": {
                    PROBLEM_CONTENT_TYPE: {
                        "schema": {"$ref": "#/components/schemas/ProblemJson"},
                        "examples": {code: {"value": _example(code)} for code in of_status},
                    }
                },
                **_retry_after(status),
            }
            for status, of_status in sorted(by_status.items())
        }
    }


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """The same for a call that may come with this object, or without any body."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def binary(content_type: str, extra: dict[str, Any], moved: str = "") -> dict[str, Any]:
    """The same for a call that answers with a file. moved: when it redirects instead."""
    responses = {
        200: {
            "description": "OK",
            "content": {content_type: {"schema": {"type": "string", "format": "binary"}}},
        },
        **({302: {"description": f"Found: {moved}"}} if moved else {}),
        304: {"description": "Not Modified: the ETag in If-None-Match is still right"},
        **extra["responses"],
    }
    return {"responses": responses}


class DocumentedAPI(NinjaAPI):
    """Adds to ninja's OpenAPI what it does not know: problems, the cookie and the token."""

    def get_openapi_schema(self, **where: Any) -> Any:
        schema = super().get_openapi_schema(**where)
        components = schema["components"]
        described = ProblemJson.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"].update(described.pop("$defs"))
        components["schemas"]["ProblemJson"] = described
        components["securitySchemes"] = {
            "client": {
                "type": "apiKey",
                "in": "cookie",
                "name": "p2pweb_client",
                "description": "Set by the first answer. Whoever sends it is the same client.",
            },
            "job": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token in the answer that made the job.",
            },
        }
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                if method in ("post", "delete"):
                    operation["security"] = [{"client": []}, {}]
                if method == "delete" and "{job_id}" in path:
                    operation["security"] = [{"client": []}, {"job": []}]
        return schema


def _example(code: str) -> dict[str, object]:
    status, detail = PROBLEMS[code]
    return Problem(code, status, detail).as_json()


def _retry_after(status: int) -> dict[str, Any]:
    if status != HTTPStatus.TOO_MANY_REQUESTS:
        return {}
    seconds = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
    return {"headers": {"Retry-After": seconds}}
