"""What somebody asks for, and whether a model can do it.

Refusals carry a stable code, the field and a sentence for people. Imports no torch.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from diffusion.cleaning import clean_prompt
from diffusion.model_folder import ModelFolder

SEED_LIMIT: Final = 2**32  # torch's CPU generator uses the low 32 bits of a seed


@dataclass(frozen=True, slots=True)
class Settings:
    """A request for `num_images` pictures. Sides in pixels; guidance 1 means none."""

    prompt: str
    model: str
    width: int
    height: int
    steps: int
    guidance: float
    seed: int
    negative_prompt: str = ""
    num_images: int = 1

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON and for the text inside a PNG."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Limits:
    """What this installation allows at most, whatever the model could do."""

    prompt_characters: int = 2000
    max_steps: int = 100
    max_guidance: float = 20.0
    max_images: int = 16
    max_side: int = 2048


class SettingsError(ValueError):
    """Settings that cannot be granted; str() is a sentence for people."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


def image_seed(seed: int, index: int) -> int:
    """The seed of image `index` (from 0) of a job: they count on from `seed`, modulo 2^32."""
    return (seed + index) % SEED_LIMIT


def check(settings: Settings, folder: ModelFolder, limits: Limits | None = None) -> None:
    """Raise SettingsError for the first setting that `folder` or `limits` cannot grant."""
    for refusal in refusals(settings, folder, limits):
        raise refusal


def refusals(
    settings: Settings, folder: ModelFolder, limits: Limits | None = None
) -> Iterator[SettingsError]:
    """Everything that `folder` or `limits` cannot grant, at most once for each field."""
    limits = limits or Limits()
    if settings.model != folder.name:
        yield SettingsError("unknown-model", "model", f"There is no model {settings.model!r}.")
    for field in ("prompt", "negative_prompt"):
        yield from _text_refusals(field, getattr(settings, field), limits)
    yield from _side_refusals(settings, folder, limits)
    yield from _range_refusals("steps", settings.steps, 1, limits.max_steps)
    yield from _range_refusals("guidance", settings.guidance, 1, limits.max_guidance)
    yield from _range_refusals("num_images", settings.num_images, 1, limits.max_images)
    yield from _range_refusals("seed", settings.seed, 0, SEED_LIMIT - 1)


def _text_refusals(field: str, text: str, limits: Limits) -> Iterator[SettingsError]:
    words = field.replace("_", " ")
    if len(text) > limits.prompt_characters:
        yield SettingsError(
            f"{words.replace(' ', '-')}-too-long",
            field,
            f"The {words} has {len(text)} characters; at most {limits.prompt_characters}"
            " are allowed.",
        )
    elif "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        yield SettingsError(
            f"{words.replace(' ', '-')}-not-text",
            field,
            f"The {words} holds a character that is not text (NUL or half a surrogate pair).",
        )
    elif field == "prompt" and not text.strip():
        yield SettingsError("prompt-empty", "prompt", "The prompt is empty.")
    elif field == "prompt" and not clean_prompt(text):
        yield SettingsError(
            "prompt-cleaned-away",
            "prompt",
            "Nothing is left of the prompt after the cleaning that PRX was trained with: it deletes"
            " Chinese, Japanese and Korean ideographs, web addresses, file names and long numbers."
            " Please describe the picture in English words.",
        )


def _side_refusals(
    settings: Settings, folder: ModelFolder, limits: Limits
) -> Iterator[SettingsError]:
    largest = min(folder.max_side, limits.max_side // folder.side_multiple * folder.side_multiple)
    for field in ("width", "height"):
        side: int = getattr(settings, field)
        if side % folder.side_multiple:
            yield SettingsError(
                "side-not-multiple",
                field,
                f"The {field} must be a multiple of {folder.side_multiple} pixels for this model;"
                f" {side} is not.",
            )
        elif not folder.min_side <= side <= largest:
            yield SettingsError(
                "side-out-of-range",
                field,
                f"The {field} must be between {folder.min_side} and {largest} pixels for this"
                f" model; {side} is not.",
            )


def _range_refusals(field: str, value: float, low: float, high: float) -> Iterator[SettingsError]:
    if not low <= value <= high:  # also refuses NaN
        words = "number of images" if field == "num_images" else field
        given = value if isinstance(value, int) else f"{value:.10g}"
        yield SettingsError(
            f"{field.replace('_', '-')}-out-of-range",
            field,
            f"The {words} must be between {low:g} and {high:.10g}; {given} is not.",
        )
