"""Vendored files are what their publishers published: every byte, and nothing beside them."""

import hashlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "static/js/vendor", ROOT / "tests/js/vendor"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_every_vendored_file_is_listed_with_its_hash(folder: Path) -> None:
    packages = json.loads((folder / "VENDORED.json").read_text())
    listed = {file["path"]: file["sha256"] for package in packages for file in package["files"]}
    present = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "VENDORED.json"
    }
    assert present == listed


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_every_vendored_package_has_a_version_and_its_licence_beside_it(folder: Path) -> None:
    for package in json.loads((folder / "VENDORED.json").read_text()):
        assert package["version"]
        assert package["licence"]
        assert any(Path(file["path"]).name == "LICENSE" for file in package["files"])
