"""Fetches a PRX folder from the Hugging Face Hub, and goes on where it was interrupted.

- `look`: which files of which commit, and how large
- `fetch`: brings them into a folder of models, in which nothing shows until all of it is there

huggingface_hub finds the files, the server (HF_ENDPOINT) and the token (HF_TOKEN). The bytes are
streamed here, because the library throws away what it has of a file when it is interrupted, and
files of PRX have 5 GB. Every attempt starts at /resolve/, since the signed address that this
redirects to expires; httpx sends the token to no other host.
"""

import contextlib
import fcntl
import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from diffusion.model_folder import MODEL_INDEX, ModelFolderError, read_json, read_model_folder
from diffusion.packaging.source import CONFIGS, STEMS, TOKENIZER

NOTE: Final = "hub.json"  # in a fetched folder: from where it is

_INCOMING: Final = ".incoming"
_OPTIONAL: Final = ("p2pweb.json", "preview.json", "vocabulary.json")
_TOKENIZER_FILE: Final = re.compile(r"tokenizer/[A-Za-z0-9_][A-Za-z0-9_.-]*\.(json|model|txt)")
_REPO: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MARGIN_BYTES: Final = 256 * 2**20  # of free disk that a download leaves
_CHUNK_BYTES: Final = 2**20
_ATTEMPTS: Final = 5  # in a row that bring no byte
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
# What another attempt may mend. 403: the signed address has expired; 416: the file has changed.
_TRANSIENT: Final = (403, 408, 416, 429, 500, 502, 503, 504)

Report = Callable[[int], None]  # bytes gained since the last call; negative when some were no good


class HubError(RuntimeError):
    """The model cannot be had; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class HubFile:
    path: str
    nbytes: int
    sha256: str | None  # of large files
    blob_id: str  # git's SHA-1

    def is_right(self, path: Path) -> bool:
        """Whether the file at `path` is this one, by its hash."""
        if self.sha256 is not None:
            digest, wanted = hashlib.sha256(), self.sha256
        else:
            digest, wanted = hashlib.sha1(usedforsecurity=False), self.blob_id
            digest.update(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest() == wanted


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one commit that a PRX folder needs, the small ones first."""

    repo: str  # owner/name
    commit: str
    files: tuple[HubFile, ...]
    endpoint: str

    @property
    def name(self) -> str:
        return self.repo.rpartition("/")[2]

    @property
    def nbytes(self) -> int:
        return sum(file.nbytes for file in self.files)

    def missing_bytes(self, root: Path) -> int:
        """What `fetch` into `root` still has to bring."""
        if commit_of(root / self.name, self.repo) == self.commit:
            return 0
        return self.nbytes - sum(_have(self, root, file) for file in self.files)


def look(repo: str, revision: str | None = None, endpoint: str | None = None) -> Snapshot:
    """Find a model on the Hub. revision: a branch, tag or commit; endpoint: of another Hub.

    Raises HubError when there is none, when it is no PRX pipeline, or when the Hub is out of reach.
    """
    if not _REPO.fullmatch(repo):
        raise HubError(f"{repo!r} is no model of the Hub; write owner/name")
    api = HfApi(endpoint=endpoint)
    with _said_plainly(repo):
        commit = api.model_info(repo, revision=revision).sha
        if commit is None:
            raise HubError(f"{repo}: the Hub names no commit")
        found = {
            entry.path: HubFile(
                entry.path,
                entry.size if entry.lfs is None else entry.lfs.size,
                None if entry.lfs is None else entry.lfs.sha256,
                entry.blob_id,
            )
            for entry in api.list_repo_tree(repo, recursive=True, revision=commit)
            if isinstance(entry, RepoFile)
        }
    wanted = [found[path] for path in _needed(repo, found)]
    files = tuple(sorted(wanted, key=lambda file: (file.nbytes, file.path)))
    return Snapshot(repo, commit, files, api.endpoint)


def fetch(snapshot: Snapshot, root: Path, report: Report = lambda count: None) -> Path:
    """Bring the snapshot to root/<name> and return that folder, which replaces an older snapshot.

    What an interrupted fetch had is used. Raises HubError when the disk is too small, when another
    process fetches the same model, when the folder there is not from this repository, and when the
    Hub does not deliver; what is there by then stays for the next attempt.
    """
    target = root / snapshot.name
    if commit_of(target, snapshot.repo) == snapshot.commit:
        return target
    folder = _staging(snapshot, root)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent / f"{snapshot.name}.lock", snapshot.name):
        missing, free = snapshot.missing_bytes(root), shutil.disk_usage(root).free
        if missing + _MARGIN_BYTES > free:
            raise HubError(f"{missing:,} bytes are missing, and {root} has {free:,} free")
        weights = [file for file in snapshot.files if file.path.endswith(".safetensors")]
        small = [file for file in snapshot.files if file not in weights]
        for file in small:
            _bring(snapshot, file, folder, report)
        try:
            read_model_folder(folder)
        except ModelFolderError as error:
            raise HubError(f"{snapshot.repo}: {error}") from error
        for file in weights:
            _bring(snapshot, file, folder, report)
        note = {"repo": snapshot.repo, "revision": snapshot.commit}
        (folder / NOTE).write_text(json.dumps(note, indent=2) + "\n")
        _put_in_place(folder, target)
    return target


def commit_of(folder: Path, repo: str) -> str | None:
    """Which commit of `repo` is there; None if nothing is. Raises HubError for anything else."""
    if not folder.exists():
        return None
    try:
        note = read_json(folder / NOTE)
    except ModelFolderError:
        note = {}
    if note.get("repo") != repo:
        raise HubError(f"{folder} is there, and was not fetched from {repo}")
    return str(note.get("revision"))


def _needed(repo: str, found: Mapping[str, HubFile]) -> list[str]:
    """Paths of a PRX folder. Of weights only the ones that would be loaded."""
    if MODEL_INDEX not in found:
        raise HubError(f"{repo} has no {MODEL_INDEX}: it is no pipeline of diffusers")
    needed = [*CONFIGS, TOKENIZER]
    for part, stem in STEMS.items():
        index = f"{part}/{stem}.safetensors.index.json"
        if index in found:
            shard = re.compile(re.escape(f"{part}/{stem}-") + r"\d{5}-of-\d{5}\.safetensors")
            needed += [index, *(path for path in found if shard.fullmatch(path))]
        else:
            needed.append(f"{part}/{stem}.safetensors")
    lacking = [path for path in needed if path not in found]
    if lacking:
        raise HubError(f"{repo} lacks {', '.join(lacking)}")
    more = [path for path in found if path in _OPTIONAL or _TOKENIZER_FILE.fullmatch(path)]
    return list(dict.fromkeys([*needed, *more]))


def _bring(snapshot: Snapshot, file: HubFile, folder: Path, report: Report) -> None:
    """Download one file, from where it broke off, until its hash is right."""
    target = folder / file.path
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    failures = 0
    while True:
        before = _size(part)
        problem = _attempt(snapshot, file, part, report)
        if problem is None:
            part.rename(target)
            return
        failures = 0 if _size(part) > before else failures + 1
        if failures >= _ATTEMPTS:
            raise HubError(f"{file.path}: {problem}; what is there is kept, try again later")
        time.sleep(min(_FIRST_PAUSE_SECONDS * 2**failures, _LONGEST_PAUSE_SECONDS))


def _attempt(snapshot: Snapshot, file: HubFile, part: Path, report: Report) -> str | None:
    """What went wrong; None when `part` now is the whole file."""
    if not part.exists() or _size(part) != file.nbytes:
        try:
            with _said_plainly(snapshot.repo, _Again):
                _stream(snapshot, file, part, report)
        except _Again as error:
            return str(error)
    if _size(part) < file.nbytes:
        return "it ends too early"
    if _size(part) == file.nbytes and file.is_right(part):
        return None
    report(-_size(part))
    part.unlink()
    return "its hash is wrong"


def _stream(snapshot: Snapshot, file: HubFile, part: Path, report: Report) -> None:
    """One request for what is missing of `file`, appended to `part`."""
    url = hf_hub_url(snapshot.repo, file.path, revision=snapshot.commit, endpoint=snapshot.endpoint)
    have = _size(part)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream(
        "GET", url, headers=headers, timeout=HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
    ) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            report(-have)
        hf_raise_for_status(response)
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if have and not goes_on:
            report(-have)
        with part.open("ab" if goes_on else "wb") as out:
            for chunk in response.iter_bytes():  # as they come: a break loses nothing
                out.write(chunk)
                report(len(chunk))


class _Again(Exception):  # noqa: N818  (not an error yet)
    """Another attempt may go better."""


@contextlib.contextmanager
def _said_plainly(repo: str, transient: type[Exception] = HubError) -> Iterator[None]:
    """Turns the errors of huggingface_hub into HubError, those that may pass into `transient`."""
    try:
        yield
    except HFValidationError as error:
        raise HubError(f"{repo}: {error}") from error
    except OfflineModeIsEnabled as error:
        raise HubError("HF_HUB_OFFLINE is set: nothing can be fetched") from error
    except GatedRepoError as error:
        raise HubError(
            f"{repo}: its terms must be accepted on the Hub first, and HF_TOKEN be set"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        kind = transient if status in _TRANSIENT else HubError
        raise kind(f"{repo}: the Hub answers {status}: {error.server_message or error}") from error
    except httpx2.TransportError as error:
        raise transient(f"{repo}: the Hub is out of reach or broke off ({error!r})") from error


@contextlib.contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HubError(f"another process is fetching {name}") from error
        yield


def _staging(snapshot: Snapshot, root: Path) -> Path:
    """Two levels down, where nobody looks for models."""
    return root / _INCOMING / f"{snapshot.name}@{snapshot.commit[:12]}"


def _have(snapshot: Snapshot, root: Path, file: HubFile) -> int:
    path = _staging(snapshot, root) / file.path
    return _size(path) or min(_size(path.with_name(f"{path.name}.part")), file.nbytes)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _put_in_place(folder: Path, target: Path) -> None:
    """The new folder takes the place of the old one; what older fetches left goes."""
    old = folder.parent / f"old-{secrets.token_hex(6)}"
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    for leftover in folder.parent.glob(f"{target.name}@*"):
        shutil.rmtree(leftover, ignore_errors=True)
