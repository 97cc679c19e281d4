"""What a model of this site is, whatever it is called: the id of its weights and configuration.

Two machines that name a model alike may have different ones. Hashing one of 15 GB takes some ten
seconds, so what was found is kept in the data folder as long as no file of the model changes.
"""

import json
import secrets
import threading
from hashlib import sha256
from pathlib import Path
from typing import Final

from django.conf import settings

from diffusion.model_folder import ModelFolder
from diffusion.packaging.source import model_id

_one_at_a_time: Final = threading.Lock()


def identity(folder: ModelFolder) -> str:
    """64 hex digits, as in packages (`diffusion.packaging`).

    Raises ModelFolderError for weights that are missing or broken.
    """
    files = _files(folder.path)
    kept = Path(settings.DATA_DIR) / "identities" / f"{sha256(files.encode()).hexdigest()}.json"
    with _one_at_a_time:
        if kept.is_file():
            known: str = json.loads(kept.read_text())["model_id"]
            return known
        found = model_id(folder.path)
        if _files(folder.path) == files:  # not one that somebody is copying here just now
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_suffix(f".{secrets.token_hex(4)}")
            draft.write_text(json.dumps({"model_id": found}))
            draft.replace(kept)
        return found


def _files(folder: Path) -> str:
    facts = [
        [str(file), file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(folder.resolve().rglob("*"))
        if file.is_file()
    ]
    return json.dumps(facts)
