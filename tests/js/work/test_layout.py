"""Who knows whom in the browser: the page the work, the work the engine, and never upwards."""

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "static/js"
IMPORT = re.compile(
    r"""^(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)|\bimport\('([^']+)""", re.M
)
MAY_KNOW = {
    "page": {"page", "work", "room", "vendor"},
    "work": {"work", "engine", "room"},
}
DOM = re.compile(r"\b(?:document|window|localStorage|sessionStorage|HTMLElement)\b[.\[(]")
# What makes the queue depend on more than its calls
IMPURE = re.compile(
    r"\b(?:setTimeout|setInterval|queueMicrotask|fetch|Worker|crypto|performance|Date\.now"
    r"|Math\.random|indexedDB|async|await|Promise)\b|new Date\(\)"
)
FILES = sorted(file for folder in MAY_KNOW for file in (STATIC / folder).rglob("*.js"))
WORK = sorted((STATIC / "work").rglob("*.js"))
QUEUE = sorted((STATIC / "work/queue").glob("*.js"))


def imports(file: Path) -> list[str]:
    return [static or dynamic for static, dynamic in IMPORT.findall(file.read_text())]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_module_imports_only_what_it_may_know(file: Path) -> None:
    for path in imports(file):
        target = (file.parent / path if path.startswith(".") else STATIC / path).resolve()
        assert target.is_file(), path
        here, there = (place.relative_to(STATIC).parts[0] for place in (file, target))
        assert there in MAY_KNOW[here], path


@pytest.mark.parametrize("file", WORK, ids=lambda file: file.name)
def test_the_work_knows_no_page(file: Path) -> None:
    assert not DOM.search(file.read_text())


@pytest.mark.parametrize("file", QUEUE, ids=lambda file: file.name)
def test_the_queue_knows_itself_alone_and_no_time_but_what_it_is_told(file: Path) -> None:
    code = re.sub(r"/\*.*?\*/|//.*", "", file.read_text(), flags=re.S)
    assert not IMPURE.search(code)
    assert all((file.parent / path).resolve() in QUEUE for path in imports(file))


def test_the_page_loads_the_work_only_when_it_is_asked_to() -> None:
    for file in (STATIC / "page").glob("*.js"):
        static = [path for path, _ in IMPORT.findall(file.read_text()) if path]
        assert not any(path.startswith("work/") for path in static), file.name
    opening = "page/computing/opening.js"
    assert opening in imports(STATIC / "page/compute.js")
    assert "work/tab-worker.js" in imports(STATIC / opening)
