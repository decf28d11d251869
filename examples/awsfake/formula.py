"""CloudWatch's metric math, the part that alarms of ours use. What is not known is refused, never
answered with nothing.

A series is {start of period: value}; where operands have no value at a time, the result has none.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence

Series = Mapping[int, float]
Value = Series | float

TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?)|([A-Za-z_]\w*)|(>=|<=|==|!=|&&|\|\||[-+*/^()<>,]))")

BINARY: list[dict[str, Callable[[float, float], float]]] = [
    {"||": lambda a, b: float(bool(a) or bool(b)), "OR": lambda a, b: float(bool(a) or bool(b))},
    {"&&": lambda a, b: float(bool(a) and bool(b)), "AND": lambda a, b: float(bool(a) and bool(b))},
    {
        ">=": lambda a, b: float(a >= b),
        "<=": lambda a, b: float(a <= b),
        ">": lambda a, b: float(a > b),
        "<": lambda a, b: float(a < b),
        "==": lambda a, b: float(a == b),
        "!=": lambda a, b: float(a != b),
    },
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": lambda a, b: a / b if b else float("nan")},
]
"""From what binds least to what binds most."""


class BadFormula(ValueError):
    """An expression that this double does not understand."""


def calculate(expression: str, named: Mapping[str, Series], times: Sequence[int]) -> Series:
    """Return the value of an expression at each time. Raises BadFormula."""
    reader = _Reader(_tokens(expression), named, times)
    value = reader.level(0)
    if reader.tokens:
        raise BadFormula(f"{expression}: not understood from {reader.tokens[0]!r} on")
    if isinstance(value, float):
        raise BadFormula(f"{expression}: it is a number, and no time series")
    # A division by zero leaves no data point.
    return {at: each for at, each in value.items() if each == each}  # noqa: PLR0124 (no NaN)


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    text = expression.rstrip()
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise BadFormula(f"{expression}: not understood at {text[at:]!r}")
        tokens.append(next(filter(None, found.groups())))
        at = found.end()
    return tokens


class _Reader:
    def __init__(
        self, tokens: list[str], named: Mapping[str, Series], times: Sequence[int]
    ) -> None:
        self.tokens = tokens
        self._named = named
        self._times = times
        self._functions: dict[str, Callable[[list[Value]], Value]] = {
            "FILL": self._fill,
            "IF": self._if,
            "ABS": lambda given: self._each(abs, given),
            "MIN": lambda given: self._each(min, given),
            "MAX": lambda given: self._each(max, given),
            "SUM": lambda given: self._each(lambda *all_: sum(all_), given),
        }

    def level(self, depth: int) -> Value:
        if depth == len(BINARY):
            return self._sign()
        value = self.level(depth + 1)
        while self.tokens and self.tokens[0] in BINARY[depth]:
            work = BINARY[depth][self.tokens.pop(0)]
            value = self._each(work, [value, self.level(depth + 1)])
        return value

    def _sign(self) -> Value:
        if self.tokens and self.tokens[0] == "-":
            self.tokens.pop(0)
            return self._each(operator.neg, [self._sign()])
        return self._atom()

    def _atom(self) -> Value:
        if not self.tokens:
            raise BadFormula("it ends too early")
        token = self.tokens.pop(0)
        if token == "(":  # noqa: S105 (no password)
            value = self.level(0)
            self._take(")")
            return value
        if token[0].isdigit():
            return float(token)
        if token in self._functions:
            self._take("(")
            given = [self.level(0)]
            while self.tokens and self.tokens[0] == ",":
                self.tokens.pop(0)
                given.append(self.level(0))
            self._take(")")
            return self._functions[token](given)
        if token in self._named:
            return self._named[token]
        raise BadFormula(f"{token!r} is no metric of it, and no function that is known here")

    def _take(self, token: str) -> None:
        if not self.tokens or self.tokens.pop(0) != token:
            raise BadFormula(f"{token!r} is missing")

    def _each(self, work: Callable[..., float], given: Sequence[Value]) -> Value:
        series = [value for value in given if not isinstance(value, float)]
        if not series:
            return float(work(*given))
        times = set(series[0]).intersection(*series[1:])
        return {
            at: float(work(*(value if isinstance(value, float) else value[at] for value in given)))
            for at in sorted(times)
        }

    def _fill(self, given: list[Value]) -> Value:
        series, number = (*given, None, None)[:2]
        if len(given) != 2 or isinstance(series, float | None) or not isinstance(number, float):
            raise BadFormula("FILL is known here with a metric and a number")
        return {at: series.get(at, number) for at in self._times}

    def _if(self, given: list[Value]) -> Value:
        if len(given) != 3 or isinstance(given[0], float):
            raise BadFormula("IF is known here with a series and two more")
        found: dict[int, float] = {}
        for at, true in given[0].items():
            chosen = given[1] if true else given[2]
            if isinstance(chosen, float):
                found[at] = chosen
            elif at in chosen:
                found[at] = chosen[at]
        return found
