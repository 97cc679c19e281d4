"""The engine can be lifted out: it imports itself and vendored libraries, and knows no page."""

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "static/js"
ENGINE = STATIC / "engine"
FILES = sorted(ENGINE.rglob("*.js"))

IMPORT = re.compile(r"""^(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)|\bimport\(([^)]*)""", re.M)
NOTES = re.compile(r"/\*\*.*?\*/", re.S)  # types are named as import('./file.js').Type there
PAGE = re.compile(r"\b(?:document|window|localStorage|sessionStorage|HTMLElement)\b[.\[(]")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ENGINE).as_posix())
def test_a_file_imports_only_the_engine_and_vendored_libraries(file: Path) -> None:
    source = NOTES.sub("", file.read_text())
    assert not PAGE.search(source)
    for path, dynamic in IMPORT.findall(source):
        assert path.startswith("."), dynamic or path
        target = (file.parent / path).resolve()
        assert target.is_file()
        assert target.is_relative_to(ENGINE) or target.is_relative_to(STATIC / "vendor")


def test_imports_are_found_at_all() -> None:
    found = IMPORT.findall((ENGINE / "text/ftfy.js").read_text())
    assert {path for path, _ in found} >= {"./tables.js", "./entities.js"}
