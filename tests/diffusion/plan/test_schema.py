"""A plan survives JSON, and one that nobody should run is refused."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from diffusion.plan.compiler import Compiled
from diffusion.plan.expressions import PlanError
from diffusion.plan.schema import Plan, read_plan, write_plan
from diffusion.plan.sizes import dispatch_sizes, dispatch_workgroups, symbol_values, tensor_bytes

SIZES = {"B": 2, "T": 9, "S": 4, "H": 8, "W": 12, "A": 0, "O": 8}


def test_a_plan_is_the_same_after_json(tiny: Compiled) -> None:
    text = write_plan(tiny.plan)
    assert read_plan(text) == tiny.plan
    assert write_plan(read_plan(text)) == text


def test_one_plan_serves_every_size(tiny: Compiled) -> None:
    for sizes in (SIZES, SIZES | {"B": 1, "T": 0, "H": 30, "W": 2}):
        symbols = symbol_values(tiny.plan, sizes)
        assert symbols["L"] == sizes["H"] * sizes["W"] // 4
        for stage in tiny.plan.stages.values():
            for segment in stage.segments:
                for dispatch in segment.dispatches:
                    values = dispatch_sizes(dispatch, symbols)
                    assert all(
                        count >= 0 for count in dispatch_workgroups(dispatch, values, symbols)
                    )


@pytest.mark.parametrize(
    "changes",
    [
        *({"H": 7}, {"H": 0}, {"H": 10**6}, {"B": 3}, {"T": -1}, {"L": 24}, {"Z": 1}),
        *({"A": 1}, {"O": 0}, {"O": 9}, {"U": 0}),  # bands that are not rows of the picture
    ],
)
def test_sizes_that_the_plan_does_not_serve_are_refused(
    tiny: Compiled, changes: dict[str, int]
) -> None:
    with pytest.raises(PlanError):
        symbol_values(tiny.plan, SIZES | changes)


def first_dispatch(document: dict[str, Any]) -> dict[str, Any]:
    dispatch: dict[str, Any] = document["stages"]["denoise"]["segments"][1]["dispatches"][1]
    assert dispatch["shader"] == "matmul"
    return dispatch


def tensors(document: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = document["stages"]["denoise"]["tensors"]
    return result


def change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Sets one place of the first matrix product of a block."""

    def apply(document: dict[str, Any]) -> None:
        place: Any = first_dispatch(document)
        *steps, last = path.split("/")
        for step in steps:
            place = place[int(step) if step.isdigit() else step]
        place[int(last) if last.isdigit() else last] = value

    return apply


def reads_before_writing(document: dict[str, Any]) -> None:
    dispatches = document["stages"]["denoise"]["segments"][1]["dispatches"]
    del dispatches[0]  # who wrote the normal that the product reads


def writes_an_input(document: dict[str, Any]) -> None:
    first_dispatch(document)["bindings"][-1] = ["latent", "write"]


def writes_what_it_reads(document: dict[str, Any]) -> None:
    dispatch = first_dispatch(document)
    dispatch["bindings"][-1] = [dispatch["bindings"][0][0], "write"]


def writes_the_buffer_that_it_reads(document: dict[str, Any]) -> None:
    dispatch = first_dispatch(document)
    source, output = dispatch["bindings"][0][0], dispatch["bindings"][-1][0]
    tensors(document)[output]["buffer"] = tensors(document)[source]["buffer"]


# tests/js/engine/test_plan.py has the browser's reader refuse the same ones
HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "another format": lambda document: document.update(format="zip"),
    "another version": lambda document: document.update(version=2),
    "a version that is true": lambda document: document.update(version=True),
    "a version of 1.0": lambda document: document.update(version=1.0),
    "a key too many": lambda document: document.update(extra=1),
    "a key too few": lambda document: document.pop("weights"),
    "a list for an object": lambda document: document.update(stages=[]),
    "an odd key in a dispatch": change("code", "fn main() {}"),
    "a shader by path": change("shader", "../../secret"),
    "a shader by address": change("shader", "https://example.org/x"),
    "an import by path": change("imports/0", "../x"),
    "too many imports": change("imports", ["tile"] * 10),
    "code for a constant": change("constants/BIAS", "1; fn evil() {}"),
    "code for a constant's name": change("constants/X = 1; const Y", 1),
    "a list for a constant": change("constants/BIAS", [1]),
    "a huge constant": change("constants/TILE_M", 2**31),
    "a size by attribute": change("sizes/rows", "B.__class__"),
    "a size that divides": change("sizes/rows", "1 / 2"),
    "a negative size": change("sizes/rows", -1),
    "a size that is true": change("sizes/rows", True),
    "a fractional size": change("sizes/rows", 1.5),
    "a size of 1.0": change("sizes/rows", 1.0),
    "a shape of 64.0": lambda document: tensors(document)["hidden"].update(shape=[64.0]),
    "a symbol up to 2.0": lambda document: document["symbols"]["B"].update(largest=2.0),
    "too many sizes": change("sizes", {f"size{number}": 1 for number in range(17)}),
    "two workgroup counts": change("workgroups", [1, 1]),
    "a long expression": change("workgroups/0", "1" + " + 1" * 100),
    "nine buffers": change("bindings", [None] * 9),
    "a binding without access": change("bindings/0", ["hidden"]),
    "an unknown access": change("bindings/0", ["hidden", "execute"]),
    "a tensor that is not there": change("bindings/0", ["ghost", "read"]),
    "a weight of the host": change("bindings/1", ["text_encoder.embedding", "read"]),
    "a written weight": change("bindings/1", ["transformer.row_turns", "write"]),
    "reads before writing": reads_before_writing,
    "writes an input": writes_an_input,
    "writes what it reads": writes_what_it_reads,
    "writes the buffer it reads": writes_the_buffer_that_it_reads,
    "an unknown role": lambda document: tensors(document)["hidden"].update(role="admin"),
    "an inner tensor nowhere": lambda document: tensors(document)["hidden"].update(role="inner"),
    "an output in the pool": lambda document: tensors(document)["velocity"].update(buffer=0),
    "an output never written": lambda document: tensors(document).update(
        ghost={"shape": [1], "type": "f32", "role": "output"}
    ),
    "one name for two tensors": lambda document: document["stages"]["decode"]["tensors"][
        "latent"
    ].update(shape=["H", "W"]),
    "one name for a weight and a tensor": lambda document: document["weights"].update(
        latent={"shape": [1], "type": "f32", "use": "device"}
    ),
    "an unknown type": lambda document: tensors(document)["hidden"].update(type="f64"),
    "a tensor of codes": lambda document: tensors(document)["hidden"].update(type="int8"),
    "a vector of codes": lambda document: document["weights"].update(
        ghost={"shape": [64], "type": "int4", "use": "device"}
    ),
    "endless codes": lambda document: document["weights"].update(
        ghost={"shape": [2**20, 2**20], "type": "int4", "use": "device"}
    ),
    "codes that nobody knows": lambda document: document["weights"].update(
        ghost={"shape": [4, 4], "type": "int2", "use": "device"}
    ),
    "a weight of u32": lambda document: document["weights"].update(
        ghost={"shape": [4, 4], "type": "u32", "use": "device"}
    ),
    "five axes": lambda document: tensors(document)["hidden"].update(shape=[1] * 5),
    "an empty weight": lambda document: document["weights"].update(
        ghost={"shape": [0], "type": "f32", "use": "device"}
    ),
    "an endless weight": lambda document: document["weights"].update(
        ghost={"shape": [2**32, 2**32], "type": "f32", "use": "device"}
    ),
    "a symbol without room": lambda document: document["symbols"].update(
        B={"smallest": 2, "largest": 1, "multiple": 1}
    ),
    "a long symbol": lambda document: document["symbols"].update(
        BB={"smallest": 1, "largest": 1, "multiple": 1}
    ),
    "two segments of one name": lambda document: document["stages"]["denoise"]["segments"][
        1
    ].update(name="begin"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_plan_is_refused(tiny: Compiled, how: str) -> None:
    document = json.loads(write_plan(tiny.plan))
    changed = copy.deepcopy(document)
    HOSTILE[how](changed)
    assert json.dumps(changed) != json.dumps(document)
    with pytest.raises(PlanError):
        read_plan(json.dumps(changed))


NO_PLANS = ["", "null", "[]", "{", "NaN", '{"format": Infinity}', "[" * 100_000,
            " " * (8 * 2**20 + 1)]  # fmt: skip


@pytest.mark.parametrize("text", NO_PLANS, ids=lambda text: text[:10].strip() or str(len(text)))
def test_what_is_no_plan_at_all_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        read_plan(text)


def test_what_is_only_too_large_at_some_size_is_refused_there(tiny: Compiled) -> None:
    document = json.loads(write_plan(tiny.plan))
    first_dispatch(document)["sizes"]["rows"] = "B * L * 4000000000"
    first_dispatch(document)["workgroups"][0] = "L * 65535"
    tensors(document)["hidden"]["shape"] = ["L * 4000000000"]
    plan: Plan = read_plan(json.dumps(document))
    symbols = symbol_values(plan, SIZES)
    dispatch = plan.stages["denoise"].segments[1].dispatches[1]
    with pytest.raises(PlanError):
        dispatch_sizes(dispatch, symbols)
    with pytest.raises(PlanError):
        dispatch_workgroups(dispatch, {"rows": 1, "columns": 1}, symbols)
    with pytest.raises(PlanError):
        tensor_bytes(plan.stages["denoise"], "hidden", symbols)
