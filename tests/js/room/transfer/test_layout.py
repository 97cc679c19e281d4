"""Transfers know nothing but themselves: they could be lifted out."""

import re
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[4] / "static/js/room"
FILES = [ROOM / "link.js", ROOM / "transfer.js", *sorted((ROOM / "transfer").glob("*.js"))]
IMPORT = re.compile(r"""^(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)""", re.M)
DOM = re.compile(r"\b(?:document|window|localStorage|sessionStorage|HTMLElement)\b[.\[(]")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_module_of_transfers_imports_only_others_of_them(file: Path) -> None:
    code = file.read_text()
    assert all((file.parent / path).resolve() in FILES for path in IMPORT.findall(code))
    assert "import(" not in re.sub(r"@\w+ \{.*|//.*|\* .*", "", code)
    assert not DOM.search(code)
