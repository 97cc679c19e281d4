"""The transport knows itself and vendored libraries: neither work, nor engine, nor pages."""

import re
from pathlib import Path

import pytest

from rooms.templatetags.page import LIBRARIES

STATIC = Path(__file__).parents[3] / "static/js"
ROOM = STATIC / "room"
IMPORT = re.compile(
    r"""^(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)|\bimport\('([^']+)""", re.M
)
NOTES = re.compile(r"/\*\*.*?\*/", re.S)  # types are named as import('./file.js').Type there
DOM = re.compile(r"\b(?:document|window|localStorage|sessionStorage|HTMLElement)\b[.\[(]")
FILES = sorted(ROOM.rglob("*.js"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOM).as_posix())
def test_a_module_of_the_transport_knows_nothing_above_it(file: Path) -> None:
    source = NOTES.sub("", file.read_text())
    assert not DOM.search(source)
    for static, dynamic in IMPORT.findall(source):
        path = static or dynamic
        target = (file.parent / path).resolve()
        assert path in LIBRARIES or (target.is_file() and target.is_relative_to(ROOM)), path


def test_libraries_are_loaded_when_somebody_joins_and_not_before() -> None:
    """The modules of a page may import those of the transport without loading Trystero."""
    found = [
        (file.name, static, dynamic)
        for file in FILES
        for static, dynamic in IMPORT.findall(NOTES.sub("", file.read_text()))
        if (static or dynamic) in LIBRARIES
    ]
    assert {(name, dynamic) for name, _, dynamic in found} == {
        ("trystero.js", "@trystero-p2p/nostr"),
        ("trystero.js", "@trystero-p2p/core"),
    }


def test_every_library_of_the_import_map_is_vendored_and_names_no_other() -> None:
    vendor = STATIC / "vendor"
    for path in LIBRARIES.values():
        assert (vendor / path).is_file()
        for file in (vendor / path).parent.glob("*.*js"):
            for static, dynamic in IMPORT.findall(file.read_text()):
                name = static or dynamic
                assert name in LIBRARIES or (file.parent / name).is_file(), (file.name, name)
