"""The room page as static files, for any host and below any path. `manage.py export_site` does it.

- The pages are the templates that the site renders, with `exported` set; addresses in them are
  relative. What the server answers elsewhere lies beside them as JSON.
- `export.json` names every file that was written, so that the next export removes what is old and
  nothing that somebody else put there.
"""

import hashlib
import json
import shutil
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.template.loader import render_to_string

from diffusion.packaging import manifest
from genqueue import choices, packages
from genqueue.shapes import PackageJson
from rooms import slots
from rooms.forms import blank_form
from rooms.page import modules
from rooms.policy import is_socket, origins, policy
from rooms.slots import Viewer
from rooms.templatetags.page import EXPORTED_STATIC, exported_import_map

LIST: Final = "export.json"
PACKAGES: Final = "packages"
NEEDED: Final = (  # of static/
    "icon.svg", "images/*", "css/base.css", "css/room.css", "wgsl/**/*",
    "js/page/**/*", "js/work/**/*", "js/room/**/*", "js/engine/**/*", "js/vendor/**/*",
)  # fmt: skip
SERVED_ONLY: Final = (
    "js/page/check.js", "js/engine/check.js", "js/engine/check-worker.js",
    "js/vendor/htmx/*", "js/vendor/VENDORED.json",
)  # fmt: skip


# The public relays that Trystero would take for pages of ours: the policy must name them.
PUBLIC_RELAYS = (
    "wss://bucket.coracle.social", "wss://nostr-01.uid.ovh", "wss://nostr-01.yakihonne.com",
    "wss://relay.agorist.space", "wss://top.testrelay.top",
)  # fmt: skip
LOOPBACK_RELAYS: Final = ("ws://localhost:*", "ws://127.0.0.1:*")


class ExportError(Exception):
    """It cannot be written; str() is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be exported. variants: of the model's packages, the preferred ones of browsers.

    relays: where browsers find each other, ws:// or wss://; none: nobody is met. packages_at: the
    address of a folder that has the packages as `<model>/<variant>/`; otherwise they are copied.
    spot_checks: what tabs compute for others is checked, now and then (docs/checks.md).
    """

    model: str
    variants: Sequence[str] = ("f16",)
    relays: Sequence[str] = field(default=())
    packages_at: str = ""
    spot_checks: bool = True

    def write(self, folder: Path) -> list[str]:
        """Write all of it; the paths that were written. Raises ExportError, and Problem for a
        package that is not there and cannot be made."""
        self._check()
        before = _written_before(folder)
        entries = [self._entry(variant) for variant in dict.fromkeys(self.variants)]
        files = {**self._pages(entries), **self._answers(entries), ".nojekyll": b""}
        sources = dict(_static_files())
        if not self.packages_at:
            for entry in entries:
                sources.update(_package_files(entry))
        written = sorted([*files, *sources, LIST])
        files[LIST] = _json({"version": settings.VERSION, "model": self.model, "files": written})
        for name, data in files.items():
            _place(folder, name).write_bytes(data)
        for name, source in sources.items():
            shutil.copyfile(source, _place(folder, name))
        for name in before - set(written):
            (folder / name).unlink(missing_ok=True)
        return written

    def _check(self) -> None:
        if self.model not in choices.models():
            known = ", ".join(sorted(choices.models())) or "none"
            raise ExportError(f"There is no model {self.model!r}. Models: {known}.")
        for relay in self.relays:
            if not is_socket(relay):
                raise ExportError(f"A relay's address begins with wss:// or ws://; {relay!r} not.")
        if self.packages_at and urlsplit(self.packages_at).scheme not in ("http", "https"):
            raise ExportError("The packages' address must begin with https:// or http://.")

    def _entry(self, variant: str) -> PackageJson:
        """As /api/packages lists it, with the address that it has in the export."""
        packages.manifest_file(self.model, variant)  # made, if it must be
        [entry] = [
            entry
            for entry in packages.listed()
            if (entry["model"], entry["variant"]) == (self.model, variant)
        ]
        root = self.packages_at.rstrip("/") or PACKAGES
        return {**entry, "url": f"{root}/{self.model}/{variant}/{manifest.FILE_NAME}"}

    def _answers(self, entries: list[PackageJson]) -> dict[str, bytes]:
        """What the API says elsewhere."""
        folder = choices.models()[self.model]
        mine = [model for model in choices.models_as_json() if model["name"] == self.model]
        for_host = {  # what static/js/work/models.js knows of a model besides
            "latent_channels": folder.latent_channels,
            "vae_scale": folder.vae_scale,
            "text_dim": folder.text_dim,
            "max_tokens": folder.max_tokens,
            "packages": [entry["package_id"] for entry in entries],
            "variants": {entry["package_id"]: entry["variant"] for entry in entries},
        }
        return {
            "packages.json": _json({"packages": entries}),
            "models.json": _json({"models": [{**mine[0], **for_host, "default": True}]}),
        }

    def _pages(self, entries: list[PackageJson]) -> dict[str, bytes]:
        form = blank_form(self.model)
        form.models = [model for model in form.models if model["name"] == self.model]
        exported = {
            "relays": " ".join(self.relays),
            "relay_lines": "\n".join(self.relays),
            "spot_checks": self.spot_checks,
            "download": ceil(min(entry["bytes"] or 0 for entry in entries) / 1e6),
        }
        pages = {"index.html": "rooms/landing.html", "room.html": "rooms/room.html"}
        context = {
            "exported": exported,
            "form": form,
            "view": _empty_room(),
            "viewer": Viewer(label="", owner=False),
            "room_url": "room.html#/",
            "modules": modules("serverless"),
        }
        return {
            name: render_to_string(
                template, context | {"policy": self._policy(connects=name == "room.html")}
            ).encode()
            for name, template in pages.items()
        }

    def _policy(self, *, connects: bool) -> str:
        """connects: whether the page talks to others and fetches packages."""
        digest = hashlib.sha256(exported_import_map().encode()).digest()
        script = f"'sha256-{b64encode(digest).decode()}'"
        return policy(script, self._connections() if connects else [], framed="")

    def _connections(self) -> list[str]:
        """Sources for connect-src. Visitors may choose other relays than the export's: any that is
        encrypted, or runs on their own computer."""
        plain = [relay for relay in self.relays if urlsplit(relay).scheme == "ws"]
        hosts = [*plain, *([self.packages_at] if self.packages_at else [])]
        relays = ["wss:", *LOOPBACK_RELAYS] if self.relays else []
        return list(dict.fromkeys([*relays, *origins(hosts)]))


def _empty_room() -> dict[str, Any]:
    """What the page shows before it knows its room, for the same templates."""
    # No notice before it is true
    head = {"paused": False, "workers": [{"state": "ready"}], "shut_out": []}
    return {
        "name": "Room",
        "title": "",
        "revision": 0,
        "older": {"older_hidden": True},
        "notices": slots.notice_slots(head, 0),
    }


def _static_files() -> Iterator[tuple[str, Path]]:
    """(path in the export, file)"""
    root = Path(settings.BASE_DIR) / "static"
    elsewhere = {path for pattern in SERVED_ONLY for path in root.glob(pattern)}
    for path in sorted({path for pattern in NEEDED for path in root.glob(pattern)} - elsewhere):
        if path.is_file():
            yield EXPORTED_STATIC + path.relative_to(root).as_posix(), path
    yield "LICENSE", Path(settings.BASE_DIR) / "LICENSE"


def _package_files(entry: PackageJson) -> Iterator[tuple[str, Path]]:
    """The manifest and the shards that it names."""
    file = packages.manifest_file(entry["model"], entry["variant"])
    folder = Path(entry["url"]).parent
    yield entry["url"], file
    for shard in manifest.read_manifest(file.read_bytes()).shards:
        yield (folder / shard.file_name).as_posix(), file.parent / shard.file_name


def _written_before(folder: Path) -> set[str]:
    """What an earlier export wrote. Raises ExportError for a folder that holds other things."""
    if not folder.exists() or not any(folder.iterdir()):
        return set()
    try:
        names = json.loads((folder / LIST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(f"{folder} is not empty, and holds no earlier export.") from None
    return {name for name in names if _is_below(folder, name)}


def _is_below(folder: Path, name: str) -> bool:
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _place(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
