"""What a folder's plan takes: `python -m diffusion.plan FOLDER [--dtype f16] [--side 512 1024]`.

For each stage: dispatches, weights, and at each size the bytes of inner tensors (which share
buffers), of inputs, outputs and states, and of the largest binding. It is what a device allocates.
`band` is the first of two bands of rows that a decode is cut into, or of as many as --bands says.
"""

import argparse
import sys
from pathlib import Path

from diffusion.bands import even_bands
from diffusion.model_folder import read_model_folder
from diffusion.packaging.manifest import dtypes_of
from diffusion.plan.areas import BAND
from diffusion.plan.compiler import compile_folder
from diffusion.plan.schema import Plan, write_plan
from diffusion.plan.sizes import memory, symbol_values

_COLUMNS = "{:<12}{:>11}{:>13}{:>12}{:>12}{:>14}\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m diffusion.plan", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", type=variant, default="f16", help="such as int4-f16-f16")
    parser.add_argument("--side", type=int, nargs="*", help="of a square picture, in pixels")
    parser.add_argument("--tokens", type=int, default=256, help="of each text, padded or not")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--bands", type=int, default=2, help="of a decode in bands of rows")
    parser.add_argument("--out", type=Path, help="write the plan's JSON here")
    arguments = parser.parse_args()
    folder = read_model_folder(arguments.folder)
    plan = compile_folder(folder, arguments.dtype).plan
    for side in arguments.side or [folder.default_width]:
        cells = side // folder.vae_scale
        sizes = {"B": 2, "T": arguments.tokens, "S": arguments.steps, "H": cells, "W": cells}
        if BAND in plan.stages:
            sizes |= {"A": 0, "O": even_bands(cells, arguments.bands)[0].rows}
        sys.stdout.write(f"{folder.name}, {arguments.dtype}, {side} x {side}, MB\n")
        sys.stdout.write(table(plan, sizes))
    if arguments.out:
        arguments.out.write_text(write_plan(plan), encoding="utf-8")


def table(plan: Plan, sizes: dict[str, int]) -> str:
    """One line a stage, in MB (10^6 bytes)."""
    symbols = symbol_values(plan, sizes)
    text = _COLUMNS.format("stage", "dispatches", "weights", "inner", "shared", "largest")
    for name, stage in plan.stages.items():
        needed = memory(plan, name, symbols)
        count = sum(len(segment.dispatches) for segment in stage.segments)
        sizes_mb = (needed.weights, needed.pool, needed.shared, needed.binding)
        text += _COLUMNS.format(name, count, *(f"{size / 1e6:.2f}" for size in sizes_mb))
    return text


def variant(text: str) -> str:
    """The text, if packages may be called so. Raises ValueError."""
    dtypes_of(text)
    return text


if __name__ == "__main__":
    main()
