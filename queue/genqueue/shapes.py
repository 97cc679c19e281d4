"""The JSON that everybody gets: API, pages and sockets alike.

`representation`, `statistics` and `choices` make it; mypy holds them to these shapes, and OpenAPI
describes the API with the same ones (`api.schemas` adds what only the API has).
"""

from typing import Literal

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic cannot read Python 3.11's own

State = Literal["queued", "running", "done", "failed", "cancelled"]

shape = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@shape
class WorkerJson(TypedDict):
    """Who computes an image, or did."""

    id: str
    name: str
    kind: Literal["celery", "tab", "remote"]
    """celery is the server's, tab a page that somebody in the room has open."""
    client: str | None
    """The public name of whose tab it is; null for the server's own."""
    device: str
    kernels: str
    """Which variants of the WebGPU kernels it runs, such as "baseline"; empty where it has none."""


@shape
class RoomWorkerJson(WorkerJson):
    """A worker that helps in a room."""

    state: Literal["loading", "ready", "gone"]
    seconds_a_step: float | None
    """As it was measured last, with all that others wait for; null before its first steps."""
    at_work: "AtWorkJson | None"
    """What it computes of this room at this moment."""
    lacks: dict[str, int]
    """By kind of chunk the pixels of the smallest picture for which it had too little memory; 1 of
    `encode`."""


@shape
class AtWorkJson(TypedDict):
    """A leased chunk."""

    job: str
    index: int | None
    """Of the image; null of `encode`, which is done once a job, and of `check`."""
    kind: Literal["encode", "denoise", "decode", "check"]
    start: int
    stop: int
    """The steps of `denoise`, without stop."""


@shape
class ShutOutJson(TypedDict):
    """Somebody whose result was found wrong, and who computes no more in this room."""

    name: str
    """Of the worker."""
    client: str
    """The public name of whose it was."""
    reason: str
    """For people: what was wrong, and by how much."""
    at: str


@shape
class ImageJson(TypedDict):
    index: int
    seed: int
    state: State
    step: int
    """Steps computed so far."""
    steps: int
    worker: WorkerJson | None
    url: str | None
    """The finished picture, a PNG that carries its settings."""
    preview_url: str | None
    """A small WebP of the newest step; the address changes with the step."""
    seconds: float | None
    """Computing time, when it is finished."""
    steps_by: dict[str, float]
    """How many of its steps each worker has computed, by the worker's id; half of each step that
    two have computed together."""
    check: Literal["waiting", "running"] | None
    """Of a picture that is computed and not shown yet, because somebody else is to compute some of
    it again first. running: they do so now. waiting: nobody has begun; after two minutes it is
    shown without."""
    doubt: Literal["unchecked", "wrong"] | None
    """Of a finished picture. unchecked: somebody who is not taken on trust had a part in it, and a
    check of that could not be made. wrong: one that came too late found it wrong."""


@shape
class ErrorJson(TypedDict):
    code: str
    detail: str


@shape
class PartnerJson(TypedDict):
    """A worker that had a part in what another one has handed in, as that one says."""

    worker: WorkerJson
    """kernels is empty."""
    how: Literal["half", "band", "gave"]
    """half: of the guidance of so many steps. band: rows of the picture. gave: directly, what the
    other one began with, so that the server did not have to send it."""
    steps: int
    """Of which it has computed half; 0 of the others."""
    received: int
    """Bytes that the other one has from it directly."""
    sent: int
    """Bytes that it has from the other one directly."""


@shape
class TimelineEntryJson(TypedDict):
    """One lease of a picture's chunks, or several in a row that one worker has handed in."""

    kind: Literal["encode", "denoise", "decode"]
    """encode is done once a job, and is in the timelines of all its pictures."""
    outcome: Literal["done", "returned", "failed", "running"]
    """returned: given back unharmed, and gone on with by whoever comes next."""
    start: int
    stop: int
    """The steps of `denoise` that count, from start on and without stop; none when both are equal.
    The next entry goes on from stop."""
    worker: WorkerJson
    """kernels: those that it ran then."""
    began_at: str
    ended_at: str | None
    seconds: float | None
    """Computing time; null where nothing was handed in."""
    attempt: int
    """How many leases of the same chunk had ended without a result before."""
    chunks: int
    received: int
    """Bytes that the server sent the worker; 0 where it had all at hand, or from others."""
    sent: int
    """Bytes of results that it has sent."""
    fault: ErrorJson | None
    """Why a failed one has."""
    partners: list[PartnerJson]
    """Who else had a part in it, at most 8; none of what is running."""


@shape
class TimelineCheckJson(TypedDict):
    """What one checker found of what a worker that is not taken on trust had handed in, or of
    several ranges in a row of that worker's."""

    kind: Literal["encode", "denoise", "decode"]
    start: int
    stop: int
    """The steps of `denoise` that were computed again, without stop."""
    worker: WorkerJson
    """Whose result was checked. Of all workers here kernels are those of now, or empty."""
    checker: WorkerJson | None
    """Who computed it again, or does at this moment; null where nobody does, or could."""
    verdict: Literal["agreed", "wrong", "disputed", "unsaid", "waiting"]
    """disputed: it was another result, and somebody else is to say whose is wrong. unsaid: nobody
    could check it, or came to. waiting: for its checker."""
    done_again: bool
    """What was wrong, and all that was made of it, was made once more. It is not of a picture that
    was finished before, but for its decoding."""
    distance: float | None
    """Between both results, as docs/checks.md measures it; the largest one of several ranges. Null
    where nothing was measured."""
    limit: float | None
    """The largest distance of honest results."""
    at: str | None
    checks: int


@shape
class TimelineJson(TypedDict):
    job: str
    index: int
    state: State
    steps: int
    entries: list[TimelineEntryJson]
    """In the order in which they ended; of more than 128 the oldest are not kept."""
    checks: list[TimelineCheckJson]
    """In the order in which they were made, with those that wait at the end; of more than 64 the
    oldest that agreed are not kept. A worker's results need no check, or not all of them do."""


@shape
class JobJson(TypedDict):
    id: str
    room: str
    client: str
    """A public name of who asked, the same for all jobs of one client."""
    state: State
    position: int | None
    """Among the waiting jobs of all rooms; 1 starts next. Null once the job has started."""
    eta_seconds: float | None
    """Until the job is done. Null until each kind of its work, and of what comes before it, was
    measured once, while no worker that may do it is ready, and once the job has ended."""
    waits_for_model: bool
    """The workers that may do it have other models: it waits for one that has its model."""
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


@shape
class RoomJson(TypedDict):
    room: str
    title: str
    owner: str | None
    """The public name of the client who made the room."""
    paused: bool
    revision: int
    """Grows with every visible change."""
    jobs: list[JobJson]
    """Unfinished and the newest ended ones, in the order in which they were made."""
    older: str | None
    """`?before=` with this answers with the ended jobs before these. Null: there are none."""
    workers: list[RoomWorkerJson]
    peers: int
    """Browser tabs that have this room open."""
    shut_out: list[ShutOutJson]
    """The newest of those who compute no more here."""


@shape
class SpreadJson(TypedDict):
    """Seconds, of the newest 500 jobs; null until there is one."""

    median: float | None
    p95: float | None


@shape
class StatsJson(TypedDict):
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


@shape
class VocabularyJson(TypedDict):
    """What the model was trained to draw, where that is known."""

    names: list[str]
    colours: list[str]
    relations: list[str]
    words: list[str]


@shape
class ModelJson(TypedDict):
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


@shape
class PackagePartsJson(TypedDict):
    """Bytes of the shards with each part: a worker fetches those of the parts that it computes."""

    text_encoder: int
    transformer: int
    vae: int
    files: int
    """Tokenizer and plan: every worker needs some of them."""


@shape
class PackageJson(TypedDict):
    """A model, packed for browsers. The last four are null until a first request has it made."""

    model: str
    variant: str
    """f32, f16, int8 or int4, or such as int4-f16-f16: text encoder, transformer, VAE."""
    url: str
    """Of its manifest; the shards lie beside it."""
    package_id: str | None
    """SHA-256 of the manifest."""
    model_id: str | None
    """The same for all packages of the same weights."""
    bytes: int | None
    """Of all shards."""
    parts: PackagePartsJson | None
