"""Our matrix product on the best wgpu device here: TFLOP/s by tile and type of weight.

python benchmarks/wgpu_matmul.py [--size 4096]
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "queue"))

from diffusion.backends.wgpu_device import Device  # noqa: E402
from diffusion.backends.wgpu_run import DeviceRun, Weights  # noqa: E402
from diffusion.packaging.storage import DTYPES, DType, store  # noqa: E402
from diffusion.plan import kernels, tiles  # noqa: E402
from diffusion.plan.builder import PlanBuilder, Recipe  # noqa: E402

ROUNDS = 5


def seconds(device: Device, size: int, tile: dict[str, int], matrix_type: DType) -> float:
    """The best of some rounds of several products each, so that waiting hardly counts."""
    builder = PlanBuilder({}, matrix_type)
    stage = builder.stage("only")
    stage.segment("only")
    stage.tensor("left", (size, size), "input")
    stage.tensor("out", (size, size), "output")
    stage.tensor("little", (1, 4), "output")
    builder.weight("weight", (size, size), Recipe())
    products = 1 if device.software else 10
    for _ in range(products):
        kernels.matmul(
            stage, "left", "weight", "out", rows=size, columns=size, inner=size, tile=tile
        )
    kernels.matmul(stage, "left", "weight", "little", rows=1, columns=4, inner=4, tile=tile)
    stage.finish()
    plan = builder.finish({})
    random = np.random.default_rng(0)
    matrix = random.standard_normal((size, size)).astype(np.float32)
    weights = {"weight": np.frombuffer(store(matrix, matrix_type), np.uint8)}
    run = DeviceRun(device, plan, Weights(device, plan, weights.__getitem__), {})
    run.write("only", "left", random.standard_normal((size, size)).astype(np.float32))
    best = float("inf")
    for _ in range(ROUNDS + 1):  # the first one compiles
        start = time.perf_counter()
        run.run("only")
        run.read("only", "little")  # waits for the device, and moves 16 bytes
        best = min(best, (time.perf_counter() - start) / products)
    run.close()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, help="of the square matrices")
    arguments = parser.parse_args()
    device = Device(ROOT / "static" / "wgsl")
    size = arguments.size or (1024 if device.software else 4096)
    print(device.description, f"{size} x {size} x {size}")
    for matrix_type in DTYPES:
        for tile in (tiles.TILE, tiles.SMALL_TILE):
            taken = seconds(device, size, dict(tile), matrix_type)
            shape = "x".join(str(value) for value in tile.values())
            print(f"{matrix_type:<4} {shape:<10} {2 * size**3 / taken / 1e12:8.4f} TFLOP/s")


if __name__ == "__main__":
    main()
