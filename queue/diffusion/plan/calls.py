"""What the functions of `kernels` and `dcae_kernels` share: how a dispatch is put together."""

from typing import Final

from diffusion.plan.builder import StageBuilder
from diffusion.plan.schema import Access, Size

GRID_WIDTH: Final = 65535  # as in shared/grid.wgsl
ITEM_THREADS: Final = 256

Bound = tuple[str, Access]


def weight_imports(stage: StageBuilder, weight: str) -> tuple[str, ...]:
    """The files that give weight4 for a weight of this type."""
    stored = stage.plan.weights[weight].type
    groups = ("weight_groups",) if stored in ("int8", "int4") else ()
    return (f"weight_{stored}", *groups)


def optional(name: str | None) -> Bound | None:
    return None if name is None else (name, "read")


def spread(count: str) -> tuple[Size, Size, Size]:
    return (f"min({count}, {GRID_WIDTH})", f"ceildiv({count}, {GRID_WIDTH})", 1)
