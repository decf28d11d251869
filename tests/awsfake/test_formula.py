"""Metric math, as far as the double knows it."""

from __future__ import annotations

import pytest

from examples.awsfake.formula import BadFormula, calculate

TIMES = [0, 60, 120]
NAMED = {"errors": {60: 3.0}, "requests": {0: 100.0, 60: 100.0}, "zero": {0: 0.0}, "none": {}}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("requests", {0: 100.0, 60: 100.0}),
        ("100 * errors / requests", {60: 3.0}),
        ("100*FILL(errors,0)/requests", {0: 0.0, 60: 3.0}),
        ("FILL(none, 0)", {0: 0.0, 60: 0.0, 120: 0.0}),
        ("requests / zero", {}),
        ("requests - 10 * 2 + -5", {0: 75.0, 60: 75.0}),
        ("(requests - 10) * 2", {0: 180.0, 60: 180.0}),
        ("IF(FILL(requests, 0) >= 20, 100 * FILL(errors, 0) / requests, 0)", {0: 0, 60: 3, 120: 0}),
        ("IF(requests > 50 AND requests < 60, 1, 2)", {0: 2.0, 60: 2.0}),
        ("MAX(requests, 120)", {0: 120.0, 60: 120.0}),
    ],
)
def test_what_is_known(expression, expected):
    assert calculate(expression, NAMED, TIMES) == expected


@pytest.mark.parametrize(
    "expression",
    ["", "gone", "100 *", "1 + 2", "RATE(requests)", "FILL(requests, REPEAT)", "a ? b"],
)
def test_what_is_not_known_is_refused(expression):
    with pytest.raises(BadFormula):
        calculate(expression, NAMED, TIMES)
