"""The browser takes the variants of kernels that Python takes, and remembers what it tried."""

import json
from pathlib import Path
from typing import Any

import pytest

from diffusion.backends.wgpu_trial import best_of
from diffusion.model_folder import read_model_folder
from diffusion.plan.compiler import compile_folder
from diffusion.plan.schema import write_plan
from diffusion.plan.sizes import dispatch_sizes, dispatch_workgroups, symbol_values
from diffusion.plan.variants import BASELINE, Choice, read_variants
from tests.diffusion.plan.conftest import WGSL
from tests.diffusion.plan.test_variants import BROKEN

EMOJI = Path(__file__).parents[3] / "models/prx-emoji"
TEXT = (WGSL / "variants.json").read_text()
TABLE = read_variants(WGSL)
CHOICES: list[dict[str, str]] = [
    {},
    {name: kind.software for name, kind in TABLE.classes.items()},
    {"few": "64x128x8x2", "many": "128x128x32", "attention": "64x64x16"},
    {"few": BASELINE, "many": "64x64x16"},
    {"few": "64x128x16f16", "many": "128x128x16f16", "attention": "128x64x16f16"},
]

FITTED = """
const [text, table, planText, sizes, names] = args;
const { readPlan } = await import('/static/js/engine/plan.js');
const { dispatchSizes, dispatchWorkgroups, symbolValues } =
  await import('/static/js/engine/sizes.js');
const plan = readPlan(planText);
const symbols = symbolValues(plan, sizes);
const choice = new m.Choice(m.readVariants(table), names);
const found = [];
for (const { segments } of plan.stages.values()) {
  for (const planned of segments.flatMap(({ dispatches }) => dispatches)) {
    const sizes = dispatchSizes(planned, symbols);
    const { constants, imports } = choice.fitted(planned, sizes);
    found.push(['TILE_M', 'TILE_N', 'TILE_K', 'BUFFERS'].map((name) => constants.get(name) ?? 0)
      .concat(dispatchWorkgroups({ ...planned, constants }, sizes, symbols), imports));
  }
}
return [String(choice), found];
"""


@pytest.mark.parametrize("names", CHOICES)
@pytest.mark.parametrize("side", [8, 32])
def test_dispatches_take_the_tiles_that_they_take_in_python(
    engine, names: dict[str, str], side: int
) -> None:
    plan = compile_folder(read_model_folder(EMOJI), "f16").plan
    sizes = {"B": 2, "T": 9, "S": 4, "H": side, "W": side, "A": 1, "O": 4}
    symbols = symbol_values(plan, sizes)
    choice = Choice(TABLE, names)
    expected = []
    for stage in plan.stages.values():
        for dispatch in (one for segment in stage.segments for one in segment.dispatches):
            values = dispatch_sizes(dispatch, symbols)
            fitted = choice.fitted(dispatch, values)
            tile = [fitted.constants.get(name, 0) for name in ("TILE_M", "TILE_N", "TILE_K")]
            groups = dispatch_workgroups(fitted, values, symbols)
            buffers = fitted.constants.get("BUFFERS", 0)
            expected.append([*tile, buffers, *groups, *fitted.imports])
    found = engine("variants", FITTED, "", TEXT, write_plan(plan), sizes, names)
    assert found == [str(choice), expected]


def test_the_same_tables_are_refused(engine) -> None:
    body = """return args.map((text) => {
      try { m.readVariants(text); return null; } catch ({ code }) { return code; }
    });"""
    broken = [json.dumps(json.loads(TEXT) | change) for change in BROKEN]
    assert engine("variants", body, TEXT, "{", *broken) == [None] + ["bad-shader"] * (
        1 + len(BROKEN)
    )


def test_the_baseline_gives_way_only_to_what_is_clearly_faster(engine) -> None:
    a, b, half = "64x64x16", "64x128x8x2", "128x128x16f16"
    cases: list[tuple[list[tuple[str, float]], str]] = [
        ([(BASELINE, 1.0), (a, 0.97), (b, 2)], BASELINE),
        ([(BASELINE, 1.0), (a, 0.9), (b, 0.7), (half, 0.71)], b),
        ([(BASELINE, 1.0), (half, 0.81)], BASELINE),
        ([(BASELINE, 1.0), (half, 0.81), (a, 0.94)], a),
        ([(BASELINE, 1.0), (half, 0.79), (a, 0.94)], half),
        ([(a, 3)], a),
        ([], BASELINE),
    ]
    body = """
    const { readVariants } = await import('/static/js/engine/variants.js');
    const table = readVariants(args[0]);
    return args[1].map((times) => m.bestOf(table, new Map(times)));
    """
    found = engine("trial", body, TEXT, [times for times, _ in cases])
    assert found == [best for _, best in cases]
    assert found == [best_of(TABLE, dict(times)) for times, _ in cases]


def test_what_a_software_adapter_takes_is_not_tried(engine) -> None:
    body = """
    const [text] = args;
    const { readVariants } = await import('/static/js/engine/variants.js');
    const device = { info: { software: true }, choose: (choice) => choice };
    const nobody = () => { throw new Error('nothing is asked for'); };
    return String(await m.chooseVariants(device, readVariants(text), nobody, nobody));
    """
    found: Any = engine("trial", body, TEXT)
    assert found == str(TABLE.for_software())
