"""What several commands understand alike."""

from pathlib import Path

from django.conf import settings as site
from django.core.management.base import CommandError

from diffusion.model_folder import (
    MODEL_INDEX,
    ModelFolder,
    ModelFolderError,
    find_models,
    read_model_folder,
)


def model_named(name_or_folder: str) -> ModelFolder:
    """A model of this site by its name, or any model folder. Raises CommandError for neither."""
    models = find_models(*site.MODEL_ROOTS)
    if name_or_folder in models:
        return models[name_or_folder]
    path = Path(name_or_folder)
    if not (path / MODEL_INDEX).is_file():
        known = ", ".join(sorted(models)) or "none"
        raise CommandError(
            f"There is no model {name_or_folder!r}, and no such folder. Models: {known}."
        )
    try:
        return read_model_folder(path)
    except ModelFolderError as error:
        raise CommandError(f"{path}: {error}") from error
