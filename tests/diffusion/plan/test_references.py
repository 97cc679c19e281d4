"""The references of `/check`: what each segment should give, and an executor that is held to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.model_folder import read_model_folder
from diffusion.plan.areas import BAND
from diffusion.plan.compiler import Compiled
from diffusion.plan.references import FORMAT, references, written_by
from diffusion.plan.schema import Stage
from tests.diffusion.plan.single import distance

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def recorded(kl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("references") / "references.safetensors"
    path.write_bytes(references(read_model_folder(kl_folder), "model"))
    return path


def referenced(compiled: Compiled) -> dict[str, Stage]:
    """All stages but bands, which have the kernels and weights of `decode`."""
    return {name: stage for name, stage in compiled.plan.stages.items() if name != BAND}


def errors(device: Device, compiled: Compiled, recorded: Path) -> dict[str, float]:
    """Relative L2 by STAGE/SEGMENT/TENSOR, every segment begun from the reference before it."""
    found: dict[str, float] = {}
    with safe_open(recorded, "np") as file:
        expected: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        symbols = json.loads(file.metadata()["symbols"])
    rows = compiled.plan.host["text_encoder"]["embedding"]
    known: dict[str, Array] = {
        "token_rows": compiled.read_rows(rows, [int(number) for number in expected["ids"]])
    }
    weights = Weights(device, compiled.plan, compiled.read_weight)
    for name, stage in referenced(compiled).items():
        run = DeviceRun(device, compiled.plan, weights, symbols, poison=True)
        for tensor, described in stage.tensors.items():
            value = expected.get(f"{name}/in/{tensor}")
            if value is None and described.role == "input":
                value = known[tensor]
            if value is not None:
                run.write(name, tensor, value)
        for segment in stage.segments:
            run.run(name, [segment.name])
            for tensor in written_by(stage, segment):
                key = f"{name}/{segment.name}/{tensor}"
                found[key] = distance(run.read(name, tensor), expected[key])
                run.write(name, tensor, expected[key])
                known[tensor] = expected[key]
    return found


def test_a_file_says_what_it_is_and_is_small(recorded: Path) -> None:
    with safe_open(recorded, "np") as file:
        assert file.metadata()["format"] == FORMAT
        assert file.metadata()["model_id"] == "model"
        assert 0 < len(file.get_tensor("ids")) <= 12
    assert recorded.stat().st_size < 2**20


@pytest.mark.parametrize(("stored", "tolerance"), [("tiny", 1e-4), ("tiny_f16", 5e-3)])
def test_a_device_is_near_it_in_every_segment(
    device: Device, recorded: Path, request: pytest.FixtureRequest, stored: str, tolerance: float
) -> None:
    compiled: Compiled = request.getfixturevalue(stored)
    found = errors(device, compiled, recorded)
    segments = {
        f"{name}/{segment.name}"
        for name, stage in referenced(compiled).items()
        for segment in stage.segments
    }
    assert {key.rpartition("/")[0] for key in found} == segments
    assert max(found.values()) < tolerance


def test_a_weight_that_is_off_shows_in_its_segment_alone(
    device: Device, recorded: Path, tiny: Compiled
) -> None:
    wrong = "transformer.blocks.0.down_proj"

    def read(name: str) -> Array:
        values = tiny.read_weight(name)
        return (values.view(np.float32) * 1.1).view(np.uint8) if name == wrong else values

    found = errors(device, _reading(tiny, read), recorded)
    assert [key for key, error in found.items() if error > 1e-4] == ["denoise/block.0/hidden"]


def _reading(compiled: Compiled, read: Callable[[str], Array]) -> Compiled:
    """The same plan with other values."""

    class Other(Compiled):
        def read_weight(self, name: str) -> Array:
            return read(name)

    return Other(compiled.plan, compiled.weights)
