"""Names of the queue's files in Django's storage, and their removal.

Every written file has a random part in its name, so that a late worker can never overwrite the
file of the one that took over; whoever loses the race deletes its own. What nobody deleted, because
nobody could know, `orphans` finds.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction

if TYPE_CHECKING:
    from genqueue.models import Image


Content = TypeVar("Content")

JOBS = "jobs"  # a folder in it for each job


def write(folder: str, suffix: str, content: bytes) -> str:
    """Store and return the name. folder: such as `jobs/<id>`; suffix: such as `.png`."""
    return default_storage.save(f"{folder}/{secrets.token_hex(8)}{suffix}", ContentFile(content))


class FileLostError(Exception):
    """A file that a row names is gone, or damaged. `name`: which one."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"{name}: {error}")
        self.name = name


def load(name: str, understand: Callable[[bytes], Content]) -> Content:
    """What is in a file. understand: raises ValueError for damaged bytes.

    Raises FileLostError.
    """
    try:
        return understand(read(name))
    except (OSError, ValueError) as error:
        raise FileLostError(name, error) from error


def read(name: str) -> bytes:
    """Raises FileNotFoundError when the file is gone (its job was removed meanwhile)."""
    with default_storage.open(name) as file:
        content: bytes = file.read()
    return content


def delete(names: Iterable[str]) -> None:
    for name in names:
        if name:
            default_storage.delete(name)


def delete_on_commit(names: Iterable[str]) -> None:
    """Files go when the rows that named them are gone for good."""
    doomed = [name for name in names if name]
    if doomed:
        transaction.on_commit(lambda: delete(doomed), robust=True)


def delete_folder_on_commit(job_id: UUID) -> None:
    """All files of a job that goes, named by a row or not (`orphans` looks after the others)."""

    def delete_folder() -> None:
        folder = job_folder(job_id)
        with contextlib.suppress(FileNotFoundError):  # a job that nobody began has no folder
            _folders, files = default_storage.listdir(folder)
            delete(f"{folder}/{file}" for file in files)
        with contextlib.suppress(OSError):  # a late worker's file in it is no harm
            default_storage.delete(folder)

    transaction.on_commit(delete_folder, robust=True)


def job_folder(job_id: UUID) -> str:
    return f"{JOBS}/{job_id}"


def preview_name(image: "Image", step: int) -> str:
    """Previews are the same whoever computes them, so their names may be (and are overwritten)."""
    return f"{job_folder(image.job_id)}/preview-{image.index}-{step}.webp"


def write_preview(image: "Image", step: int, webp: bytes) -> None:
    default_storage.save(preview_name(image, step), ContentFile(webp))


def working_files(image: "Image") -> list[str]:
    """What an image needs only until it is finished: checkpoints and previews."""
    latents = list(image.checkpoints.values_list("latent", flat=True))
    previews = [preview_name(image, step) for step in range(1, image.job.steps + 1)]
    return latents + previews
