"""Every variant of static/wgsl/variants.json is right, and a device takes the fastest."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from diffusion.backends import wgpu_trial
from diffusion.backends.wgpu_device import DEFAULT_LIMITS, Device
from diffusion.backends.wgpu_trial import choose_variants
from diffusion.packaging.storage import DType
from diffusion.plan import kernels, tiles, trial
from diffusion.plan.schema import write_plan
from diffusion.plan.variants import (
    BASELINE,
    Choice,
    Variant,
    dashed,
    read_variants,
    variants_in,
)
from tests.diffusion.plan.conftest import WGSL
from tests.diffusion.plan.single import Operation, distance

TABLE = read_variants(WGSL)
EVERY = [
    (kind, name)
    for kind, described in TABLE.classes.items()
    for name in dict.fromkeys([*described.tried, described.software])
]
CLOSE = 2e-6
CLOSE_F16 = 1.5e-3  # products and sums of 16 of them have 11 bits
BROKEN: list[dict[str, Any]] = [
    {"version": 2},
    {"classes": {"few": {"shaders": {}, "tried": ["other"], "software": BASELINE}}},
    {"classes": {"few": {"shaders": {}, "tried": [BASELINE], "software": "nothing"}}},
    {"variants": {BASELINE: {"constants": {"TILE_M": 8}, "features": [], "limits": {}}}},
    {"variants": {"x": {"constants": {"NORM": 1}, "features": [], "limits": {}}}},
    {
        "variants": {
            BASELINE: {"constants": {}, "features": [], "limits": {}, "imports": {"tile": "grid"}}
        }
    },
]


@pytest.fixture(scope="module")
def able() -> Device:
    """A device that may take every variant that its adapter can run."""
    return Device(WGSL, variants=TABLE)


@contextmanager
def choosing(device: Device, kind: str, name: str) -> Iterator[None]:
    device.choice = Choice(TABLE, {kind: name})
    try:
        yield
    finally:
        device.choice = None


def declare(operation: Operation, kind: str) -> None:
    """An operation of the class, with tails in every dimension."""
    if kind in ("few", "many"):
        rows, columns, inner = (67, 140, 44) if kind == "few" else (1029, 140, 44)
        kernels.matmul(
            operation.stage,
            operation.tensor("left", operation.random(rows, inner)),
            operation.matrix("weight", columns, inner),
            operation.output("out", rows, columns),
            rows=rows,
            columns=columns,
            inner=inner,
        )
    elif kind == "slim":
        _conv2d(operation, 36)
    else:
        length, heads, kv_heads, head_dim = 70, 2, 1, 60
        kernels.attention(
            operation.stage,
            operation.tensor("qkv", operation.random(2, length, heads + 2 * kv_heads, head_dim)),
            operation.output("out", 2, length, heads, head_dim),
            batch=2,
            length=length,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            scale=head_dim**-0.5,
        )


def _conv2d(operation: Operation, channels: int) -> None:
    kernels.conv2d(
        operation.stage,
        operation.tensor("picture", operation.random(11, 7, 20)),
        operation.matrix("weight", channels, 3, 3, 20),
        operation.weight("bias", operation.random(channels)),
        operation.output("out", 11, 7, channels),
        rows=11,
        columns=7,
        channels_in=20,
        channels_out=channels,
        tile=tiles.picture_tile(channels),
    )


def check(device: Device, operation: Operation, kind: str, name: str) -> None:
    [dispatch] = operation.stage.segments[0][1]
    sizes = {size: value for size, value in dispatch.sizes.items() if isinstance(value, int)}
    with choosing(device, kind, name):
        fitted = device.fitted(dispatch, sizes)
        variant = TABLE.variants[name]
        assert fitted.constants.items() >= variant.constants.items()
        assert set(fitted.imports) >= set(variant.imports.values())
        [(ours, twins)] = operation.both(device, "out")
    if variant.imports:
        assert CLOSE < distance(ours, twins) < CLOSE_F16
    else:
        assert distance(ours, twins) < CLOSE


@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_variant_gives_what_the_twin_gives(
    able: Device, kind: str, name: str, dtype: DType
) -> None:
    if not TABLE.variants[name].runs_with(able.gpu.features, able.gpu.limits):
        pytest.skip("not on this device")
    operation = Operation(dtype)
    declare(operation, kind)
    check(able, operation, kind, name)


@pytest.mark.parametrize("name", ["128x128x32", "64x64x4", "128x128x16f16"])
def test_a_convolution_takes_the_tile_of_large_products(able: Device, name: str) -> None:
    operation = Operation("f16")
    _conv2d(operation, 132)
    check(able, operation, "many", name)


def test_a_baseline_needs_nothing() -> None:
    for kind in TABLE.classes.values():
        for name in (kind.tried[0], kind.software):
            assert TABLE.variants[name].runs_with((), DEFAULT_LIMITS)
    needy = [name for name, one in TABLE.variants.items() if one.limits or one.features]
    assert {"128x128x32", "128x128x16f16"} <= set(needy)
    assert not any(TABLE.variants[name].runs_with((), DEFAULT_LIMITS) for name in needy)


def test_a_variant_stays_within_the_limits_that_it_names() -> None:
    for kind, name in EVERY:
        variant = TABLE.variants[name]
        if not variant.constants:
            continue
        rows, columns, inner, buffers = (variant.constants[key] for key in (
            "TILE_M", "TILE_N", "TILE_K", "BUFFERS",
        ))  # fmt: skip
        limits = DEFAULT_LIMITS | {dashed(key): value for key, value in variant.limits.items()}
        assert rows * columns // 64 <= limits["max-compute-invocations-per-workgroup"], kind
        needed = (2 if variant.imports else 4) * (rows + columns) * inner * buffers
        if kind == "attention" and variant.imports:
            needed += 16 * (rows // 8) * 16  # what rows have in common is not f16
        assert needed <= limits["max-compute-workgroup-storage-size"], (kind, name)


def test_the_plan_for_trials_is_the_one_that_is_compiled() -> None:
    text = (WGSL / trial.FILE_NAME).read_text()
    assert text == write_plan(trial.trial_plan()) + "\n", "python -m diffusion.plan.trial"
    tried = {name for name, kind in TABLE.classes.items() if len(kind.tried) > 1}
    assert trial.trial_plan().stages.keys() == tried


def test_a_software_adapter_takes_what_compiles_soonest(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "software", True)
    monkeypatch.setattr(wgpu_trial, "_time", None)  # nothing is measured
    monkeypatch.setattr(device, "choice", None)
    choice = choose_variants(device, WGSL)
    assert device.choice is choice
    assert str(choice) == "few 64x64x4, many 64x64x4, slim 64x32x4, attention 64x64x8"


@pytest.fixture
def small_trial(tmp_path: Path) -> Path:
    """The shaders, with a trial of small shapes."""
    folder = shutil.copytree(WGSL, tmp_path / "wgsl")
    plan = trial.trial_plan(few=(70, 64), many=(1030, 64), inner=64, tokens=70, heads=1)
    (folder / trial.FILE_NAME).write_text(write_plan(plan))
    return folder


def test_a_device_is_tried_once_and_remembered(
    able: Device, small_trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(able, "software", False)
    monkeypatch.setattr(able, "choice", None)
    kept = tmp_path / "kernels.json"
    kept.write_text("{")  # broken by somebody
    timed: list[str] = []
    time = wgpu_trial._time
    monkeypatch.setattr(wgpu_trial, "_time", lambda *given: timed.append(given[2]) or time(*given))
    choice = choose_variants(able, small_trial, kept)
    assert set(timed) == {"few", "many", "attention"}
    for kind, name in choice.names.items():
        assert name in TABLE.classes[kind].tried
    [found] = json.loads(kept.read_text()).values()
    assert found == choice.names
    tried = len(timed)
    assert choose_variants(able, small_trial, kept) == choice
    assert len(timed) == tried
    monkeypatch.setattr(able, "identity", "another driver, other times")
    choose_variants(able, small_trial, kept)
    assert len(timed) == 2 * tried
    assert len(json.loads(kept.read_text())) == 2


def test_the_baseline_gives_way_only_to_what_is_clearly_faster(
    able: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(able, "software", False)
    monkeypatch.setattr(able, "choice", None)
    seconds = {
        "few": [1.0, 0.97, 0.96, 0.98],
        "many": [1.0, 0.9, 0.7, 0.8, 1.1, 0.71],
        "attention": [1.0, 2, 3],
    }
    monkeypatch.setattr(wgpu_trial, "_time", lambda *given: seconds[given[2]].pop(0))
    monkeypatch.setattr(Variant, "runs_with", lambda *_: True)
    choice = choose_variants(able, WGSL)
    assert choice.names["few"] == choice.names["attention"] == choice.names["slim"] == BASELINE
    assert str(choice) == "many 64x128x8x2"


@pytest.mark.parametrize("change", BROKEN)
def test_a_table_that_does_not_fit_together_is_refused(change: dict[str, Any]) -> None:
    document = json.loads((WGSL / "variants.json").read_text())
    variants_in(document)
    with pytest.raises(ValueError, match=r"."):
        variants_in(document | change)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({BASELINE: 1.0, "128x128x16f16": 0.81}, BASELINE),
        ({BASELINE: 1.0, "128x128x16f16": 0.79}, "128x128x16f16"),
        ({BASELINE: 1.0, "128x128x16f16": 0.81, "64x64x16": 0.94}, "64x64x16"),
        ({"128x128x16f16": 3.0}, "128x128x16f16"),
        ({}, BASELINE),
    ],
)
def test_digits_are_given_up_only_for_a_fifth_of_the_time(
    seconds: dict[str, float], best: str
) -> None:
    assert wgpu_trial.best_of(TABLE, seconds) == best
