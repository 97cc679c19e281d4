"""What only the API has: the bodies and parameters it takes, problems, and its own answers.

Everything else that it answers with is in `genqueue.shapes`. `JobRequest` checks types only; ranges
depend on the model and are checked by `diffusion.settings`.
"""

from typing import Annotated, Literal

from django.conf import settings
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from genqueue.equipment import LONGEST_DEVICE
from genqueue.helpers import LONGEST_NAME, MOST_MODELS
from genqueue.shapes import JobJson, ModelJson, PackageJson, RoomWorkerJson, shape

RoomId = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,64}$",
            "description": "The id of a room. A room exists as soon as somebody uses its id.",
            "example": "our-living-room",
        }
    ),
]
JobId = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
ModelName = Annotated[str, WithJsonSchema({"type": "string", "example": "prx-emoji"})]
Variant = Annotated[str, WithJsonSchema({"type": "string", "example": "f16"})]
ShardHash = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{64}$"})]
ModelId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ImageNumber = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 0, "example": 0})]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("It must be one line of printable characters")
    return text


OneLine = Annotated[str, StringConstraints(min_length=1), AfterValidator(_printable)]


class Shape(BaseModel):
    """An answer. It has all of these members and no others."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


LIMITS = settings.P2PWEB_LIMITS
LONGEST_PROMPT = {"maxLength": LIMITS["prompt_characters"]}


def _documented(minimum: float, maximum: float, example: float) -> dict[str, float]:
    return {"minimum": minimum, "maximum": maximum, "example": example}


class JobRequest(BaseModel):
    """What to draw. What is absent or null is chosen for you: the model's defaults, a random seed.

    Types are strict: "8", 8.0 and true are not the number 8.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "example": {
                "prompt": "a rocket above a full moon on a black background",
                "steps": 8,
                "seed": 7,
            }
        },
    )

    prompt: str = Field(
        json_schema_extra={"minLength": 1, "maxLength": LIMITS["prompt_characters"]}
    )
    """Must hold something that the model's text cleaning keeps. PRX's cleaning deletes Chinese,
    Japanese and Korean ideographs, web addresses and mark-up."""
    negative_prompt: str | None = Field(
        None, json_schema_extra={"maxLength": LIMITS["prompt_characters"]}
    )
    """What the picture should not show; used when guidance is above 1."""
    model: str | None = None
    """A name from GET /api/models."""
    width: int | None = Field(None, json_schema_extra={"example": 256})
    """Pixels; a multiple of the model's `side_multiple`, within its limits."""
    height: int | None = Field(None, json_schema_extra={"example": 256})
    """Pixels; a multiple of the model's `side_multiple`, within its limits."""
    steps: int | None = Field(None, json_schema_extra=_documented(1, LIMITS["steps"], 8))  # type: ignore[arg-type]
    guidance: float | None = Field(
        None,
        allow_inf_nan=False,
        json_schema_extra=_documented(1, 20, 4),  # type: ignore[arg-type]
    )
    """1 means none."""
    seed: int | None = Field(None, json_schema_extra=_documented(0, 2**32 - 1, 7))  # type: ignore[arg-type]
    """Image i of the job uses seed + i modulo 2^32."""
    num_images: int | None = Field(None, json_schema_extra=_documented(1, LIMITS["num_images"], 1))  # type: ignore[arg-type]


@shape
class CreatedJobJson(JobJson):
    """A new job, with what only its maker gets."""

    token: str
    """Cancels this job: Authorization: Bearer <token>. Shown only this once."""
    room_paused: bool
    """The room's owner has paused its queue; the job waits."""


class HelperRequest(BaseModel):
    """A worker that its owner lets help in one room. `manage.py helper` is such a worker."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    name: OneLine = Field(max_length=LONGEST_NAME, json_schema_extra={"example": "attic"})
    """What people in the room see it as."""
    device: OneLine = Field(
        max_length=LONGEST_DEVICE, json_schema_extra={"example": "cuda NVIDIA H200"}
    )
    software: bool = False
    """No GPU: the processor computes."""
    variant: Literal["f32", "bf16", "f16", "int8", "int4"] = "f32"
    """How it stores weights."""
    models: list[ModelId] = Field(min_length=1, max_length=MOST_MODELS)
    """What it has: the `model_id` that packages of the model have (docs/packages.md)."""


class HelperJson(Shape):
    """What a helper needs to begin."""

    id: str
    """Of the worker that it is now; chunks and pictures name it."""
    token: str
    """Opens the socket: Authorization: Bearer <token>. Shown only this once."""
    socket: str
    """The address of the WebSocket; docs/api-websocket.md describes its messages."""
    models: dict[str, str]
    """The names here of what it has, and their ids. Chunks name models as the server does."""


class JoinJson(Shape):
    """What joining did."""

    room: str
    joined: bool
    """False when the server's worker already helped in this room."""
    detail: str
    workers: list[RoomWorkerJson]
    helper: HelperJson | None
    """Of a worker that was described; null without a body."""


class ModelsJson(Shape):
    models: list[ModelJson]


class PackagesJson(Shape):
    packages: list[PackageJson]


class FieldProblem(BaseModel):
    code: str
    field: str
    detail: str


class ProblemJson(BaseModel):
    """RFC 9457. Programs look at `code`, which is stable; people read `detail`."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    """The wrong field, if it is one."""
    errors: list[FieldProblem] | None = None
    """All wrong fields, when several were checked at once."""
