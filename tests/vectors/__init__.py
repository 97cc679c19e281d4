"""What two implementations must both be, as JSON: read by the tests of each."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUEUE = Path(__file__).parent / "queue"


@dataclass(frozen=True)
class Scene:
    """only: the one queue that can play it, or None. checks: what tabs hand in is checked."""

    file: str
    name: str
    only: str | None
    calls: list[dict[str, Any]]
    checks: bool = False

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def scenes(queue: str) -> list[Scene]:
    """The histories for `database` or `room`."""
    found = []
    for path in sorted(QUEUE.glob("*.json")):
        for scene in json.loads(path.read_text()).get("scenes", []):
            if scene.get("only") in (None, queue):
                only, checks = scene.get("only"), scene.get("checks", False)
                found.append(Scene(path.stem, scene["name"], only, scene["calls"], checks))
    return found


def transition_table() -> dict[str, dict[str, list[str]]]:
    moves: dict[str, dict[str, list[str]]] = json.loads((QUEUE / "transitions.json").read_text())[
        "moves"
    ]
    return moves
