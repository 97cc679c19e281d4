"""The browser reads, refuses and measures plans exactly as Python does."""

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from diffusion.model_folder import read_model_folder
from diffusion.plan.compiler import compile_folder
from diffusion.plan.expressions import ExpressionError, PlanError, evaluate
from diffusion.plan.schema import Plan, read_plan, write_plan
from diffusion.plan.shaders import literal
from diffusion.plan.sizes import (
    dispatch_sizes,
    dispatch_workgroups,
    memory,
    pool_bytes,
    symbol_values,
    tensor_bytes,
    tensor_shape,
)
from tests.diffusion.plan.test_expressions import NAMES, NO_EXPRESSIONS, VALUES
from tests.diffusion.plan.test_schema import HOSTILE, NO_PLANS

EMOJI = Path(__file__).parents[3] / "models/prx-emoji"
SOME = random.Random(2)
CHANGES = 1200  # of a plan; about one in twenty-five is still a plan

# What each of many texts is: null for a plan, the kind of error for none
READ = """return args.map((text) => {
  try { m.readPlan(text); return null; } catch (error) { return [error.name, error.code]; }
});"""
REFUSED = ["PlanError", "bad-plan"]

EVALUATE = """const names = new Map(Object.entries(args[0]));
return args[1].map((text) => {
  try {
    return m.evaluate(text, names);
  } catch (error) {
    if (error.name === 'ExpressionError') return null;
    throw error;
  }
});"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_folder(read_model_folder(EMOJI), "f16").plan


# Expressions -----------------------------------------------------------------------------------
def test_an_expression_has_pythons_value(engine) -> None:
    found = engine("expressions", EVALUATE, NAMES, [text for text, _ in VALUES])
    assert found == [value for _, value in VALUES]


def test_what_is_no_expression_for_python_is_none(engine) -> None:
    found = engine("expressions", EVALUATE, NAMES, NO_EXPRESSIONS)
    assert found == [None] * len(NO_EXPRESSIONS)


def test_any_text_has_the_same_value_or_none(engine) -> None:
    words = "B L rows TILE_M Q min( max( ceildiv( ( ) , + - * // % / 0 1 7 65535 281474976710656"
    texts = [
        "".join(SOME.choices([*words.split(), " "], k=SOME.randrange(1, 9))) for _ in range(4000)
    ]
    texts += [well_formed(4) for _ in range(3000)]
    expected = [value_or_none(text) for text in texts]
    assert sum(value is not None for value in expected) > 1000
    assert engine("expressions", EVALUATE, NAMES, texts) == expected


def well_formed(depth: int) -> str:
    if depth == 0:
        return SOME.choice(["B", "L", "rows", "TILE_M", "0", "3", "17", "16777217", "2147483647"])
    left, right = well_formed(depth - 1), well_formed(depth - SOME.randrange(1, depth + 1))
    form = SOME.choice(["({} + {})", "{} - {}", "({}) * ({})", "({}) // ({})", "({}) % ({})",
                        "ceildiv({}, {})", "min({}, {})", "max({}, {})"])  # fmt: skip
    return form.format(left, right)


def value_or_none(text: str) -> int | None:
    try:
        return evaluate(text, NAMES)
    except ExpressionError:
        return None


# Documents -------------------------------------------------------------------------------------
def test_a_plan_is_read_whole(engine, plan: Plan) -> None:
    body = """
    const plan = m.readPlan(args[0]);
    const stages = [...plan.stages].map(([name, { tensors, segments }]) => [
      name,
      [...tensors.keys()],
      segments.map(({ name, dispatches }) => [name, dispatches.length]),
    ]);
    return [[...plan.symbols.keys()], [...plan.weights].map(([name, { bytes }]) => [name, bytes]),
      stages, plan.host];
    """
    symbols, weights, stages, host = engine("plan", body, write_plan(plan))
    assert symbols == list(plan.symbols)
    assert weights == [[name, weight.bytes] for name, weight in plan.weights.items()]
    assert host == plan.host
    assert stages == [
        [name, list(stage.tensors), [[part.name, len(part.dispatches)] for part in stage.segments]]
        for name, stage in plan.stages.items()
    ]


def test_what_python_refuses_is_refused(engine, plan: Plan) -> None:
    document = json.loads(write_plan(plan))
    blocks = document["stages"]["denoise"]["segments"]
    blocks[2:-1] = []  # one is enough
    texts = {}
    for how, change in HOSTILE.items():
        changed = copy.deepcopy(document)
        change(changed)
        texts[how] = json.dumps(changed)
        with pytest.raises(PlanError):
            read_plan(texts[how])
    texts |= dict.fromkeys(NO_PLANS)
    found = engine("plan", READ, *[text or how for how, text in texts.items()])
    assert dict(zip(texts, found, strict=True)) == dict.fromkeys(texts, REFUSED)


def test_whatever_is_changed_in_a_plan_both_refuse_or_neither(engine, plan: Plan) -> None:
    """One token of the text at a time becomes another one."""
    document = json.loads(write_plan(plan))
    document["stages"] = {name: document["stages"][name] for name in ("modulation", "advance")}
    document["weights"] = {
        name: weight for name, weight in document["weights"].items() if "time_in" in name
    } | {name: document["weights"][name] for name in bound(document["stages"])}
    text = json.dumps(document)
    read_plan(text)
    tokens = list(re.finditer(r'"[^"]*"|[-0-9.e+]+|true|false|null|[][{}:,]', text))
    pool = [*OTHER_TOKENS.split(" "), "[1, ]", '"B * L"']
    texts = []
    for _ in range(CHANGES):
        token = SOME.choice(tokens)
        other = SOME.choice([*pool, SOME.choice(tokens)[0]])
        texts.append(text[: token.start()] + other + text[token.end() :])
    expected = [None if accepts(changed) else REFUSED for changed in texts]
    assert 20 < expected.count(None) < CHANGES - 20
    found = engine("plan", READ, *texts)
    for changed, ours, theirs in zip(texts, found, expected, strict=True):
        assert ours == theirs, changed


OTHER_TOKENS = (
    "0 -0 1 1.0 -1 01 1. 1e3 2147483647 2147483648 -2147483648 2147483648.0 1e31 1e999 4294967296"
    ' 4294967297 true null "x" "" "1.0" "latent" "read" "inner" "__proto__" "constructor" "\\u0041"'
    " [] {} [null] , NaN -Infinity "
)


def bound(stages: dict[str, Any]) -> set[str]:
    return {
        binding[0]
        for stage in stages.values()
        for part in stage["segments"]
        for dispatch in part["dispatches"]
        for binding in dispatch["bindings"]
        if binding and binding[0] not in stage["tensors"]
    }


def accepts(text: str) -> bool:
    try:
        read_plan(text)
    except PlanError:
        return False
    return True


def test_deep_and_damaged_texts_are_refused(engine) -> None:
    body = """
    const texts = ['[' + '['.repeat(200) + ']'.repeat(201), '{"format": "p2pweb-plan", }',
      new Uint8Array([0x7b, 0xff, 0x7d]), new TextEncoder().encode('\\ufeff{}'),
      new Uint8Array(8 * 2 ** 20 + 1), '"' + '\\\\"'.repeat(2 ** 20), '"a\\nb"', '{"a" 1}',
      '{} {}'];
    return texts.map((text) => {
      try { m.readPlan(text); return 'read'; } catch (error) { return error.name; }
    });
    """
    assert engine("plan", body) == ["PlanError"] * 9


# Constants -------------------------------------------------------------------------------------
def test_constants_are_written_as_the_same_kind_and_value(engine) -> None:
    """`1` and `1.0` are two things to WGSL."""
    values = [True, False, 0, 1, -7, 2**31 - 1, 0.0, 1.0, -1.0, 0.125, 1e-06, 1e-12, 1 / 3, 50.0,
              1e21, 1e29, 16777217.0, 5e-324, -2.5e-9]  # fmt: skip
    body = """
    const { literal } = await import('/static/js/engine/shaders.js');
    return m.readJson(args[0]).map(literal);
    """
    found = engine("json", body, json.dumps(values))
    for value, ours in zip(values, found, strict=True):
        if isinstance(value, float):
            assert re.fullmatch(r"-?\d+(\.\d+|(\.\d+)?e[-+]?\d+)", ours), ours
            assert float(ours) == float(literal(value))
        else:
            assert ours == literal(value)


# Sizes -----------------------------------------------------------------------------------------
SIZES: list[dict[str, int]] = [
    {"B": 2, "T": 9, "S": 4, "H": 8, "W": 12, "A": 0, "O": 8},
    {"B": 1, "T": 0, "S": 100, "H": 30, "W": 2, "A": 29, "O": 1},
    {"B": 2, "T": 77, "S": 28, "H": 32, "W": 24, "A": 5, "O": 7},
]


def test_sizes_workgroups_and_memory_are_pythons(engine, plan: Plan) -> None:
    body = """
    const { readPlan } = await import('/static/js/engine/plan.js');
    const plan = readPlan(args[0]);
    return args[1].map((given) => {
      const symbols = m.symbolValues(plan, given);
      const stages = [...plan.stages].map(([name, stage]) => {
        const dispatches = stage.segments.flatMap(({ dispatches }) => dispatches);
        const sizes = dispatches.map((dispatch) => m.dispatchSizes(dispatch, symbols));
        const { weights, pool, shared, binding, total } = m.stageMemory(plan, name, symbols);
        return [
          sizes.map((each) => [...each]),
          dispatches.map((each, index) => m.dispatchWorkgroups(each, sizes[index], symbols)),
          [...stage.tensors.keys()].map((tensor) =>
            [m.tensorShape(stage, tensor, symbols), m.tensorBytes(stage, tensor, symbols)]),
          [...m.poolBytes(stage, symbols)],
          [weights, pool, shared, binding, total],
        ];
      });
      return [[...symbols], stages];
    });
    """
    found = engine("sizes", body, write_plan(plan), SIZES)
    for given, (symbols, stages) in zip(SIZES, found, strict=True):
        expected = symbol_values(plan, given)
        assert symbols == [list(item) for item in expected.items()]
        for ours, (name, stage) in zip(stages, plan.stages.items(), strict=True):
            parts = [each for segment in stage.segments for each in segment.dispatches]
            sizes = [dispatch_sizes(each, expected) for each in parts]
            planned = memory(plan, name, expected)
            assert ours == [
                [[list(item) for item in each.items()] for each in sizes],
                [
                    list(dispatch_workgroups(each, values, expected))
                    for each, values in zip(parts, sizes, strict=True)
                ],
                [
                    [
                        list(tensor_shape(stage, tensor, expected)),
                        tensor_bytes(stage, tensor, expected),
                    ]
                    for tensor in stage.tensors
                ],
                [list(item) for item in pool_bytes(stage, expected).items()],
                [planned.weights, planned.pool, planned.shared, planned.binding, planned.total],
            ]


@pytest.mark.parametrize(
    "changes",
    [
        {"H": 7},
        {"H": 0},
        {"H": 10**6},
        {"B": 3},
        {"T": -1},
        {"L": 24},
        {"Z": 1},
        {"B": 1.5},
        {"A": 1},
        {"O": 0},
        {"O": 9},
        {"U": 0},
    ],
    ids=str,
)
def test_sizes_that_the_plan_does_not_serve_are_refused(
    engine, plan: Plan, changes: dict[str, float]
) -> None:
    body = """
    const { readPlan } = await import('/static/js/engine/plan.js');
    const { PlanError } = await import('/static/js/engine/errors.js');
    try {
      m.symbolValues(readPlan(args[0]), args[1]);
    } catch (error) {
      return error instanceof PlanError;
    }
    """
    assert engine("sizes", body, write_plan(plan), SIZES[0] | changes) is True


def test_what_is_only_too_large_at_some_size_is_refused_there(engine, plan: Plan) -> None:
    document = json.loads(write_plan(plan))
    dispatch = document["stages"]["denoise"]["segments"][1]["dispatches"][1]
    dispatch["sizes"]["rows"] = "B * L * 4000000000"
    dispatch["workgroups"][0] = "L * 65535"
    document["stages"]["denoise"]["tensors"]["hidden"]["shape"] = ["L * 4000000000"]
    body = """
    const { readPlan } = await import('/static/js/engine/plan.js');
    const plan = readPlan(args[0]);
    const symbols = m.symbolValues(plan, args[1]);
    const stage = plan.stages.get('denoise');
    const dispatch = stage.segments[1].dispatches[1];
    return [
      () => m.dispatchSizes(dispatch, symbols),
      () => m.dispatchWorkgroups(dispatch, new Map([['rows', 1], ['columns', 1]]), symbols),
      () => m.tensorBytes(stage, 'hidden', symbols),
    ].map((call) => { try { call(); } catch (error) { return error.name; } });
    """
    assert engine("sizes", body, json.dumps(document), SIZES[0]) == ["PlanError"] * 3
