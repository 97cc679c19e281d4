"""`manage.py export_site`: which files it writes, and that they lead nowhere else."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from diffusion.packaging.package import Package

ROOT = Path(__file__).parents[2]
ADDRESSES = {"href", "src", "action", "formaction", "data-packages", "data-vocabulary"}
IMPORT = re.compile(
    r"""^(?:import|export)\b[^'"`;]*?from\s*'([^']+)|\bimport\('([^']+)|new URL\('([^']+)'""", re.M
)
NOTES = re.compile(r"/\*\*.*?\*/|^\s*//.*?$", re.S | re.M)  # types are named by imports there


@pytest.fixture(autouse=True, scope="module")
def site(model, tmp_path_factory) -> Iterator[Path]:
    """A site with one model, which has weights and is packed once for all tests."""
    data = tmp_path_factory.mktemp("data")
    with override_settings(MODEL_ROOTS=[model.parent], DATA_DIR=data):
        yield model


@pytest.fixture(autouse=True)
def tiny(settings, model) -> None:
    """Not the model of the other tests here, which has no weights."""
    settings.MODEL_ROOTS = [model.parent]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "exported"


@pytest.fixture(scope="module")
def plain(site, tmp_path_factory) -> Path:
    """What the command writes when nothing else is said."""
    folder = tmp_path_factory.mktemp("plain") / "exported"
    export(folder, "--alone")
    return folder


def export(folder: Path, *more: str) -> str:
    said = io.StringIO()
    call_command("export_site", str(folder), *more, stdout=said)
    return said.getvalue()


class Page(HTMLParser):
    """links: every address in it. policy, inline: of its one inline script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.policy = self.inline = ""
        self._inside = False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.links += [found[name] for name in ADDRESSES & found.keys()]
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]
        self._inside = tag == "script" and "src" not in found

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.inline += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def test_every_address_in_the_pages_leads_to_a_file_that_was_written(plain):
    for name in ("index.html", "room.html"):
        page = Page(plain / name)
        assert len(page.links) > 8
        for link in page.links:
            parts = urlsplit(link)
            assert not parts.scheme, link
            assert not parts.netloc, link
            assert not parts.path.startswith("/"), f"{link} leaves a host's sub-path"
            if parts.path:
                assert (plain / unquote(parts.path)).is_file(), link


def test_every_module_that_a_module_names_is_there(plain):
    scripts = plain / "static/js"
    [imports] = json.loads(Page(plain / "room.html").inline).values()
    modules = [*scripts.rglob("*.js"), *scripts.rglob("*.mjs")]
    named = 0
    for module in modules:
        if "vendor" in module.parts:
            continue
        for names in IMPORT.findall(NOTES.sub("", module.read_text())):
            path = next(filter(None, names))
            prefix = next((prefix for prefix in imports if path.startswith(prefix)), None)
            base = module.parent if prefix is None else plain
            target = base / (path if prefix is None else imports[prefix] + path[len(prefix) :])
            assert target.exists(), f"{module.relative_to(plain)} names {path}"
            named += 1
    assert named > 60


def test_nothing_is_asked_of_a_server(plain):
    for page in ("index.html", "room.html"):
        text = (plain / page).read_text()
        for gone in ("htmx", "csrf", "/stats/", "/check/", "/api/", "/listed/", "Open rooms"):
            assert gone not in text, gone
    assert not (plain / "static/js/vendor/htmx").exists()
    assert not (plain / "static/js/page/check.js").exists()
    assert (plain / ".nojekyll").is_file(), "or GitHub Pages leaves out names beginning with _"
    assert (plain / "LICENSE").is_file()


def test_the_package_is_the_sites_and_listed_where_the_page_looks(folder):
    export(folder, "--variant", "f16", "--variant", "int8")
    entries = json.loads((folder / "packages.json").read_text())["packages"]
    assert [entry["variant"] for entry in entries] == ["f16", "int8"]
    for entry in entries:
        package = Package((folder / entry["url"]).parent)
        assert package.package_id == entry["package_id"]
        assert package.manifest.model_id == entry["model_id"]
        for shard in package.manifest.shards:
            data = (package.path / shard.file_name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == shard.sha256
    models = json.loads((folder / "models.json").read_text())
    assert [model["name"] for model in models["models"]] == ["tiny"]
    assert models["models"][0]["packages"] == [entry["package_id"] for entry in entries]
    # by which a room knows how far honest results may lie apart
    assert list(models["models"][0]["variants"].values()) == ["f16", "int8"]
    assert list(models["models"][0]["variants"]) == models["models"][0]["packages"]
    vocabulary = Page(folder / "room.html").links
    assert {"packages.json", "models.json"} <= set(vocabulary)


def test_the_policy_in_the_page_is_as_strict_as_the_servers(folder, client, db):
    hosts = ["--relay", "wss://relay.example/nostr", "--relay", "ws://relay.local:7777"]
    export(folder, *hosts, "--packages-at", "https://models.example:8443/emoji")
    served = directives(client.get("/").headers["Content-Security-Policy"])
    for name in ("index.html", "room.html"):
        page = Page(folder / name)
        exported = directives(page.policy)
        digest = base64.b64encode(hashlib.sha256(page.inline.encode()).digest()).decode()
        assert exported.pop("script-src") == f"'self' 'wasm-unsafe-eval' 'sha256-{digest}'"
        # Relays of the visitor's choice; nothing else than the packages comes from elsewhere
        assert (
            exported.pop("connect-src")
            == {
                "index.html": "'self'",
                "room.html": "'self' wss: ws://localhost:* ws://127.0.0.1:* ws://relay.local:7777"
                " https://models.example:8443",
            }[name]
        )
        rest = {key: value for key, value in served.items() if key in exported}
        assert exported == rest
        # A browser ignores it in a page, and says so
        assert served.keys() - rest.keys() == {"script-src", "connect-src", "frame-ancestors"}
    assert (
        'data-relays="wss://relay.example/nostr ws://relay.local:7777"'
        in (folder / "room.html").read_text()
    )


def test_who_is_exported_alone_connects_to_nobody_and_is_offered_no_private_room(plain):
    for name in ("index.html", "room.html"):
        assert directives(Page(plain / name).policy)["connect-src"] == "'self'"
    assert "private" not in (plain / "index.html").read_text()
    assert 'id="connection"' not in (plain / "room.html").read_text()


def test_checks_are_switched_off_by_an_option_alone(plain, folder):
    export(folder, "--no-checks")
    assert 'data-checks="off"' in (folder / "room.html").read_text()
    assert "data-checks" not in (plain / "room.html").read_text()


def directives(policy: str) -> dict[str, str]:
    found = [part.strip().partition(" ") for part in policy.split(";")]
    return {name: sources for name, _, sources in found}


def test_packages_of_another_host_are_named_and_not_copied(folder):
    export(folder, "--packages-at", "https://models.example/emoji/")
    [entry] = json.loads((folder / "packages.json").read_text())["packages"]
    assert entry["url"] == "https://models.example/emoji/tiny/f16/manifest.json"
    assert not (folder / "packages").exists()


def test_an_export_replaces_the_one_before_and_leaves_what_others_put_there(folder):
    export(folder, "--variant", "int8")
    old = set(folder.rglob("*.bin"))
    (folder / "CNAME").write_text("pictures.example")
    assert "bytes" in export(folder, "--variant", "f16")
    new = set(folder.rglob("*.bin"))
    assert new
    assert not (folder / "packages/tiny/int8/manifest.json").exists()
    assert old - new
    assert (folder / "CNAME").read_text() == "pictures.example"
    listed = json.loads((folder / "export.json").read_text())["files"]
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == {*listed, "CNAME"}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--model", "huge"], "There is no model 'huge'. Models: tiny."),
        (["--variant", "f12"], "Variants are"),
        (["--variant", "int4-f16-f16"], "manage.py pack_model tiny"),
        (["--relay", "https://relay.example"], "begins with wss:// or ws://"),
        (["--packages-at", "models"], "must begin with https://"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(folder, more, why):
    with pytest.raises(CommandError, match=re.escape(why)):
        export(folder, *more)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["thesis.txt", "export.json"])
def test_a_folder_with_other_things_is_left_alone(folder, name):
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(CommandError, match="is not empty"):
        export(folder)
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_list_of_an_earlier_export_removes_nothing_outside_of_it(folder, tmp_path):
    folder.mkdir()
    outside = tmp_path / "precious"
    outside.write_text("mine")
    (folder / "export.json").write_text(json.dumps({"files": ["../precious", str(outside)]}))
    export(folder)
    assert outside.read_text() == "mine"


def test_what_github_pages_publishes_is_what_this_makes(tmp_path):
    workflow = (ROOT / ".github/workflows/pages.yml").read_text()
    [command] = re.findall(r"^\s+- run: (.*)$", workflow, re.M)
    assert re.search(r"^\s+path: dist$", workflow, re.M), "the folder of `make export`"
    used = re.findall(r"uses: (\S+)", workflow)
    assert len(used) == 4
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used)
    out = tmp_path / "published"
    venv = sys.prefix  # with all that `make export` would install, and what it would not
    told = [f"EXPORT_TO={out}", f"VENV={venv}", "-o", f"{venv}/export.stamp"]
    [left_out] = re.findall(r"grep -Ev '\^\((.*)\)=='", (ROOT / "Makefile").read_text())
    missing = tmp_path / "missing"
    missing.mkdir()
    for package in left_out.split("|"):
        (missing / f"{package}.py").write_text("raise ImportError('it is not installed')")
    environment = os.environ | {
        "P2PWEB_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(missing),
    }
    subprocess.run([*command.split(), *told], cwd=ROOT, env=environment, check=True)
    [entry] = json.loads((out / "packages.json").read_text())["packages"]
    assert (entry["model"], entry["variant"]) == ("prx-emoji", "f16")
    assert Package((out / entry["url"]).parent).package_id == entry["package_id"]
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert size < 60e6
