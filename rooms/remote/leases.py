"""What a queue says, read with care: in a room without a server a stranger's tab keeps it."""

from dataclasses import fields, replace
from typing import Any, Final

from diffusion.model_folder import ModelFolder
from diffusion.settings import SEED_LIMIT, Limits, Settings, SettingsError, check
from rooms.remote.conversation import LineClosedError, Message, is_whole

Name = tuple[int, int]  # chunk and attempt

_KINDS: Final = ("encode", "denoise", "decode")
# Far above what rooms allow: a helper is not to hold them to its own taste, only to stay alive.
_LIMITS: Final = Limits(
    prompt_characters=20_000, max_steps=1000, max_guidance=100.0, max_images=1024, max_side=4096
)
_MOST_IMAGES: Final = 1024
_LONGEST_JOB: Final = 64
_LONGEST_LINE: Final = 200
_RENEW_SECONDS: Final = range(1, 31)


class LeaseError(Exception):
    """It asks for something that no queue of ours asks for."""


def name_of(message: Message) -> Name:
    """Raises LineClosedError: nothing can be said about what has no name."""
    chunk, attempt = message.get("chunk"), message.get("attempt")
    if not is_whole(chunk) or not is_whole(attempt):
        raise LineClosedError("A message came that names no chunk.")
    return chunk, attempt


def renew_seconds(message: Message) -> int:
    """Of `work.welcome`; 10 where it does not say."""
    said = message.get("renew_seconds")
    return said if is_whole(said) and said in _RENEW_SECONDS else 10


def model_of(lease: Message) -> str:
    """The name that the room gives to the model. Raises LeaseError."""
    settings = lease.get("settings")
    model = settings.get("model") if isinstance(settings, dict) else None
    if not isinstance(model, str):
        raise LeaseError("it names no model")
    return model


def check_lease(lease: Message, folder: ModelFolder) -> None:
    """Raises LeaseError. folder: of the model that it names."""
    settings = _settings(lease["settings"])
    try:
        check(replace(settings, model=folder.name), folder, _LIMITS)
    except (SettingsError, TypeError, ValueError) as error:
        raise LeaseError(str(error)) from error
    kind, job, image = lease.get("kind"), lease.get("job"), lease.get("image")
    start, stop, seed = lease.get("start"), lease.get("stop"), lease.get("seed")
    if kind not in _KINDS or not isinstance(job, str) or len(job) > _LONGEST_JOB:
        raise LeaseError("it is of no kind, or of no job")
    if not (is_whole(start) and is_whole(stop) and start <= stop <= settings.steps):
        raise LeaseError("its steps are none of the picture's")
    if kind != "encode" and not (is_whole(image) and image < _MOST_IMAGES):
        raise LeaseError("it names no image")
    if kind == "denoise" and not (is_whole(seed) and seed < SEED_LIMIT):
        raise LeaseError("it has no seed")


def plain(text: object) -> str:
    """One short line of what people can read, for a terminal."""
    shown = "".join(one if one.isprintable() else " " for one in str(text)[:_LONGEST_LINE])
    return " ".join(shown.split())


def _settings(said: dict[str, Any]) -> Settings:
    known = {field.name for field in fields(Settings)}
    try:
        return Settings(**{name: value for name, value in said.items() if name in known})
    except TypeError as error:
        raise LeaseError("its settings are not whole") from error
