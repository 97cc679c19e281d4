"""Which variants of kernels a device takes: the fastest of a short trial.

For each class of static/wgsl/variants.json every variant that the device can run computes the same
product or attention (trial.json) for some hundredths of a second. What was found is kept in a file,
for this adapter with this driver and these shaders. A software adapter is not tried: it takes what
compiles soonest.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.plan import trial
from diffusion.plan.expressions import PlanError
from diffusion.plan.schema import Plan, read_plan
from diffusion.plan.shaders import read_shader, shader_hashes
from diffusion.plan.variants import BASELINE, BROUGHT, Choice, Variants, read_variants

log = logging.getLogger(__name__)

_SAMPLES: Final = 3
_SAMPLE_SECONDS: Final = 0.01  # of several runs together, where one is shorter
_MOST_RUNS: Final = 50
_CLASS_SECONDS: Final = 0.3  # of samples, unless one of each variant takes longer
_CLEARLY_FASTER: Final = 0.95  # of the baseline's time; less may be chance
_WORTH_DIGITS: Final = 0.8  # of the baseline's time, for what multiplies in f16


def choose_variants(device: Device, shaders: Path, kept: Path | None = None) -> Choice:
    """The variants for this device, which takes them from now on. kept: the file of earlier trials,
    made where there is none."""
    table = read_variants(shaders)
    if device.software:
        device.choice = table.for_software()
        return device.choice
    plan = read_plan((shaders / trial.FILE_NAME).read_text(encoding="utf-8"))
    key = _key(device, table, plan, shaders)
    runnable = _runnable(device, table)
    known = {} if kept is None else _read(kept)
    found: dict[str, str] = known.get(key, {})
    if not _fits(found, runnable):
        found = {name: _fastest(device, table, plan, name, runnable[name]) for name in runnable}
        if kept is not None:
            _write(kept, {**known, key: found})
    device.choice = Choice(table, found)
    return device.choice


def _runnable(device: Device, table: Variants) -> dict[str, list[str]]:
    """By class, the variants to try that this device can run."""
    return {
        name: [
            variant
            for variant in kind.tried
            if table.variants[variant].runs_with(device.gpu.features, device.gpu.limits)
        ]
        for name, kind in table.classes.items()
    }


def _fastest(device: Device, table: Variants, plan: Plan, kind: str, names: list[str]) -> str:
    if len(names) == 1:
        return BASELINE
    seconds: dict[str, float] = {}
    budget = _CLASS_SECONDS / len(names)
    for name in names:
        device.choice = Choice(table, {kind: name})
        try:
            seconds[name] = _time(device, plan, kind, budget)
        except (PlanError, MemoryError) as error:
            log.warning("%s of %s cannot be tried: %s", name, kind, error)
    log.info("%s: %s", kind, ", ".join(f"{name} {1e3 * seconds[name]:.2f} ms" for name in seconds))
    return best_of(table, seconds)


def best_of(table: Variants, seconds: Mapping[str, float]) -> str:
    """The baseline, unless another variant is clearly faster. seconds: by variant."""

    def enough(name: str) -> float:
        share = _WORTH_DIGITS if table.variants[name].imports else _CLEARLY_FASTER
        return share * seconds.get(BASELINE, np.inf)

    faster = [name for name in seconds if name != BASELINE and seconds[name] < enough(name)]
    return min(faster, key=seconds.__getitem__, default=BASELINE)


def _time(device: Device, plan: Plan, stage: str, budget: float) -> float:
    """Seconds of one run of a stage, the least of several samples. budget: of all samples."""
    weights = Weights(device, plan, lambda name: _noise(plan.weights[name].bytes // 2, np.float16))
    run = DeviceRun(device, plan, weights, {})
    try:
        for name, tensor in plan.stages[stage].tensors.items():
            if tensor.role == "input":
                shape = tuple(int(axis) for axis in tensor.shape)
                values = _noise(int(np.prod(shape)), np.float32).view(np.float32)
                run.write(stage, name, values.reshape(shape))
        run.run(stage)  # compiles, and is measured by its pace
        device.wait()
        first = perf_counter()
        times = 1
        least = np.inf
        for _ in range(_SAMPLES + 1):
            began = perf_counter()
            run.run(stage, times=times)
            device.wait()
            took = (perf_counter() - began) / times
            least = min(least, took)
            times = min(max(int(_SAMPLE_SECONDS / max(took, 1e-6)), 1), _MOST_RUNS)
            if perf_counter() - first > budget:
                break
        return float(least)
    finally:
        run.close()
        weights.release()


def _noise(count: int, dtype: type[np.floating[Any]]) -> NDArray[np.uint8]:
    """Zeros would be computed faster than a model's numbers."""
    values = np.random.default_rng(1).random(count, np.float32) - np.float32(0.5)
    return values.astype(dtype).view(np.uint8)


def _key(device: Device, table: Variants, plan: Plan, shaders: Path) -> str:
    """Changes with whatever decides on times."""
    hashes = shader_hashes(plan, shaders)
    brought = [read_shader(shaders, name) for name in BROUGHT]
    decides = [device.identity, str(table), sorted(hashes.items()), brought]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _fits(found: Any, runnable: Mapping[str, list[str]]) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() == runnable.keys()
        and all(found[kind] in names for kind, names in runnable.items())
    )


def _read(kept: Path) -> dict[str, Any]:
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(kept: Path, known: Mapping[str, Any]) -> None:
    """Whole or not at all: another worker may read meanwhile. Without it, the next start tries."""
    try:
        with NamedTemporaryFile("w", dir=kept.parent, delete=False) as file:
            json.dump(known, file, indent=1)
        os.replace(file.name, kept)
    except OSError as error:
        log.warning("what was tried cannot be kept in %s: %s", kept, error)
        with suppress(OSError, UnboundLocalError):
            os.unlink(file.name)
