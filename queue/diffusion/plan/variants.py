"""The named variants of kernels in static/wgsl/variants.json, and how one takes a dispatch's tile.

A plan names the tiles of its matrix products and attention as constants, its own being the variant
"baseline". Another variant puts other numbers in their place; workgroup counts follow, since they
are expressions over the same constants. It may also name a file that multiplies in f16 instead of
the one that does in f32. Which variant a device takes is chosen for each class of dispatches: by a
short trial (`trial`), on a software adapter the one that compiles soonest.

static/js/engine/variants.js does the same.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from diffusion.plan.schema import Dispatch

FILE_NAME: Final = "variants.json"
BASELINE: Final = "baseline"
_FORMAT: Final = "p2pweb-variants"
_VERSION: Final = 1
_TILE: Final = frozenset({"TILE_M", "TILE_N", "TILE_K", "BUFFERS"})
_IMPORTS: Final = {"multiply_f32": "multiply_f16"}
# Files of static/wgsl that variants bring: the folder's own, whatever a manifest pins
BROUGHT: Final = tuple(f"shared/{name}" for name in _IMPORTS.values())
_BIGGER_LETTER: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Variant:
    """What takes the place of a plan's constants, and what a device must have for it.

    features and limits by the names that WebGPU has in JavaScript. imports: files of
    static/wgsl/shared that take the place of others.
    """

    constants: Mapping[str, int]
    features: tuple[str, ...]
    limits: Mapping[str, int]
    imports: Mapping[str, str] = field(default_factory=dict)

    def runs_with(self, features: Collection[str], limits: Mapping[str, int]) -> bool:
        """limits: by names as wgpu-py has them, such as max-buffer-size."""
        return set(self.features) <= set(features) and all(
            limits[dashed(name)] >= least for name, least in self.limits.items()
        )


@dataclass(frozen=True)
class Range:
    """Dispatches whose size of this name lies in least..most."""

    size: str
    least: int
    most: int

    def holds(self, value: int | None) -> bool:
        """A plan from elsewhere may call a shader without this size."""
        return value is not None and self.least <= value <= self.most


@dataclass(frozen=True)
class KernelClass:
    """Dispatches that take the same variant. shaders: which ones; tried: names of variants, the
    baseline first."""

    shaders: Mapping[str, Range]
    tried: tuple[str, ...]
    software: str


@dataclass(frozen=True)
class Variants:
    """The table. Classes are those of docs/plan.md, by name."""

    variants: Mapping[str, Variant]
    classes: Mapping[str, KernelClass]

    def for_software(self) -> "Choice":
        return Choice(self, {name: kind.software for name, kind in self.classes.items()})

    def class_of(self, dispatch: Dispatch, sizes: Mapping[str, int]) -> str | None:
        """sizes: the dispatch's own, evaluated."""
        for name, kind in self.classes.items():
            within = kind.shaders.get(dispatch.shader)
            if within is not None and within.holds(sizes.get(within.size)):
                return name
        return None


@dataclass(frozen=True)
class Choice:
    """The variants that a device takes, by class; the baseline where none is named."""

    table: Variants
    names: Mapping[str, str]

    def fitted(self, dispatch: Dispatch, sizes: Mapping[str, int]) -> Dispatch:
        """The dispatch as this device runs it."""
        kind = self.table.class_of(dispatch, sizes)
        variant = self.table.variants[self.names.get(kind or "", BASELINE)]
        if not variant.constants:
            return dispatch
        return replace(
            dispatch,
            constants={**dispatch.constants, **variant.constants},
            imports=tuple(variant.imports.get(name, name) for name in dispatch.imports),
        )

    def __str__(self) -> str:
        """One line, such as "few 64x128x8x2"; "baseline" when a plan is run as it is."""
        others = [f"{kind} {name}" for kind, name in self.names.items() if name != BASELINE]
        return ", ".join(others) or BASELINE


def read_variants(shaders: Path) -> Variants:
    """shaders: the folder static/wgsl."""
    return variants_in(json.loads((shaders / FILE_NAME).read_text(encoding="utf-8")))


def variants_in(document: Any) -> Variants:
    """The table in a JSON document. Raises ValueError for one that does not fit together."""
    if document["format"] != _FORMAT or document["version"] != _VERSION:
        raise ValueError(f"not {_FORMAT} version {_VERSION}")
    variants = {
        name: Variant(
            entry["constants"],
            tuple(entry["features"]),
            entry["limits"],
            entry.get("imports", {}),
        )
        for name, entry in document["variants"].items()
    }
    classes = {
        name: KernelClass(
            {shader: Range(**within) for shader, within in entry["shaders"].items()},
            tuple(entry["tried"]),
            entry["software"],
        )
        for name, entry in document["classes"].items()
    }
    for name, variant in variants.items():
        if variant.constants.keys() != (_TILE if name != BASELINE else set()):
            raise ValueError(f"{name}: {sorted(variant.constants)} is no tile")
        if not variant.imports.items() <= _IMPORTS.items():
            raise ValueError(f"{name}: {dict(variant.imports)} changes what is computed")
    for name, kind in classes.items():
        if kind.tried[0] != BASELINE or not {*kind.tried, kind.software} <= variants.keys():
            raise ValueError(f"{name}: the baseline, then names of variants")
    return Variants(variants, classes)


def dashed(name: str) -> str:
    """A limit's name in JavaScript as wgpu-py has it: maxBufferSize, max-buffer-size."""
    return _BIGGER_LETTER.sub("-", name).lower()
