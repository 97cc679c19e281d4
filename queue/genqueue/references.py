"""What each segment of this site's models should give, for `/check`: files beside the packages.

Those of small models are made when somebody first asks, those of others by `manage.py pack_model`.
Their last digits depend on the machine that made them, so they are in no package.
"""

import secrets
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from diffusion.model_folder import ModelFolder, ModelFolderError
from diffusion.packaging.manifest import dtypes_of
from diffusion.packaging.source import model_id
from diffusion.plan.references import references
from genqueue import choices, packages
from genqueue.problems import Problem, not_found

FILE_NAME: Final = "references.safetensors"


def file_of(name: str) -> Path:
    """The references of a model as it is now. Problem 404 `no-such-package` when there are none."""
    folder = choices.models().get(name)
    if folder is None:
        raise _none("There is no such model.")
    path = _place(name)
    if _is_of(path, folder):
        return path
    if not packages.is_small(folder):
        raise _none(f"Make them with: manage.py pack_model {name}")
    with packages.making:
        if not _is_of(path, folder):  # somebody else may have waited for the same
            try:
                make(name, folder)
            except ModelFolderError as error:
                raise _none(f"The model has no plan: {error}") from error
    return path


def make(name: str, folder: ModelFolder, known_id: str | None = None) -> Path:
    """Compute and write them. known_id: the model's id, where it need not be found out again.

    Needs memory for the largest weight in f32, some 700 MB for prx-1024. Raises ModelFolderError
    for a model that has no compiler.
    """
    source = packages.fingerprint(folder, dtypes_of("f32"))
    data = references(folder, known_id or model_id(folder.path), {"source": source})
    path = _place(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    draft.write_bytes(data)
    draft.replace(path)
    return path


def _place(name: str) -> Path:
    return packages.place(name, "f32").parent / FILE_NAME


def _is_of(path: Path, folder: ModelFolder) -> bool:
    try:
        with safe_open(path, "np") as file:
            source: str = file.metadata()["source"]
    except (FileNotFoundError, SafetensorError):
        return False
    return source == packages.fingerprint(folder, dtypes_of("f32"))


def _none(detail: str) -> Problem:
    return not_found(f"There are no references here. {detail}", "no-such-package")
