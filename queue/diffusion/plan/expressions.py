"""Whole-number expressions of a plan: `ceildiv(B * L, TILE_M)`.

    sum      = product { ("+" | "-") product }
    product  = value { ("*" | "//" | "%") value }
    value    = number | name | function "(" sum { "," sum } ")" | "(" sum ")"
    function = "min" | "max" | "ceildiv"

Read by a small parser, never by eval. All values, those in between too, are 0..2^48, so that
JavaScript's numbers compute the same.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_LENGTH: Final = 200
MAX_DEPTH: Final = 16
MAX_VALUE: Final = 2**48
_TOKEN: Final = re.compile(r" *([0-9]{1,15}|[A-Za-z][A-Za-z0-9_]{0,39}|//|[-+*%(),])")

Names = Mapping[str, int]
Expression = Callable[[Names], int]


class PlanError(ValueError):
    """Not a plan that may be run; the message says where and why."""


class ExpressionError(PlanError):
    """No expression of this grammar, or one without a value; the message holds its text."""


def evaluate(text: str | int, names: Names) -> int:
    """The value of `text` with `names`. Raises ExpressionError."""
    if isinstance(text, int):
        return _bounded(text, str(text))
    return parse(text)(names)


@lru_cache(maxsize=8192)
def parse(text: str) -> Expression:
    """A function from the values of the names to the value of `text`. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression of {len(text)} characters")
    parser = _Parser(text)
    return parser.whole()


@dataclass
class _Parser:
    text: str
    place: int = 0
    depth: int = 0

    def whole(self) -> Expression:
        value = self.sum()
        if self.text[self.place :].strip(" "):
            raise self.error()
        return value

    def sum(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"{self.text!r} is nested too deeply")
        value = self.product()
        while (operator := self.peek()) in ("+", "-"):
            self.take()
            value = self.joined(operator, value, self.product())
        self.depth -= 1
        return value

    def product(self) -> Expression:
        value = self.value()
        while (operator := self.peek()) in ("*", "//", "%"):
            self.take()
            value = self.joined(operator, value, self.value())
        return value

    def value(self) -> Expression:
        word = self.take()
        if word == "(":
            inner = self.sum()
            self.expect(")")
            return inner
        if word.isdigit():
            number = _bounded(int(word), self.text)
            return lambda names: number
        if not word[:1].isalpha():
            raise self.error()
        if self.peek() == "(":
            return self.call(word)
        return self.name(word)

    def call(self, function: str) -> Expression:
        self.take()
        arguments = [self.sum()]
        while self.peek() == ",":
            self.take()
            arguments.append(self.sum())
        self.expect(")")
        if function == "ceildiv" and len(arguments) == 2:
            return self.joined(function, *arguments)
        if function == "min":
            return lambda names: min(argument(names) for argument in arguments)
        if function == "max":
            return lambda names: max(argument(names) for argument in arguments)
        raise self.error()

    def name(self, name: str) -> Expression:
        text = self.text

        def look_up(names: Names) -> int:
            if name not in names:
                raise ExpressionError(f"{text!r}: {name} has no value")
            return _bounded(names[name], text)

        return look_up

    def joined(self, operator: str, left: Expression, right: Expression) -> Expression:
        text = self.text

        def apply(names: Names) -> int:
            first, second = left(names), right(names)
            if operator in ("//", "%", "ceildiv") and second == 0:
                raise ExpressionError(f"{text!r} divides by zero")
            return _bounded(_OPERATORS[operator](first, second), text)

        return apply

    def peek(self) -> str | None:
        match = _TOKEN.match(self.text, self.place)
        return match[1] if match else None

    def take(self) -> str:
        match = _TOKEN.match(self.text, self.place)
        if match is None:
            raise self.error()
        self.place = match.end()
        return match[1]

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise self.error()

    def error(self) -> ExpressionError:
        return ExpressionError(f"{self.text!r} is no expression (at {self.place})")


_OPERATORS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "+": lambda first, second: first + second,
    "-": lambda first, second: first - second,
    "*": lambda first, second: first * second,
    "//": lambda first, second: first // second,
    "%": lambda first, second: first % second,
    "ceildiv": lambda first, second: -(-first // second),
}


def _bounded(value: int, text: str) -> int:
    if not 0 <= value <= MAX_VALUE:
        raise ExpressionError(f"{text!r} leaves 0..2^48")
    return value
