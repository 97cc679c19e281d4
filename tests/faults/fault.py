"""A fault is declared once: how it is made, and what must hold after it beside what always must.

    KILLED = Fault("kill a tab", make=..., after=..., times=4)

What always must hold is the scene's (`Scene.holds`): the picture is there, it is what diffusers
makes, there is no second one, and nothing that was there before is lost.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pytest

from tests.faults import counting

Scene = TypeVar("Scene")


@dataclass(frozen=True, slots=True)
class Fault(Generic[Scene]):
    """make: injects it into a scene in which a picture is being made, at the moment at hand; after:
    what else must hold once the picture is there."""

    name: str
    make: Callable[[Scene, random.Random], None]
    after: Callable[[Scene], None] = lambda scene: None
    times: int = 1


def each_time(faults: Iterable[Fault[Any]]) -> pytest.MarkDecorator:
    """One test for each time that a fault is injected: `fault` and `lots`, which are other ones
    each time."""
    cases = [
        pytest.param(fault, number, id=f"{fault.name.replace(' ', '-')}-{number}")
        for fault in faults
        for number in range(fault.times)
    ]
    return pytest.mark.parametrize(("fault", "number"), cases)


def lots_of(request: pytest.FixtureRequest) -> random.Random:
    """The same numbers for the same test and FAULT_SEED."""
    return random.Random(f"{counting.seed()} {request.node.name}")


def injected(request: pytest.FixtureRequest, name: str, moment: str) -> None:
    """The fault of this name was made: it counts."""
    request.node.user_properties.append((counting.PROPERTY, name))
    print(f"{name} at {moment}; FAULT_SEED={counting.seed()}")
