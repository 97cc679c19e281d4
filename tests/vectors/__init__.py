"""What two implementations must both be, as JSON: read by the tests of each."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUEUE = Path(__file__).parent / "queue"


@dataclass(frozen=True)
class Scene:
    """only: the one queue that can play it, or None."""

    file: str
    name: str
    only: str | None
    calls: list[dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def scenes(queue: str) -> list[Scene]:
    """The histories for `database` or `room`."""
    found = []
    for path in sorted(QUEUE.glob("*.json")):
        for scene in json.loads(path.read_text()).get("scenes", []):
            if scene.get("only") in (None, queue):
                found.append(Scene(path.stem, scene["name"], scene.get("only"), scene["calls"]))
    return found


def transition_table() -> dict[str, dict[str, list[str]]]:
    moves: dict[str, dict[str, list[str]]] = json.loads((QUEUE / "transitions.json").read_text())[
        "moves"
    ]
    return moves
