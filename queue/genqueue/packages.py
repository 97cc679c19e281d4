"""The model packages of this site: where they lie, which there are, who may ask for which.

Packages lie in the data folder, `packages/<model>/<variant>/`. `manage.py pack_model` makes them.
Those of small models, such as the one that ships, are made when somebody first asks; that takes a
second or two. A package whose model has changed since is no longer served.
"""

import hashlib
import json
import logging
import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from django.conf import settings

from diffusion.model_folder import ModelFolder, ModelFolderError
from diffusion.packaging import manifest
from diffusion.packaging.manifest import Manifest, ManifestError, dtypes_of, variant_name
from diffusion.packaging.pack import Packed, Report, pack_model
from diffusion.packaging.source import COMPONENTS, STEMS, Component
from diffusion.packaging.storage import DTYPES, DType
from genqueue import choices
from genqueue.plans import planned
from genqueue.problems import Problem, not_found
from genqueue.shapes import PackageJson, PackagePartsJson

log = logging.getLogger(__name__)

URL: Final = f"/api/packages/v{manifest.VERSION}"
SMALL_BYTES: Final = 256 * 2**20  # of weights: packed when asked for

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SHARD: Final = re.compile(r"[0-9a-f]{64}")
_MOST_PLANS: Final = 64  # whose hashes are remembered
making = threading.Lock()  # one at a time: it takes all cores
_plan_hashes: dict[tuple[object, ...], str] = {}


def place(model: str, variant: str) -> Path:
    """Where this site keeps a package, whether it is there or not."""
    return Path(settings.DATA_DIR) / "packages" / model / variant


def make(
    name: str,
    model: ModelFolder,
    dtypes: Mapping[Component, DType],
    report: Report = lambda what, done, total: None,
) -> Packed:
    """Pack a model for this site to serve under `name`: that of a link to its folder may differ.

    Raises ModelFolderError for what cannot be packed.
    """
    out = place(name, variant_name(dtypes))
    source = fingerprint(model, dtypes)  # before: a change meanwhile makes the package stale
    packed = pack(model, out, dtypes, report)
    _note(out).write_text(source)
    return packed


def pack(
    model: ModelFolder, out: Path, dtypes: Mapping[Component, DType], report: Report
) -> Packed:
    """A package with its plan; of a model without a compiler, with the folder's own tensors."""
    found = planned(model, dtypes)
    if found is None:
        return pack_model(model.path, out, dtypes, report=report)
    return pack_model(
        model.path, out, dtypes, plan=found.plan, weights=found.weights, report=report
    )


def manifest_file(model: str, variant: str) -> Path:
    """The manifest of a package that may be served; that of a small model is made first.

    Problem 404 `no-such-package` when there is none.
    """
    folder, path = _find(model, variant)
    if _is_ready(folder, path):
        return path / manifest.FILE_NAME
    if folder is None or variant not in DTYPES or not is_small(folder):
        raise _none(f"Make it with: manage.py pack_model {model} --dtype ...")
    with making:
        if not _is_ready(folder, path):  # somebody else may have waited for the same
            try:
                make(model, folder, dtypes_of(variant))
            except (ModelFolderError, OSError) as error:
                log.exception("%s cannot be packed as %s", model, variant)
                raise _none("Its model cannot be packed; the server's log says why.") from error
    return path / manifest.FILE_NAME


def shard_file(model: str, variant: str, sha256: str) -> Path:
    """A shard of a package. Problem 404 `no-such-package` when there is none."""
    _folder, path = _find(model, variant)
    shard = path / f"{sha256}.bin"
    if not _SHARD.fullmatch(sha256) or shard.is_symlink() or not shard.is_file():
        raise _none("It has no such shard: its manifest may have changed.")
    return shard


def listed() -> list[PackageJson]:
    """What can be asked for: packages that are there, and those that would be made."""
    found = []
    for name, folder in choices.models().items():
        root = place(name, "int8").parent
        there = {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()
        small = is_small(folder)
        for variant in sorted(there | set(DTYPES if small else ())):
            entry = _package(name, folder, variant, small)
            if entry is not None:
                found.append(entry)
    return found


def _package(name: str, folder: ModelFolder, variant: str, small: bool) -> PackageJson | None:
    path = place(name, variant)
    known: tuple[str, Manifest] | None = None
    if _is_ready(folder, path):
        file = path / manifest.FILE_NAME
        known = _read(file, file.stat().st_mtime_ns)
    elif not (small and variant in DTYPES):
        return None
    made = known[1] if known else None
    return PackageJson(
        model=name,
        variant=variant,
        url=f"{URL}/{name}/{variant}/{manifest.FILE_NAME}",
        package_id=known[0] if known else None,
        model_id=made.model_id if made else None,
        bytes=made.nbytes if made else None,
        parts=_parts(made) if made else None,
    )


def _parts(made: Manifest) -> PackagePartsJson:
    return PackagePartsJson(
        text_encoder=made.nbytes_of("text_encoder"),
        transformer=made.nbytes_of("transformer"),
        vae=made.nbytes_of("vae"),
        files=made.nbytes_of("files"),
    )


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> tuple[str, Manifest] | None:
    data = path.read_bytes()
    try:
        return manifest.package_id(data), manifest.read_manifest(data)
    except ManifestError:
        log.exception("%s is left out", path)
        return None


def _find(model: str, variant: str) -> tuple[ModelFolder | None, Path]:
    """The model, if this site has it, and where its package would lie."""
    try:
        dtypes_of(variant)
    except ManifestError as error:
        raise _none(f"Variants are {', '.join(DTYPES)} and mixtures.") from error
    folder = choices.models().get(model)
    if folder is None and not _NAME.fullmatch(model):
        raise _none("There is no such model.")
    return folder, place(model, variant)


def _is_ready(folder: ModelFolder | None, path: Path) -> bool:
    """There, and of the model as it is now. Without the model nothing can have changed."""
    if not (path / manifest.FILE_NAME).is_file():
        return False
    note = _note(path)
    if folder is None:
        return True
    dtypes = dtypes_of(path.name)
    return note.is_file() and note.read_text() == fingerprint(folder, dtypes)


def _note(path: Path) -> Path:
    """Beside the package, which holds nothing but what its manifest names."""
    return path.with_name(f".{path.name}.source")


def fingerprint(model: ModelFolder, dtypes: Mapping[Component, DType]) -> str:
    """Changes with the model, its plan and its shaders. Hashing gigabytes would take too long."""
    files = _state_of(model.path)
    plan = _plan_hash(model, dtypes, files)
    return hashlib.sha256(json.dumps([manifest.VERSION, files, plan]).encode()).hexdigest()


def _plan_hash(model: ModelFolder, dtypes: Mapping[Component, DType], files: str) -> str:
    """Compiling takes tenths of a second, and lists of packages are asked for all the time: it is
    done again when a file of the model or a shader has changed."""
    shaders = _state_of(Path(settings.WGSL_DIR))
    compiled_from = (planned, str(model.path), variant_name(dtypes), files, shaders)
    if compiled_from not in _plan_hashes:
        found = planned(model, dtypes)
        plan = None if found is None else [found.plan.text, sorted(found.plan.wgsl.items())]
        while len(_plan_hashes) >= _MOST_PLANS:
            _plan_hashes.pop(next(iter(_plan_hashes)), None)
        _plan_hashes[compiled_from] = hashlib.sha256(json.dumps(plan).encode()).hexdigest()
    return _plan_hashes[compiled_from]


def _state_of(folder: Path) -> str:
    """Names, sizes and times of all files in it."""
    facts = [
        [str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def is_small(folder: ModelFolder) -> bool:
    """Whether its packages are made when somebody asks."""
    weights = sum(
        file.stat().st_size
        for component in COMPONENTS
        for file in (folder.path / component).glob(f"{STEMS[component]}*.safetensors")
    )
    return weights <= SMALL_BYTES


def _none(detail: str) -> Problem:
    return not_found(f"There is no such package here. {detail}", "no-such-package")
