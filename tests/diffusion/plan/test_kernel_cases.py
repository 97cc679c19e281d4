"""The cases of `/check`: every shader is among them, and the file says what it says."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from diffusion.backends.wgpu_device import Device
from diffusion.backends.wgpu_run import DeviceRun, Weights
from diffusion.plan.kernel_cases import FORMAT, TOLERANCE, kernel_cases, kernel_file
from diffusion.plan.operation import STAGE, Operation
from diffusion.plan.schema import read_plan
from tests.diffusion.plan.conftest import WGSL
from tests.diffusion.plan.single import distance


@pytest.fixture(scope="module")
def file() -> bytes:
    return kernel_file()


@pytest.fixture(scope="module")
def cases(file: bytes) -> list[dict[str, Any]]:
    length = int.from_bytes(file[:8], "little")
    metadata = json.loads(file[8 : 8 + length])["__metadata__"]
    assert metadata["format"] == FORMAT
    read: list[dict[str, Any]] = json.loads(metadata["cases"])
    return read


def test_every_shader_is_in_a_case(cases: list[dict[str, Any]]) -> None:
    used = {
        dispatch["shader"]
        for case in cases
        for dispatch in json.loads(case["plan"])["stages"][STAGE]["segments"][0]["dispatches"]
    }
    assert used == {path.stem for path in WGSL.glob("*.wgsl")}


def test_names_are_told_apart() -> None:
    names = [case.name for case in kernel_cases()]
    assert len(set(names)) == len(names)


def test_what_is_compared_is_what_a_browser_can_read() -> None:
    for number, case in enumerate(kernel_cases()):
        operation = Operation(case.dtype, seed=number)
        for name in case.declare(operation):
            assert operation.stage.tensors[name].role in ("output", "state"), (case.name, name)


def test_a_device_gives_what_the_file_holds(
    device: Device, file: bytes, cases: list[dict[str, Any]]
) -> None:
    tensors = load(file)
    assert len(file) < 4 * 2**20
    for number, case in enumerate(cases):
        kinds: dict[str, dict[str, np.ndarray[Any, Any]]] = {"in": {}, "weight": {}, "out": {}}
        for name, value in tensors.items():
            place, kind, tensor = name.split("/", 2)
            if int(place) == number:
                kinds[kind][tensor] = value
        plan = read_plan(case["plan"])
        weights = Weights(device, plan, kinds["weight"].__getitem__)
        run = DeviceRun(device, plan, weights, {}, poison=True)
        for tensor, value in kinds["in"].items():
            run.write(STAGE, tensor, value)
        run.run(STAGE)
        assert kinds["out"], case["name"]
        for tensor, value in kinds["out"].items():
            ours = run.read(STAGE, tensor).astype(np.float64)
            assert distance(ours, value.astype(np.float64)) < TOLERANCE, case["name"]
