"""The shapes of the API's JSON, for OpenAPI; `JobRequest` also checks what comes in.

Answers are made by `genqueue.representation` and `genqueue.statistics`, the same JSON that pages
and sockets get; a test holds them against these schemas, which allow no further members.
`JobRequest` checks types only. Ranges depend on the model and are checked by `diffusion.settings`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

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
ImageNumber = Annotated[
    str, WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 15, "example": 0})
]


class Shape(BaseModel):
    """An answer. It has all of these members and no others."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


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

    prompt: str = Field(json_schema_extra={"minLength": 1, "maxLength": 2000})
    """Must hold something that the model's text cleaning keeps. PRX's cleaning deletes Chinese,
    Japanese and Korean ideographs, web addresses and mark-up."""
    negative_prompt: str | None = Field(None, json_schema_extra={"maxLength": 2000})
    """What the picture should not show; used when guidance is above 1."""
    model: str | None = None
    """A name from GET /api/models."""
    width: int | None = Field(None, json_schema_extra={"example": 256})
    """Pixels; a multiple of the model's `side_multiple`, within its limits."""
    height: int | None = Field(None, json_schema_extra={"example": 256})
    """Pixels; a multiple of the model's `side_multiple`, within its limits."""
    steps: int | None = Field(None, json_schema_extra=_documented(1, 100, 8))  # type: ignore[arg-type]
    guidance: float | None = Field(
        None,
        allow_inf_nan=False,
        json_schema_extra=_documented(1, 20, 4),  # type: ignore[arg-type]
    )
    """1 means none."""
    seed: int | None = Field(None, json_schema_extra=_documented(0, 2**32 - 1, 7))  # type: ignore[arg-type]
    """Image i of the job uses seed + i modulo 2^32."""
    num_images: int | None = Field(None, json_schema_extra=_documented(1, 16, 1))  # type: ignore[arg-type]


class ErrorJson(Shape):
    code: str
    detail: str


class WorkerBrief(Shape):
    """Who computes an image, or did."""

    id: str
    name: str
    kind: str
    """celery (the server's), tab or remote."""
    device: str


State = Literal["queued", "running", "done", "failed", "cancelled"]


class ImageJson(Shape):
    index: int
    seed: int
    state: State
    step: int
    """Steps computed so far."""
    steps: int
    worker: WorkerBrief | None
    url: str | None
    """The finished picture, a PNG that carries its settings."""
    preview_url: str | None
    """A small WebP of the newest step; the address changes with the step."""
    seconds: float | None
    """Computing time, when it is finished."""


class JobJson(Shape):
    id: str
    room: str
    client: str
    """A public name of who asked, the same for all jobs of one client."""
    state: State
    position: int | None
    """Among the waiting jobs of all rooms; 1 starts next. Null once the job has started."""
    eta_seconds: float | None
    """Until the job is done. Null until each kind of its work was measured once, while no worker
    that may do it is online, and once the job has ended."""
    prompt: str
    negative_prompt: str
    model: str
    width: int
    height: int
    steps: int
    guidance: float
    seed: int
    num_images: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: ErrorJson | None
    images: list[ImageJson]


class CreatedJobJson(JobJson):
    """A new job, with what only its maker gets."""

    token: str
    """Cancels this job: Authorization: Bearer <token>. Shown only this once."""
    room_paused: bool
    """The room's owner has paused its queue; the job waits."""


class WorkerJson(WorkerBrief):
    state: str


class RoomJson(Shape):
    room: str
    title: str
    owner: str | None
    """The public name of the client who made the room."""
    paused: bool
    revision: int
    """Grows with every visible change."""
    jobs: list[JobJson]
    workers: list[WorkerJson]
    peers: int
    """Browser tabs that have this room open."""


class JoinJson(Shape):
    """What joining did."""

    room: str
    joined: bool
    """False when the server's worker already helped in this room."""
    detail: str
    workers: list[WorkerJson]


class VocabularyJson(Shape):
    """What the model was trained to draw, where that is known."""

    names: list[str]
    colours: list[str]
    relations: list[str]
    words: list[str]


class ModelJson(Shape):
    name: str
    title: str
    default: bool
    side_multiple: int
    min_side: int
    max_side: int
    default_width: int
    default_height: int
    default_steps: int
    default_guidance: float
    examples: list[str]
    vocabulary: VocabularyJson | None


class ModelsJson(Shape):
    models: list[ModelJson]


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


class SpreadJson(Shape):
    """Seconds, of the newest 500 jobs; null until there is one."""

    median: float | None
    p95: float | None


class StatsJson(Shape):
    rooms: int
    rooms_online: int
    """Rooms that somebody has open."""
    peers_online: int
    """Browser tabs in rooms."""
    helpers_online: int
    """Workers that are no tabs: the server's and remote ones."""
    jobs: dict[State, int]
    images: dict[State, int]
    images_last_minute: int
    images_in_all: int
    """Also counts what was removed since."""
    steps_last_minute: int
    steps_in_all: int
    wait_seconds: SpreadJson
    """From adding a job until a worker begins with it."""
    run_seconds: SpreadJson
    """From then until its last picture is finished."""
    uptime_seconds: float
    version: str
