"""Expressions of a plan: what they are worth, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion.plan.expressions import ExpressionError, evaluate

NAMES = {"B": 2, "L": 300, "TILE_M": 128, "rows": 7}

# tests/js/engine/test_plan.py has the browser's reader judge the same ones
VALUES: list[tuple[str | int, int]] = [
    ("0", 0),
    ("B", 2),
    ("1 + 2 * 3", 7),
    ("(1 + 2) * 3", 9),
    ("10 - 2 - 3", 5),
    ("100 // 7 // 2", 7),
    ("100 % 7 * 2", 4),
    ("ceildiv(B * L, TILE_M)", 5),
    ("ceildiv(0, 9)", 0),
    ("min(rows, 65535)", 7),
    ("max(1, 2, max(3, B))", 3),
    (" B*L ", 600),
    (5, 5),
]

NO_EXPRESSIONS = [
    "",
    " ",
    "1 +",
    "+ 1",
    "-1",
    "1 2",
    "B L",
    "(1",
    "1)",
    "1.5",
    "1e3",
    "0x10",
    "2 ** 9",
    "1 / 2",
    "min()",
    "min(1,)",
    "ceildiv(1)",
    "ceildiv(1, 2, 3)",
    "eval(1)",
    "__import__",
    "B.bit_length",
    "B[0]",
    "lambda: 1",
    "unknown",
    "1 // 0",
    "1 % 0",
    "ceildiv(1, 0)",
    "1 - 2",
    "999999999999999 * 999999999999999",
    "9999999999999999",
    "(" * 17 + "1" + ")" * 17,
    "1" + " + 1" * 100,
    "\u0661",  # a digit, but not one of ours
    "1 # comment",
    "1;2",
    "1\t+ 1",
    "1\u00a0+ 1",
    "\ufeff1",
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_an_expression_has_a_value(text: str | int, value: int) -> None:
    assert evaluate(text, NAMES) == value


@pytest.mark.parametrize("text", NO_EXPRESSIONS)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text, NAMES)


@given(st.text(alphabet="BLmaxineildv()+-*/%, 0123456789", max_size=60))
def test_nothing_but_a_value_or_a_refusal_comes_out(text: str) -> None:
    try:
        value = evaluate(text, NAMES)
    except ExpressionError:
        return
    assert isinstance(value, int)
    assert 0 <= value <= 2**48
